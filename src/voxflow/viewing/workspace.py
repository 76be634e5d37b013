"""Finds the cases of a workspace that a viewer shows: those that were judged, the worst first, then those inferred."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import read_json_or_none
from voxflow.images import find_channel_modalities, read_channel_rules, read_ignore, read_regions
from voxflow.naming import name_classes
from voxflow.tables import FINDING_PREFIX, LABELLED, read_rows
from voxflow.viewing.cases import LABEL, PREDICTION, ViewerCase, ViewerLayer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from voxflow.tables import Row


@dataclass(frozen=True)
class ConvertedCases:
    """What the stage convert made, as a viewer takes it.

    Attributes:
        folder: holds cases.csv, and the files that it names.
        rows: of cases.csv, by case.
        classes: label values by class.
        channels: the rule of each channel by its name; empty where a case has one.
        ignore: the label's value of voxels that nobody labelled.
    """

    folder: Path
    rows: Mapping[str, Row]
    classes: Mapping[str, tuple[int, ...]]
    channels: Mapping[str, Mapping[str, Any]]
    ignore: int | None = None

    @classmethod
    def read(cls, folder: Path) -> ConvertedCases:
        """Read the tables of a folder that convert made.

        Raises:
            DataError: it has no cases.csv, or one of its tables has another form.
        """
        rows = read_rows(folder / "cases.csv")
        if rows is None:
            raise DataError("file not found; run the stage convert first", path=folder / "cases.csv")
        return cls(
            folder,
            {row["case"]: row for row in rows},
            read_classes(folder),
            read_channel_rules(folder),
            read_ignore(folder),
        )

    def open_case(
        self, case: str, masks: Mapping[str, Path] | None = None, facts: Mapping[str, str] | None = None
    ) -> ViewerCase:
        """Describe one case for the viewer: its images, its label, and masks that others drew.

        Args:
            case: its id in cases.csv.
            masks: further masks by name, such as {"prediction": path}.
            facts: what else the page says of it.

        Raises:
            DataError: cases.csv does not have it.
        """
        row = self.rows.get(case)
        if row is None:
            raise DataError(f"no case {case!r}", path=self.folder / "cases.csv")
        layers = {LABEL: self.folder / row["label"]} if row.get("label") else {}
        images = tuple(self.folder / part.strip() for part in row["image"].split(";"))
        modality = row.get("modality", "")
        by_channel = find_channel_modalities(self.channels, modality)
        units = (row.get("units") or "").split(";")
        return ViewerCase(
            id=case,
            images=images,
            layers=tuple(ViewerLayer(name, path) for name, path in (layers | dict(masks or {})).items()),
            channels=tuple(self.channels) or ((modality,) if modality and len(images) == 1 else ()),
            modalities=tuple(by_channel.values()) or (modality,),
            units=tuple(units if len(units) == max(1, len(self.channels)) else units * len(self.channels)),
            classes=self.classes,
            ignore=self.ignore,
            labelled=name_classes(row[LABELLED].split(";")) if row.get(LABELLED) else None,
            facts=facts or {},
        )


def read_classes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Read the label values of each class, without the background.

    Args:
        folder: holds labels.json, and case_form.json where classes overlap.
    """
    regions = read_regions(folder)
    content = read_json_or_none(folder / "labels.json")
    if regions or not isinstance(content, dict):
        return regions
    named = {int(value): str(name) for value, name in content.items() if str(value).isdigit() and int(value)}
    values = sorted(named)
    names = name_classes([named[value] for value in values])
    return {name: (value,) for name, value in zip(names, values, strict=True)}


def list_workspace_cases(volumes: Path, evaluation: Path, most: int) -> list[ViewerCase]:
    """List the cases of a workspace that a model has answered.

    Args:
        volumes: what the stage convert made.
        evaluation: holds test/ and infer/, as the stages evaluate and infer left them.
        most: no more cases with a label than so many, and half as many without one.

    Returns:
        The cases with a label, that with the lowest Dice first, then those without one.

    Raises:
        DataError: the tables of ``volumes`` are missing or have another form.
    """
    converted = ConvertedCases.read(volumes)
    judged = list(islice(_list_judged(converted, evaluation / "test"), most))
    inferred = list(islice(_list_inferred(converted, evaluation / "infer"), most // 2))
    return judged + inferred


def _list_judged(converted: ConvertedCases, test: Path) -> Iterator[ViewerCase]:
    for row in sorted(read_rows(test / "per_case.csv") or [], key=_rank):
        case = row.get("case", "")
        mask = test / "masks" / f"{case}.nii.gz"
        probabilities = {name: value for name, value in row.items() if name.startswith("probability_") and value}
        if case in converted.rows and (mask.is_file() or probabilities):
            masks = {PREDICTION: mask} if mask.is_file() else {}
            yield converted.open_case(case, masks, _list_findings(row, probabilities))


def _list_inferred(converted: ConvertedCases, infer: Path) -> Iterator[ViewerCase]:
    # Where cases were sorted, those that a person should look at come first.
    order = {row.get("case"): number for number, row in enumerate(read_rows(infer / "review.csv") or [])}
    folders = sorted(infer.iterdir()) if infer.is_dir() else []
    for folder in sorted(folders, key=lambda folder: order.get(folder.name, len(order))):
        mask = folder / f"{folder.name}.nii.gz"
        if mask.is_file() and folder.name in converted.rows:
            yield converted.open_case(folder.name, {PREDICTION: mask})


def find_case(case: str, workspaces: Iterable[tuple[Path, Path]]) -> ViewerCase | None:
    """Find a case by its id among workspaces, with the masks that their models made of it.

    Args:
        case: its pseudonym.
        workspaces: folder of the converted volumes and of the evaluation, of each.
    """
    for volumes, evaluation in workspaces:
        if not (volumes / "cases.csv").is_file():
            continue
        converted = ConvertedCases.read(volumes)
        if case in converted.rows:
            places = (evaluation / f"test/masks/{case}.nii.gz", evaluation / f"infer/{case}/{case}.nii.gz")
            mask = next((place for place in places if place.is_file()), None)
            return converted.open_case(case, {PREDICTION: mask} if mask else {})
    return None


def _rank(row: Row) -> float:
    """The lowest Dice first, and undefined ones before it; of findings the probability farthest from the truth."""
    if "mean_dice" in row:
        return _to_number(row["mean_dice"], -1.0)
    names = [name.removeprefix("probability_") for name in row if name.startswith("probability_")]
    errors = [abs(_to_number(row.get(n), 0.0) - _to_number(row[f"probability_{n}"], 0.0)) for n in names]
    return -max(errors, default=0.0)


def _to_number(text: str | None, default: float) -> float:
    try:
        return float(text or "nan") if text else default
    except ValueError:
        return default


def _list_findings(row: Row, probabilities: Mapping[str, str]) -> dict[str, str]:
    """What a radiograph shows, and what the model says of it."""
    facts = {}
    for column, value in probabilities.items():
        name = column.removeprefix("probability_")
        truth = {"1": "present", "0": "absent"}.get(str(row.get(name, "")).removesuffix(".0"), "unknown")
        facts[name.removeprefix(FINDING_PREFIX)] = f"{truth}; probability {_to_number(value, 0.0):.2f}"
    return facts
