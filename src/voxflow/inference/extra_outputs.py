"""What `extra_outputs` adds to a mask: RTSTRUCT, Structured Report, surfaces, statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.colours import pick_class_colour
from voxflow.errors import InputError
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.inference.cases import read_volumes
from voxflow.inference.statistics import (
    TABLES,
    MeasuredChannel,
    has_radiomics,
    measure_classes,
    write_statistics_tables,
)
from voxflow.naming import name_files
from voxflow.prediction import class_values, label_names
from voxflow.progress import say
from voxflow.volumes import LabelBoxes, name_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from voxflow.inference.cases import Failures, InferenceCase
    from voxflow.spec import ModelSpec
    from voxflow.volumes import Surface, Volume

ExtraOutput = Literal["rtstruct", "sr", "stl", "glb", "statistics", "radiomics"]
FROM_DICOM = ("rtstruct", "sr")
_TITLES = {"rtstruct": "RTSTRUCT", "sr": "Structured Report"}


def announce_extra_outputs(cases: Sequence[InferenceCase], spec: ModelSpec, kinds: Collection[ExtraOutput]) -> None:
    """Say once, before the work, which of the outputs that are asked for there will not be.

    Args:
        cases: all.
        spec: of the model.
        kinds: what is asked for.
    """
    if not kinds:
        return
    if spec.task != "segmentation":
        say(f"warning: extra_outputs ({', '.join(kinds)}) are made of masks, and the model makes none")
        return
    titles = " and no ".join(_TITLES[kind] for kind in FROM_DICOM if kind in kinds)
    lacking = [case.id for case in cases if not case.find_source(spec)]
    if titles and lacking:
        say(f"warning: {len(lacking)} of {len(cases)} cases are no DICOM, so they get no {titles}: {lacking[0]} first")
    if "radiomics" in kinds and not has_radiomics():
        say("warning: PyRadiomics is not installed (pip install pyradiomics): statistics come without its features")


@dataclass(frozen=True)
class ExtraOutputs:
    """Writes the extra outputs of cases.

    Attributes:
        kinds: what is written.
        spec: of the model.
        out: the folder of the results.
        failures: gets what could not be written, by case.
    """

    kinds: tuple[ExtraOutput, ...]
    spec: ModelSpec
    out: Path
    failures: Failures

    def write(
        self,
        case: InferenceCase,
        mask: Volume,
        image: Volume | None = None,
        *,
        keep: bool = False,
        description: str = "",
    ) -> None:
        """Write everything of one case that is asked for.

        Args:
            case: the case.
            mask: its mask.
            image: its one image, where it is read already.
            keep: leave what is there as it is.
            description: what RTSTRUCT and Structured Report say of the mask.

        Raises:
            OSError: a file could not be written.
        """
        if not self.kinds or (keep and all(path.is_file() for path in self._list_needed(case, mask))):
            return
        rows: list[dict[str, Any]] | None = None
        if {"statistics", "radiomics", "sr"} & set(self.kinds):
            rows = self.failures.attempt(case, lambda: self._measure(case, mask, image))
        if {"stl", "glb"} & set(self.kinds):
            self.failures.attempt(case, lambda: self._write_surfaces(case, mask))
        if not case.find_source(self.spec):
            return
        if "rtstruct" in self.kinds:
            self._write_dicom(case, "rtstruct", lambda path: self._write_structure_set(case, mask, path, description))
        if "sr" in self.kinds and rows:
            self._write_dicom(case, "sr", lambda path: self._write_report(case, rows, path, description))

    def remove(self, case: InferenceCase) -> None:
        """Remove what an earlier mask of a case had, before another mask takes its place."""
        names = ["_rtstruct.dcm", "_sr.dcm", "_statistics.json", ".glb", *map(_name_stl, self._name_classes().values())]
        for name in names:
            self._path(case, name).unlink(missing_ok=True)

    def write_tables(self, cases: Sequence[InferenceCase]) -> None:
        """Join the statistics of cases to tables, or remove those of an earlier run.

        Args:
            cases: all that have a mask, in order.
        """
        if {"statistics", "radiomics"} & set(self.kinds):
            write_statistics_tables(self.out, [self._path(case, "_statistics.json") for case in cases])
        else:
            for name in TABLES:
                (self.out / name).unlink(missing_ok=True)

    def _path(self, case: InferenceCase, ending: str) -> Path:
        return self.out / case.id / f"{case.id}{ending}"

    def _list_needed(self, case: InferenceCase, mask: Volume) -> Iterator[Path]:
        """The files that a finished case has."""
        if {"statistics", "radiomics"} & set(self.kinds):
            yield self._path(case, "_statistics.json")
        for kind in FROM_DICOM:
            if kind in self.kinds and case.find_source(self.spec):
                yield self._path(case, f"_{kind}.dcm")
        if not {"stl", "glb"} & set(self.kinds):
            return
        present, files = set(np.unique(mask.array).tolist()), self._name_classes()
        classes = [name for name, values in class_values(self.spec).items() if present & set(values)]
        if "stl" in self.kinds:
            yield from (self._path(case, _name_stl(files[name])) for name in classes)
        if "glb" in self.kinds and classes:
            yield self._path(case, ".glb")

    def _name_classes(self) -> dict[str, str]:
        return name_files(class_values(self.spec))

    def _measure(self, case: InferenceCase, mask: Volume, image: Volume | None) -> list[dict[str, Any]]:
        """Measure all classes; the rows are written where they are asked for."""
        spec = self.spec
        has_several = len(spec.channels) > 1 or spec.in_channels > 1
        images = read_volumes(case, spec) if image is None or has_several else [image]
        is_plain = len(images) == 1 and not spec.channels
        names = [""] if is_plain else [name_channel(spec.channels, n) for n in range(len(images))]
        units = _pick_units(case, len(images))
        channels = [
            MeasuredChannel(name, volume, unit) for name, volume, unit in zip(names, images, units, strict=True)
        ]
        radiomics = "radiomics" in self.kinds and has_radiomics()
        rows = measure_classes(mask, class_values(spec), channels, radiomics=radiomics)
        rows = [{"case": case.id, **row} for row in rows]
        if {"statistics", "radiomics"} & set(self.kinds):
            write_json(self._path(case, "_statistics.json"), rows)
        return rows

    def _write_surfaces(self, case: InferenceCase, mask: Volume) -> None:
        from voxflow.volumes import extract_surface, write_glb, write_stl

        files, boxes = self._name_classes(), LabelBoxes(mask.array)
        surfaces: dict[str, tuple[Surface, str]] = {}
        for number, (name, values) in enumerate(class_values(self.spec).items(), start=1):
            inside, box = boxes.cut(values)
            if not inside.any():
                continue
            corner = mask.geometry.affine.copy()
            corner[:3, 3] = mask.geometry.to_physical(np.array([part.start for part in box], np.float64))
            surface = extract_surface(inside, Geometry((inside.shape[0], inside.shape[1], inside.shape[2]), corner))
            surfaces[name] = (surface, pick_class_colour(number if self.spec.regions else values[0]))
            if "stl" in self.kinds:
                write_stl(self._path(case, _name_stl(files[name])), surface)
        if "glb" in self.kinds and surfaces:
            write_glb(self._path(case, ".glb"), surfaces)

    def _write_dicom(self, case: InferenceCase, kind: str, write: Callable[[Path], None]) -> None:
        attempt_dicom(self.failures, case, _TITLES[kind], self._path(case, f"_{kind}.dcm"), write)

    def _write_structure_set(self, case: InferenceCase, mask: Volume, path: Path, description: str) -> None:
        from voxflow.dicom import write_structure_set

        regions = class_values(self.spec) if self.spec.regions else None
        files = case.find_source(self.spec) or ()
        write_structure_set(path, mask, files, label_names(self.spec), regions=regions, description=description)

    def _write_report(self, case: InferenceCase, rows: list[dict[str, Any]], path: Path, description: str) -> None:
        from voxflow.dicom import SegmentMeasurements, write_measurement_report

        segmentation = self._path(case, "_seg.dcm")
        if not segmentation.is_file():
            raise InputError("it refers to the DICOM SEG, which could not be written")
        reference = self.spec.channels[self.spec.reference] if self.spec.channels else rows[0]["channel"]
        measurements = []
        for name in class_values(self.spec):
            class_rows = [row for row in rows if row["class"] == name]
            intensities = {row["unit"]: _pick_intensities(row) for row in _list_reported(class_rows, reference)}
            measurements.append(SegmentMeasurements(name, class_rows[0]["volume_ml"], intensities))
        files = case.find_source(self.spec) or ()
        write_measurement_report(path, segmentation, files, measurements, description=description)


def attempt_dicom(
    failures: Failures, case: InferenceCase, title: str, path: Path, write: Callable[[Path], None]
) -> None:
    """Write a DICOM object about a mask, or note why it could not be written.

    Args:
        failures: gets the reason, without what the images say of the patient.
        case: whose mask it is.
        title: what is written, for the reason.
        path: the file.
        write: writes it.

    Raises:
        OSError: the file could not be written.
    """

    def attempt() -> None:
        try:
            write(path)
        except Exception as error:
            # Nothing else can be written either; a source that is gone is this case's alone.
            if isinstance(error, OSError) and error.filename in (None, str(path)):
                raise
            raise InputError(f"the mask is there, its {title} is not: {_explain_dicom_error(error)}") from error

    failures.attempt(case, attempt)


def _explain_dicom_error(error: Exception) -> str:
    """Say what was wrong, without what a library quotes of the files' values, which may be a patient's."""
    if isinstance(error, OSError):
        return f"its DICOM files can't be read: {error.strerror}"
    if isinstance(error, (InputError, AttributeError)):  # the latter names an attribute that is missing
        return str(error)
    return f"its DICOM files have values that are not as DICOM asks for ({type(error).__name__})"


def list_extra_files(out: Path) -> list[Path]:
    """List the extra outputs of all cases in a folder of results, and their tables."""
    endings = ("_rtstruct.dcm", "_sr.dcm", ".stl", ".glb")
    files = [path for path in sorted(out.glob("*/*")) if path.name.endswith(endings)]
    return [*files, *(out / name for name in TABLES if (out / name).is_file())]


def _pick_units(case: InferenceCase, count: int) -> tuple[str, ...]:
    """The unit of each image that the model takes; empty texts where the table does not say it for each."""
    units = case.units * count if len(case.units) == 1 else case.units
    if len(case.units) > 1 and case.selection:
        units = tuple(case.units[n] for n in case.selection if n < len(case.units))
    return units if len(units) == count else ("",) * count


def _list_reported(rows: Sequence[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """Of one class, the rows whose intensities a report has: of the channel that the mask lies on, and SUV of others.

    A report does not name the channel, so SUV that two channels have is no other channel's but the mask's own.
    """
    units = [row["unit"] for row in rows]
    return [
        row
        for row in rows
        if "mean" in row
        and (row["channel"] == reference or (row["unit"].startswith("SUV") and units.count(row["unit"]) == 1))
    ]


def _pick_intensities(row: dict[str, Any]) -> dict[str, float]:
    return {key: row[key] for key in ("mean", "std", "min", "max")}


def _name_stl(class_file: str) -> str:
    return f"_{class_file}.stl"
