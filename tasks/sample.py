"""Write the synthetic patients of a demo workspace as real DICOM."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tasks.common.stage import Stage, main
from voxflow.errors import EXIT_OK
from voxflow.files import atomic_directory
from voxflow.findings import FindingCollector
from voxflow.places import PARAMS
from voxflow.progress import say
from voxflow.synthetic import write_abdominal_ct, write_brain_mr, write_chest_xray

if TYPE_CHECKING:
    from pathlib import Path


class AbdominalCt(BaseModel):
    """CT series with a spleen, labels as DICOM SEG and RTSTRUCT."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["abdominal_ct"]
    patients: int = 14
    seed: int = 0

    def write(self, folder: Path) -> None:
        """Write the patients."""
        write_abdominal_ct(folder, self.patients, self.seed)


class ChestXray(BaseModel):
    """Chest radiographs with a CSV of findings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["chest_xray"]
    images: int = Field(default=160, ge=1)
    seed: int = 0

    def write(self, folder: Path) -> None:
        """Write the images."""
        write_chest_xray(folder, self.images, self.seed)


class BrainMr(BaseModel):
    """MR studies of four contrasts with a tumour, three nested regions as DICOM SEG."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["brain_mr"]
    patients: int = 16
    seed: int = 0

    def write(self, folder: Path) -> None:
        """Write the patients."""
        write_brain_mr(folder, self.patients, self.seed)


Kind = AbdominalCt | BrainMr | ChestXray
KINDS: dict[str, type[BaseModel]] = {"abdominal_ct": AbdominalCt, "brain_mr": BrainMr, "chest_xray": ChestXray}
Sample = TypeAdapter[Kind](Annotated[Kind, Field(discriminator="kind")])


def run(stage: Stage) -> int:
    """Write data/raw/WS: one folder a patient, or all radiographs in one.

    Raises:
        ConfigError: the block of ``samples`` in params.yaml is wrong.
    """
    try:
        sample = Sample.validate_python(stage.block)
    except ValidationError as error:
        findings = FindingCollector(PARAMS)
        model = KINDS.get(str(stage.block.get("kind")))
        findings.add_validation(error, f"samples.{stage.workspace}", skip=1 if model else 0, model=model)
        findings.raise_errors(f"{error.error_count()} wrong parameter(s)")
        raise
    with atomic_directory(stage.raw) as folder:
        sample.write(folder)
        count = sum(1 for path in folder.rglob("*") if path.is_file())
    say(f"sample {stage.workspace}: {count} files → {stage.raw}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main("sample", run, key="samples"))
