"""Exports an MMAR's checkpoint: writes the regular and the optimised model beside it, under Clara's names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.datalist import Datalist
from voxflow.engines import list_exported_kinds
from voxflow.errors import DataError, VoxflowError
from voxflow.export import ExportOptions, export_model
from voxflow.files import atomic_directory, write_json
from voxflow.inference import InferenceCase
from voxflow.mmar.artefacts import find_model
from voxflow.mmar.folder import find_repository
from voxflow.mmar.record import continue_record
from voxflow.mmar.train import DATA_FILE
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.datalist import Case
    from voxflow.engines import EngineKind
    from voxflow.export import ParityReport

PARITY_FILE = "{name}.parity.json"


@dataclass(frozen=True)
class ExportNames:
    """What the files are called.

    Attributes:
        name: the model's base name; "model" is the best, "model_final" the last.
        regular: what a regular export's name goes on with; an ending ".pb" has no meaning here and drops.
        optimised: the same for an optimised model.
    """

    name: str = "model"
    regular: str = ".fzn.pb"
    optimised: str = ".trt.pb"

    def file(self, kind: EngineKind) -> str:
        """Return the name of one engine's file, such as model.trt.xml."""
        middle = (self.optimised if kind.is_optimised else self.regular).removesuffix(".pb")
        return self.name + middle + kind.suffix


@dataclass(frozen=True)
class MmarExport:
    """What an export left.

    Attributes:
        files: the files that can be loaded, by engine.
        report: how each compares with torch.
    """

    files: dict[str, Path]
    report: ParityReport

    def summary(self) -> str:
        """One line for a person."""
        compared_on = (
            f"{self.report.cases} case(s)" if self.report.cases else "noise, since no case of the training was found"
        )
        names = ", ".join(path.name for path in self.files.values())
        left_out = f" ({', '.join(self.report.left_out)} left out)" if self.report.left_out else ""
        return f"{names} equal torch on {compared_on}{self.report.describe_reduced()}{left_out}"


def export_checkpoint(folder: Path, names: ExportNames, options: ExportOptions) -> MmarExport:
    """Export a checkpoint; a file that is not the same model is not kept.

    Args:
        folder: the models folder; gets the exported files and NAME.parity.json.
        names: which checkpoint, and how the files are called.
        options: formats and bounds.

    Raises:
        DataError: no such folder or checkpoint.
        ParityError: an engine differs from torch by more than its bound; the others are there.
        VoxflowError: the network can't be expressed in a format.
    """
    if not folder.is_dir():
        raise DataError("no such folder of models", path=folder)
    checkpoint = find_model(folder / f"{names.name}.ckpt")
    cases, calibration = _read_cases(folder, options)
    with continue_record(folder, find_repository(folder.absolute())) as tracker:
        scratch = folder / f".export-{names.name}"
        try:
            with atomic_directory(scratch) as out:
                report = _export(checkpoint, out, options, cases, calibration)
            files = {
                kind.name: path
                for kind in reversed(list_exported_kinds())
                if (path := _move_files(kind, scratch, folder, names))
            }
        finally:
            _remove_scratch(scratch)
        parity = folder / PARITY_FILE.format(name=names.name)
        write_json(parity, report.metrics())
        tracker.log_artifact(parity, "export")
        if "onnxruntime" in files and names.name == "model":
            tracker.log_model(files["onnxruntime"])
    report.require_published()
    return MmarExport(files, report)


def _export(
    checkpoint: Path,
    out: Path,
    options: ExportOptions,
    cases: list[InferenceCase],
    calibration: list[InferenceCase],
) -> ParityReport:
    try:
        return export_model(checkpoint, out, options, cases, calibration=calibration, on_noise=True)
    except DataError as error:
        # The cases serve the comparison only: images that moved or changed are no reason not to export.
        say(f"export: the training's cases can't be compared on: {str(error).splitlines()[0]}")
        for file in out.iterdir():
            file.unlink()
        return export_model(checkpoint, out, options, [], on_noise=True)


def _read_cases(folder: Path, options: ExportOptions) -> tuple[list[InferenceCase], list[InferenceCase]]:
    """Cases that the training read, as it noted them, to compare and to calibrate on; none that is gone."""
    try:
        noted = json.loads((folder / DATA_FILE).read_text(encoding="utf-8"))
        datalist = Datalist.read(Path(noted["datalist"]), Path(noted["root"]))
    except (OSError, ValueError, KeyError, TypeError, VoxflowError):
        return [], []
    cases = [case for key in (noted["key"], noted["training_key"]) for case in datalist.parts.get(key, ())]
    return _take_present(cases, options.parity_cases), _take_present(
        datalist.parts.get(noted["training_key"], ()), options.calibration_cases
    )


def _take_present(cases: Iterable[Case], count: int) -> list[InferenceCase]:
    present = [case for case in cases if all(path.is_file() for path in case.image)]
    return [InferenceCase(case.id, case.image) for case in present[:count]]


def _move_files(kind: EngineKind, scratch: Path, folder: Path, names: ExportNames) -> Path | None:
    """Bring one engine's files to their names; an older file of an engine that was not made now is removed."""
    # The engine's own file goes last: where it is, the files beside it are there too.
    file, target = scratch / kind.file, folder / names.file(kind)
    for source, place in zip((*kind.list_sidecars(file), file), (*kind.list_sidecars(target), target), strict=True):
        if source.is_file():
            source.replace(place)
        else:
            place.unlink(missing_ok=True)
    return target if target.is_file() else None


def _remove_scratch(scratch: Path) -> None:
    if scratch.is_dir():
        for file in scratch.iterdir():
            file.unlink()
        scratch.rmdir()
