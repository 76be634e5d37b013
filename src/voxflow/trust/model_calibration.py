"""The file trust.json: whether it is there, and what a calibration of masks or of radiographs names alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxflow.errors import DataError
from voxflow.files import read_text, write_json
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CALIBRATION_FILE = "trust.json"


class ModelCalibration(BaseModel):
    """What every calibration names: the model, how it was run, and how many cases were judged.

    Attributes:
        format: of the file.
        models: of each model that answers, the digest of each of its files by name.
        settings: options of the prediction that change an answer.
        part: the datalist's key that the cases stand under.
        cases: how many were judged.
        left_out: how many of them tell nothing, by the reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    models: tuple[dict[str, str], ...]
    settings: dict[str, Any]
    part: str
    cases: int = Field(ge=0)
    left_out: dict[str, int] = {}

    def match_models(self, models: Sequence[Mapping[str, str]]) -> tuple[int, ...] | None:
        """Find the number, from 0, that each model has in the calibration.

        Args:
            models: digests by name of files of each model, in any order.

        Returns:
            None where one is not in it, or twice.
        """
        numbers: list[int] = []
        for files in models:
            candidates = (
                n for n, model in enumerate(self.models) if n not in numbers and files.items() <= model.items()
            )
            number = next(candidates, None) if files else None
            if number is None:
                return None
            numbers.append(number)
        return tuple(numbers)

    def explain_other_model(self, models: Sequence[Mapping[str, str]]) -> str:
        """Say why it is not of these models; empty where it is.

        Args:
            models: digests by name of files of each model.
        """
        if len(models) != len(self.models):
            return f"the calibration is of {len(self.models)} model(s), not of {len(models)}"
        return "the calibration is of another model" if self.match_models(models) is None else ""

    def explain_other_use(self, models: Sequence[Mapping[str, str]], settings: Mapping[str, Any]) -> str:
        """Say why it is not of these models with these settings; empty where it is."""
        other_model = self.explain_other_model(models)
        different = [name for name in {**self.settings, **settings} if self.settings.get(name) != settings.get(name)]
        if other_model or not different:
            return other_model
        name = different[0]
        return f"calibrated with {name}: {self.settings.get(name)!r}, and run with {settings.get(name)!r}"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            DataError: the file is none.
            FileNotFoundError: there is none.
        """
        content = parse_json(read_text(path))
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(f"no calibration: {first['msg']}", path=path, where=place) from error

    def write(self, path: Path) -> None:
        """Write the file."""
        write_json(path, self.model_dump(mode="json"))


def leave_uncalibrated(folder: Path) -> None:
    """Write a file without a calibration, so that DVC can tell when an evaluation gets one, or loses it."""
    write_json(folder / CALIBRATION_FILE, {})


def has_calibration(path: Path) -> bool:
    """Whether a file is there, and not one of :func:`leave_uncalibrated`."""
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").strip() != "{}"
