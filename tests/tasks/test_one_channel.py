"""One DICOM series a case and classes that exclude each other: every file has the form that it had before channels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from pydicom.uid import MRImageStorage, generate_uid

from tests.dicom.objects import Series, save, seg
from tests.tasks.stage_runs import STAGES, run_stages
from voxflow.workspace import create_workspace

if TYPE_CHECKING:
    from pathlib import Path

# "mirrored" is of the template auto, which mirrors in training and inference; all others are of before.
SPEC = (
    "task in_channels class_names activation spacing_mm orientation extent interpolation antialias size preprocess "
    "window divisor overlap modality mirrored"
)
CASES = (
    "case,patient,modality,image,label,label_source,label_channels,study_uid,series_uid,volume,instance_uid,source,"
    "size,spacing_mm,orientation,units,remedy"
)
SCORES = ("dice", "jaccard", "surface_dice", "hd95_mm", "volume_error_ml")
TABLES = {
    "data/volumes/ws/cases.csv": CASES,
    "data/volumes/ws/conversion.csv": (
        "series,verdict,reason,modality,files,size,spacing_mm,orientation,units,study_uid,series_uid,case,source"
    ),
    "data/quality/ws/measurements.csv": (
        "case,patient,modality,readable,reason,size_i,size_j,size_k,spacing_i,spacing_j,spacing_k,finite,pixel_hash,"
        "minimum,maximum,percentile_1,percentile_99,deviation,channels_on_grid,label_on_grid,label_values,label_voxels"
    ),
    "data/resampled/ws/cases.csv": CASES,
    "data/datalists/ws/split.csv": "case,patient,part",
    "mmars/ws/models/curves.csv": ("epoch,train_loss,learning_rate,seconds,mean_dice,mean_dice_core,mean_dice_rim"),
    "mmars/ws/eval/test/per_case.csv": ",".join(
        ["case", "mean_dice", *(f"{score}_{name}" for name in ("core", "rim") for score in SCORES), "remark"]
    ),
    "mmars/ws/eval/infer/preds_outputs.csv": "case,image,mask,core_ml,rim_ml",
}
FILES = {
    "data/volumes/ws": "cases.csv conversion.csv conversion.json images labels labels.json",
    "data/resampled/ws": "cases.csv fingerprint.json images labels labels.json resample.json",
    "data/datalists/ws": "dataset_0.json split.csv",
    "mmars/ws/models/train": "events model.pt model_final.pt plan.json run.json",
}
KEYS = {
    "data/volumes/ws/conversion.json": (
        "series converted remedied quarantined skipped cases labelled patients copies findings_without_image "
        "other_files reasons"
    ),
    "data/resampled/ws/resample.json": (
        "spacing_mm orientation extent reference interpolation antialias label_interpolation size workers"
    ),
    "data/resampled/ws/fingerprint.json": "cases labelled modality size spacing_mm intensity classes",
    "data/datalists/ws/dataset_0.json": (
        "name description labels modality tensorImageSize numTraining numTest training validation testing inference"
    ),
    "data/metrics/ws/convert.json": ("series converted remedied quarantined skipped cases labelled patients"),
    "data/metrics/ws/validate.json": "cases checks failed",
}
CHECKS = {
    "critical": (
        "case is listed once; files can be read; pixels occur once; spacing along i in mm; spacing along j in mm; "
        "spacing along k in mm; voxels along i; voxels along j; voxels along k; channels share one grid; "
        "label lies on the image's grid; label values are known; values are finite; image is not constant"
    ),
    "warning": "label is not empty",
}


def write_patient(folder: Path, number: int) -> None:
    """An MR series with a bright ball in a grey one, and a DICOM SEG of both."""
    generator = np.random.default_rng(number)
    study, frame = generate_uid(), str(generate_uid())
    distance = np.sqrt(((np.indices((12, 16, 16)) - 6 - generator.uniform(0, 2, (3, 1, 1, 1))) ** 2).sum(0))
    masks = np.stack([(distance < 6) & (distance >= 3), distance < 3], axis=-1).astype(np.uint8)
    stored = (masks @ [500, 900] + generator.integers(100, 150, distance.shape)).astype(np.int16)
    changes = {"SOPClassUID": MRImageStorage, "Modality": "MR", "StudyInstanceUID": study, "RescaleIntercept": 0}
    series = Series(stored, patient=f"P{number}", frame=frame, changes=changes)
    series.write(folder / f"p{number}")
    save(seg(series, masks, ["rim", "core"]), folder / f"p{number}" / "seg.dcm")


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which all stages have run."""
    root = tmp_path_factory.mktemp("one")
    (root / "params.yaml").write_text("workspaces: {}\n")
    for number in range(6):
        write_patient(root / "raw", number)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        create_workspace("ws", root / "raw", "auto")
        block: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text())["workspaces"]["ws"]
        assert block["convert"] == {}
        block["convert"] = {"pseudonym_key": "k", "mapping": False, "workers": 1}
        block["split"] = {"seed": 7, "testing": 2, "validation": 1}
        block["train"] = {"plan": "auto", "set": {"epochs": 1, "num_training_epoch_per_valid": 1}}
        block["export"] = {"engines": ["torchscript"], "parity_cases": 1}
        block["infer"] = {"key": "testing", "dicom_seg": True}
        run_stages(STAGES, block, patch, "ws")
    return root


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_columns_of_before(stages: Path, name: str) -> None:
    assert (stages / name).read_text().splitlines()[0] == TABLES[name]


@pytest.mark.parametrize("name", FILES)
def test_folders_hold_the_files_of_before(stages: Path, name: str) -> None:
    assert sorted(path.name for path in (stages / name).iterdir()) == FILES[name].split()


@pytest.mark.parametrize("name", KEYS)
def test_files_have_the_keys_of_before(stages: Path, name: str) -> None:
    assert list(json.loads((stages / name).read_text())) == KEYS[name].split()


def test_cases_of_the_datalist_have_the_keys_of_before(stages: Path) -> None:
    datalist = json.loads((stages / "data/datalists/ws/dataset_0.json").read_text())
    assert [list(case) for case in datalist["training"]] == [["image", "label", "case", "patient"]] * 3
    assert all(isinstance(case["image"], str) for case in datalist["training"])
    assert (datalist["labels"], datalist["modality"]) == ({"0": "background", "1": "core", "2": "rim"}, {"0": "MR"})


@pytest.mark.parametrize("severity", CHECKS)
def test_checks_are_those_of_before(stages: Path, severity: str) -> None:
    checks = json.loads((stages / "data/quality/ws/report.json").read_text())["checks"]
    assert "; ".join(check["name"] for check in checks if check["severity"] == severity) == CHECKS[severity]


@pytest.mark.parametrize("name", ["model.pt", "model_final.pt"])
def test_specification_has_the_keys_of_before(stages: Path, name: str) -> None:
    import torch

    content = torch.load(stages / "mmars/ws/models/train" / name, weights_only=True)
    assert list(json.loads(content["spec"])) == SPEC.split()
