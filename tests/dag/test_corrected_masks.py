"""Masks that a trained model wrote, corrected as in a viewer, come back and are trained on; nothing is stood in."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.corrections.clinic import edit
from tests.dag.repository import Repository
from tests.dicom.objects import Series, save, seg
from tests.pacs.orthanc import PASSWORD, Orthanc, running
from tests.training.conftest import volume_config
from voxflow.files import write_json
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Masks = dict[str, NDArray[np.bool_]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WORKSPACE = "clinic_ct"
SOURCE = Path("data/raw") / WORKSPACE
SHAPE = (16, 24, 24)  # slices, rows, columns
NAMES = ("liver", "spleen")
LABELLED, UNLABELLED, INCOMING = range(1, 8), (8, 9, 10), (11, 12, 13)
OF_TEST_PATIENT = 14
BLOCK: dict[str, Any] = {
    "task": "segmentation",
    "source": str(SOURCE),
    "convert": {"modalities": ["CT"], "pseudonym_key": "synthetic", "workers": 1},
    "validate": {},
    "resample": {"spacing_mm": [1.0, 1.5, 2.0], "orientation": "LPS"},
    "split": {"seed": 7, "testing": 2, "validation": 1},
    "train": {"threads": 1, "workers": 0},
    "export": {"engines": ["torchscript"], "parity_cases": 1},
    "evaluate": {},
    "infer": {"overlays": 0},
    "promote": {},
    "report": {},
}


def draw(number: int, patient: str = "") -> tuple[Series, NDArray[np.uint8]]:
    """A CT with two blocks of their own intensities, and their masks (slices, rows, columns, classes)."""
    generator = np.random.default_rng(number)
    z, y, x = (int(value) for value in generator.integers(0, 3, 3))
    masks = np.zeros((*SHAPE, 2), np.uint8)
    masks[3 + z : 11 + z, 3 + y : 11 + y, 4 + x : 11 + x, 0] = 1
    masks[4 + z : 10 + z, 14 + y : 20 + y, 13 + x : 20 + x, 1] = 1
    stored = (masks @ [1200, 500] + generator.integers(0, 150, SHAPE)).astype(np.int16)
    study = f"1.2.840.99.{number}"
    changes = {"StudyInstanceUID": study}
    return Series(stored, uid=f"{study}.1", patient=patient or f"P{number}", frame=f"{study}.9", changes=changes), masks


@dataclass
class Department:
    """A repository whose model is trained, and a folder with the studies as a scanner wrote them.

    Attributes:
        repository: a copy for one test.
        scans: one folder of slices by number of the study.
    """

    repository: Repository
    scans: Path

    def run(self, *command: str) -> str:
        """Run a program of the repository; its output."""
        more = {"VOXFLOW_PACS_CLINIC_PASSWORD": PASSWORD, "PREFECT_HOME": str(self.scans / "prefect")}
        result = self.repository.run(sys.executable, "-m", *command, env=more)
        return result.stdout + result.stderr

    def update_block(self, **changes: Any) -> None:
        params = self.repository.params
        params["pacs"] = changes.pop("pacs", {})
        params["workspaces"][WORKSPACE] |= changes
        self.repository.set_params(params)

    def scan(self, number: int, patient: str = "") -> list[Path]:
        return draw(number, patient)[0].write(self.scans / str(number))

    def read_json(self, name: str) -> Any:
        return json.loads(self.repository.read(name))

    @property
    def datalist(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The entries of each part by series: a further study of a patient may number the patient's cases anew."""
        series = {case: uid for uid, case in self.cases.items()}
        parts = self.read_json(f"data/datalists/{WORKSPACE}/dataset_0.json")
        return {
            part: {series[entry["case"]]: entry for entry in parts[part]}
            for part in ("training", "validation", "testing")
        }

    @property
    def cases(self) -> dict[str, str]:
        """The case of each series."""
        rows = read_rows(self.repository.root / f"data/volumes/{WORKSPACE}/cases.csv") or []
        return {row["series_uid"]: row["case"] for row in rows}

    @property
    def corrections(self) -> list[dict[str, str]]:
        return read_rows(self.repository.root / f"data/corrections/{WORKSPACE}/corrections.csv") or []

    @property
    def training_run(self) -> str:
        return str(self.read_json(f"mmars/{WORKSPACE}/models/train/run.json"))

    def find_patient(self, part: str) -> str:
        """The DICOM PatientID of somebody in a part of the split."""
        series = next(iter(self.datalist[part]))
        return f"P{series.split('.')[-2]}"

    def read_label(self, entry: dict[str, Any], number: int) -> Masks:
        """A label of the datalist by class, on the slices as SimpleITK reads them."""
        folder = self.repository.root / "data/resampled" / WORKSPACE
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(self.scans / str(number))))
        label = sitk.ReadImage(str(folder / entry["label"]))
        array = sitk.GetArrayFromImage(
            sitk.Resample(label, reader.Execute(), sitk.Transform(), sitk.sitkNearestNeighbor)
        )
        names = json.loads((folder / "labels.json").read_text())
        return {names[value]: array == int(value) for value in names if int(value)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with patients in which the whole graph has run."""
    root = tmp_path_factory.mktemp("trained") / "repository"
    repository = Repository.copy_to(root)
    repository.set_params({**repository.params, "samples": {}, "workspaces": {}})
    for number in (*LABELLED, *UNLABELLED):
        series, masks = draw(number)
        series.write(root / SOURCE / str(number))
        if number in LABELLED:
            save(seg(series, masks, NAMES), root / SOURCE / str(number) / "label.dcm")
    repository.run(sys.executable, "-m", "voxflow.cli.main", "new", WORKSPACE, "--source", str(SOURCE))
    repository.set_params({**repository.params, "workspaces": {WORKSPACE: BLOCK}})
    config = volume_config() | {"epochs": 120, "num_training_epoch_per_valid": 40}
    for section in ("train", "validate"):
        places = {"data_list_file_path": "{DATASET_JSON}", "data_file_base_dir": "{DATA_ROOT}"}
        config[section]["image_pipeline"]["args"] |= places
    write_json(root / f"mmars/{WORKSPACE}/config/config_train.json", config)
    repository.run("dvc", "repro")
    return root


@pytest.fixture
def department(trained: Path, tmp_path: Path) -> Department:
    shutil.copytree(trained, tmp_path / "repository", symlinks=True)
    return Department(Repository(tmp_path / "repository"), tmp_path / "scans")


def correct(path: Path | io.BytesIO) -> tuple[pydicom.Dataset, Masks, Masks]:
    """A mask as a person changes it, and both by class: a corner more of the liver, a row less of the spleen."""

    def change(frames: Any, numbers: list[int]) -> None:
        for frame, number in zip(frames, numbers, strict=True):
            if names[number] == "liver":
                frame[:2, -3:] = 1
            else:
                frame[np.flatnonzero(frame.any(axis=1))[0]] = 0

    mask = pydicom.dcmread(path)
    names = {int(segment.SegmentNumber): str(segment.SegmentLabel) for segment in mask.SegmentSequence}
    if isinstance(path, io.BytesIO):
        path.seek(0)
    edited = edit(path, change, ContentCreatorName="MARKER^NAME")  # type: ignore[arg-type]
    return edited, read_seg(mask), read_seg(edited)


def read_seg(dataset: pydicom.Dataset) -> Masks:
    """The segments of a SEG by label (slices, rows, columns), with pydicom alone."""
    names = {int(segment.SegmentNumber): str(segment.SegmentLabel) for segment in dataset.SegmentSequence}
    masks = {name: np.zeros(SHAPE, dtype=bool) for name in names.values()}
    for frame, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        height = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        masks[names[number]][round(height / 2.0)] = frame.astype(bool)
    return masks


def compute_dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def read_corrections_table(page: str) -> dict[str, dict[str, str]]:
    """How much was corrected by class, as the report says it: the cells of each class by their column."""
    table = page[page.index('<section id="corrections">') :].partition("</table>")[0]
    rows = [
        [re.sub("<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    ]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


def assert_retrained(
    department: Department, before: dict[str, dict[str, dict[str, Any]]], sent: dict[int, tuple[Masks, Masks]]
) -> None:
    """The corrected labels are in the training part, voxel by voxel, and nothing else has moved."""
    after = department.datalist
    assert (after["testing"], after["validation"]) == (before["testing"], before["validation"])
    numbers = {f"1.2.840.99.{number}.1": number for number in sent}
    assert set(after["training"]) == set(before["training"]) | set(numbers)
    patients = {part: {entry["patient"] for entry in members.values()} for part, members in after.items()}
    assert not patients["training"] & (patients["testing"] | patients["validation"])
    assert not patients["testing"] & patients["validation"]
    for series, number in numbers.items():
        label = department.read_label(after["training"][series], number)
        expected = sent[number][1]
        assert {name: int((label[name] ^ expected[name]).sum()) for name in NAMES} == dict.fromkeys(NAMES, 0)


def assert_reported(department: Department, sent: Iterable[tuple[Masks, Masks]]) -> None:
    """The report says by class how much was corrected, and names nobody."""
    page = department.repository.read(f"mmars/{WORKSPACE}/eval/report.html")
    pairs = list(sent)
    classes = read_corrections_table(page)
    assert set(classes) == set(NAMES)
    for name in NAMES:
        scores = [compute_dice(mask[name], corrected[name]) for mask, corrected in pairs]
        assert 0.5 < min(scores) <= max(scores) < 1, "the model has learnt, and people changed something"
        removed = [int((mask[name] & ~corrected[name]).sum()) * 0.003 for mask, corrected in pairs]
        row = classes[name]
        assert row["corrections"] == str(len(pairs))
        assert float(row["Dice of the mask and its correction"]) == pytest.approx(np.mean(scores), abs=0.0006)
        assert float(row["removed, ml"]) == pytest.approx(np.mean(removed), abs=0.0006)
    assert "MARKER" not in page
    assert "1.2.840.99" not in page


def test_masks_corrected_in_a_pacs_start_a_training_on_them(department: Department, tmp_path: Path) -> None:
    before, first_run = department.datalist, department.training_run
    of_training, of_testing = department.find_patient("training"), department.find_patient("testing")
    with running(tmp_path / "orthanc") as orthanc:
        department.update_block(
            pacs={"clinic": orthanc.web},
            ingest={"pacs": "clinic", "modalities": ["CT"], "days": None, "settle_s": 0},
            corrections={"days": None, "retrain_after": 3, "role": "radiologist"},
        )
        patients = {11: "", 12: of_training, 13: "", OF_TEST_PATIENT: of_testing}
        for number, patient in patients.items():
            orthanc.upload(department.scan(number, patient))
        department.run("tasks.ops.ingest", WORKSPACE)
        department.run("tasks.ops.answer", WORKSPACE)
        sent = send_corrections(orthanc, tmp_path, (11, 12, OF_TEST_PATIENT))
        department.run("tasks.ops.corrections", WORKSPACE)
        assert not department.read_json(f"data/corrections/{WORKSPACE}/state.json")["retrain"]
        sent |= send_corrections(orthanc, tmp_path, (13,))
        department.run("flows.corrections", WORKSPACE)
    assert department.training_run != first_run
    states = {row["study_uid"]: (row["state"], bool(row["trained"])) for row in department.corrections}
    assert states == {f"1.2.840.99.{number}": ("label", True) for number in INCOMING} | {
        f"1.2.840.99.{OF_TEST_PATIENT}": ("held", False)
    }
    assert_reported(department, sent.values())
    del sent[OF_TEST_PATIENT]
    assert_retrained(department, before, sent)


def send_corrections(orthanc: Orthanc, folder: Path, numbers: Sequence[int]) -> dict[int, tuple[Masks, Masks]]:
    """Take our masks from the PACS, as a viewer does, and send them back with changes; both by study."""
    sent = {}
    for number in numbers:
        (series,) = [s for s in orthanc.series("SEG") if s["study"] == f"1.2.840.99.{number}"]
        (instance,) = series["instances"]
        edited, *masks = correct(io.BytesIO(orthanc.raw(f"/instances/{instance}/file")))
        orthanc.upload([save(edited, folder / f"corrected/{number}.dcm")])
        sent[number] = (masks[0], masks[1])
    return sent


def test_masks_of_the_stage_infer_come_back_by_a_folder(department: Department) -> None:
    before, first_run = department.datalist, department.training_run
    root = department.repository.root
    department.run("dvc", "add", str(SOURCE))
    department.update_block(corrections={"folder": "drop", "retrain_after": 3})
    sent = {}
    for number in UNLABELLED:
        department.scan(number)
        case = department.cases[f"1.2.840.99.{number}.1"]
        edited, *masks = correct(root / f"mmars/{WORKSPACE}/eval/infer/{case}/{case}_seg.dcm")
        save(edited, root / f"drop/{number}.dcm")
        sent[number] = (masks[0], masks[1])
        version = (root / f"{SOURCE}.dvc").read_text()
        if number != UNLABELLED[-1]:
            department.run("tasks.ops.corrections", WORKSPACE)
            assert (root / f"{SOURCE}.dvc").read_text() != version, "DVC versions the source with its new label"
            assert department.training_run == first_run
    department.run("flows.corrections", WORKSPACE)
    assert department.training_run != first_run
    assert [(row["state"], bool(row["trained"])) for row in department.corrections] == [("label", True)] * 3
    assert_retrained(department, before, sent)
    assert_reported(department, sent.values())
