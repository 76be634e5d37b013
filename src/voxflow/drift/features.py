"""Measures the features of studies, by patient: geometry, intensities, scanner, and what the model says of them.

A patient is the unit: several studies of one patient are alike, and would make a test far too sure. So a patient counts
once for each feature, by the middle of its studies' values.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom import PARSE_ERRORS, ConvertOptions, convert_folder, list_origins, read_dataset, scan_folder
from voxflow.drift.viewer import write_incoming_viewer
from voxflow.errors import DataError
from voxflow.quality import measure_cases
from voxflow.reporting import parse_number
from voxflow.tables import read_rows
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from voxflow.places import Places

Value = float | str

INTENSITY = ("percentile_1", "percentile_99", "deviation")
PIXELS = ("rows", "columns")
AXES = "ijk"
# Attributes that say how an image was made; none of them tells who the patient is, or where.
SCANNER = {
    "manufacturer": "Manufacturer",
    "scanner": "ManufacturerModelName",
    "kernel": "ConvolutionKernel",
    "tube_voltage_kv": "KVP",
    "field_strength_t": "MagneticFieldStrength",
}
LEARNED_FROM = ("training", "validation")
NOT_SCORES = ("case", "image", "mask")


@dataclass
class PatientFeatures:
    """Features of patients, one value each. A patient with several studies counts once, by the middle of their values.

    Attributes:
        features: by feature, then by patient; numbers are floats, categories text.
        viewer_cases: the cases that the viewer beside the drift page shows.
    """

    features: dict[str, dict[str, Value]] = field(default_factory=dict)
    viewer_cases: tuple[str, ...] = ()

    @property
    def patients(self) -> int:
        """How many patients have a value of at least one feature."""
        return len({patient for values in self.features.values() for patient in values})

    def add(self, rows: Iterable[tuple[str, Mapping[str, Value]]]) -> None:
        """Take in the features of studies.

        Args:
            rows: patient and features, a study each. Of several, numbers count by their median and text by the most
                frequent; a feature that the patient has from an earlier call is replaced.
        """
        gathered: dict[str, dict[str, list[Value]]] = defaultdict(lambda: defaultdict(list))
        for patient, values in rows:
            for name, value in values.items():
                gathered[name][patient].append(value)
        for name, by_patient in gathered.items():
            middles = {patient: _take_middle(values) for patient, values in by_patient.items()}
            self.features.setdefault(name, {}).update(middles)


def measure_training_set(places: Places) -> PatientFeatures:
    """Measure the cases that a workspace's model learned from, and what it predicted for those that it did not.

    Raises:
        DataError: the stages validate and split have not run.
    """
    measured, split = places.quality / "measurements.csv", places.datalists / "split.csv"
    for path, stage in ((measured, "validate"), (split, "split")):
        if not path.is_file():
            raise DataError(f"file not found; the stage {stage} writes it", path=path)
    learned = {row["case"] for row in read_rows(split) or [] if row["part"] in LEARNED_FROM}
    rows = [row for row in read_rows(measured) or [] if row["case"] in learned]
    sample = PatientFeatures()
    sample.add((row["patient"], _read_measurements(row)) for row in rows)
    sample.add(_read_scanners(places.source, places.volumes / "cases.csv", learned))
    sample.add(_read_test_predictions(places))
    return sample


def measure_incoming(
    folder: Path,
    places: Places,
    predictions: Path | None = None,
    *,
    page_folder: Path | None = None,
    most_viewed: int = 0,
) -> PatientFeatures:
    """Measure incoming studies.

    Args:
        folder: DICOM, NIfTI or PNG as a hospital sends it, converted here by the workspace's own options; or a folder
            that ``voxflow convert`` made, with cases.csv.
        places: the workspace.
        predictions: preds_outputs.csv of the same studies, where there is one.
        page_folder: of the drift page, beside which the viewer of the studies is written; None: there is no page.
        most_viewed: studies in that viewer; 0: none, and one of an earlier check is removed.

    Raises:
        DataError: nothing could be converted, or a table is missing.
    """
    sample = PatientFeatures()
    show = partial(write_incoming_viewer, folder=page_folder, most=most_viewed) if page_folder else None
    if (folder / "cases.csv").is_file():
        _add_converted(sample, folder, None)
        sample.viewer_cases = show(folder) if show else ()
    else:
        # No file that leads from pseudonyms back to patients, not even in a temporary folder.
        options = places.options_of("convert", ConvertOptions).without_table().model_copy(update={"mapping": False})
        with tempfile.TemporaryDirectory() as scratch:
            converted = Path(scratch) / "volumes"
            convert_folder(folder, converted, options)
            _add_converted(sample, converted, folder)
            sample.viewer_cases = show(converted) if show else ()
    if predictions is not None:
        rows = read_rows(predictions)
        if rows is None:
            raise DataError("file not found; the stage infer writes it", path=predictions)
        sample.add((_patient_of(row["case"]), _read_predictions(row)) for row in rows)
    return sample


def _add_converted(sample: PatientFeatures, converted: Path, source: Path | None) -> None:
    table = _read_cases(converted / "cases.csv")
    measured = measure_cases(table, converted)
    rows = [{str(name): _to_text(value) for name, value in row.items()} for row in measured.to_dict("records")]
    sample.add((row["patient"], _read_measurements(row)) for row in rows)
    if source is not None:
        sample.add(_read_scanners(source, converted / "cases.csv", set(table["case"])))


def _read_measurements(row: Mapping[str, str]) -> dict[str, Value]:
    numbers = {name: parse_number(row[name]) for name in row}
    features: dict[str, Value] = {"modality": row["modality"]} if row.get("modality") else {}
    # Of several channels, each has columns of its own; those of the whole case then say less.
    channels = {name.partition(":")[2] for name in row if name.startswith(f"{INTENSITY[0]}:")}
    for end in sorted(f":{channel}" for channel in channels) or [""]:
        for axis in AXES:
            spacing, size = numbers.get(f"spacing_{axis}{end}"), numbers.get(f"size_{axis}{end}")
            if spacing is not None and size is not None:
                features |= {f"spacing_{axis}_mm{end}": spacing, f"extent_{axis}_mm{end}": spacing * size}
        names = [f"{name}{end}" for name in (*PIXELS, *INTENSITY)]
        features |= {name: value for name in names if (value := numbers.get(name)) is not None}
    return features


def _read_scanners(source: Path, table: Path, cases: set[str]) -> list[tuple[str, dict[str, Value]]]:
    """Patient and scanner of every case that came from DICOM."""
    # Of several channels, the first: all of a study come from one scanner.
    patient_of = {
        origin.series_uid: row["patient"]
        for row in read_rows(table) or []
        if row["case"] in cases
        for origin in list_origins(row)[:1]
    }
    if not patient_of or not source.is_dir():
        return []
    # All slices of a series come from one scanner; reversed, so that its first file is the one that stays.
    first = {header.series_uid: header.path for header in reversed(scan_folder(source).headers)}
    files = [(patient, first[series]) for series, patient in patient_of.items() if series in first]
    return [(patient, features) for patient, path in files if (features := _read_scanner(path))]


def _read_scanner(path: Path) -> dict[str, Value]:
    try:
        dataset = read_dataset(path, tags=list(SCANNER.values()))
    except PARSE_ERRORS:
        return {}
    return {name: " ".join(str(dataset.get(tag) or "").split()) for name, tag in SCANNER.items()}


def _read_test_predictions(places: Places) -> list[tuple[str, dict[str, Value]]]:
    """Read what the model predicted for the cases that it never saw: volumes in ml, or probabilities."""
    rows = read_rows(places.evaluation / "test" / "preds_outputs.csv")
    if rows is not None:
        return [(_patient_of(row["case"]), _read_predictions(row)) for row in rows]
    names = _read_label_names(places.volumes / "labels.json")
    masks = sorted((places.evaluation / "test" / "masks").glob("*.nii.gz"))
    return (
        [(_patient_of(path.name.removesuffix(".nii.gz")), _measure_volumes(path, names)) for path in masks]
        if names
        else []
    )


def _measure_volumes(path: Path, names: Mapping[int, str]) -> dict[str, Value]:
    mask = read_volume(path)
    # Integers, since a mask may be stored as floats; a value without a name is counted and not reported.
    counts = np.bincount(mask.array.ravel().astype(np.int64), minlength=max(names) + 1)
    voxel_ml = float(np.prod(mask.geometry.spacing)) / 1000
    return {f"predicted_{name}_ml": float(counts[value] * voxel_ml) for value, name in names.items()}


def _read_label_names(path: Path) -> dict[int, str]:
    from voxflow.files import read_json_or_none

    content = read_json_or_none(path)
    by_value = {value: name for value, name in content.items() if value.isdigit()} if isinstance(content, dict) else {}
    return {int(value): str(name) for value, name in by_value.items() if int(value) > 0}


def _read_predictions(row: Mapping[str, str]) -> dict[str, Value]:
    return {
        f"predicted_{k}": v for k, text in row.items() if k not in NOT_SCORES and (v := parse_number(text)) is not None
    }


def _read_cases(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, dtype="str", keep_default_na=False)


def _patient_of(case: str) -> str:
    """The patient in a case's name, PATIENT_NUMBER."""
    return case.rpartition("_")[0] or case


def _take_middle(values: list[Value]) -> Value:
    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) == len(values):
        return float(statistics.median(numbers))
    return Counter(str(value) for value in values).most_common(1)[0][0]


def _to_text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)
