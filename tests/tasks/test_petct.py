"""CT and PET as channels, tumours drawn on the PET: from DICOM by DVC to masks and DICOM SEG."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import PositronEmissionTomographyImageStorage, generate_uid

from tests.dag.repository import Repository
from tests.dicom.objects import Series, contour, save, structure_set
from tests.tables import read_table
from tests.tasks.stage_runs import read_array

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RADIUS, PEOPLE = 14.0, 7
WORKSPACE = "brain"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def measure_distance(series: Series, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each voxel of an axial series lies from a point, mm: (slices, rows, columns)."""
    shape = series.stored.shape
    step = (series.step, series.spacing[0], series.spacing[1])
    index = np.moveaxis(np.indices(shape), 0, -1) * step
    distance: NDArray[np.float64] = np.linalg.norm(index - (centre[::-1] - np.asarray(series.origin)[::-1]), axis=-1)
    return distance


def write_patient(folder: Path, number: int) -> None:
    """A PET with a hot ball, a CT on a finer grid in which it is dense, and the ball's contours on the PET."""
    rng = np.random.default_rng(number)
    centre = np.array([34.0, 34.0, 30.0]) + rng.uniform(-6, 6, 3)
    frame, study = str(generate_uid()), generate_uid()
    who: dict[str, Any] = {"patient": f"P{number}", "frame": frame}
    pet_changes = {"SOPClassUID": PositronEmissionTomographyImageStorage, "Modality": "PT", "Units": "BQML"}
    changes = {"StudyInstanceUID": study, "SeriesNumber": 2}
    pet = Series(
        np.zeros((16, 24, 24), np.int16),
        spacing=(3.0, 3.0),
        step=4.0,
        changes=changes | pet_changes | {"RescaleIntercept": 0},
        **who,
    )
    ct = Series(
        np.zeros((30, 36, 36), np.int16), origin=(1.0, -1.0, 0.0), spacing=(2.0, 2.0), step=2.2, changes=changes, **who
    )
    for series, inside, outside in ((pet, 900, 200), (ct, 180, 100)):
        ball = measure_distance(series, centre) < RADIUS
        values = np.where(ball, inside, outside) + rng.normal(0, 12, ball.shape)
        series.stored = values.clip(0).astype(np.int16)
        series.write(folder / f"p{number}" / series.changes.get("Modality", "CT"))
    images, angles = pet.datasets(), np.linspace(0, 2 * np.pi, 48, endpoint=False)
    contours = []
    for k, image in enumerate(images):
        height = k * pet.step
        half = np.sqrt(max(0.0, RADIUS**2 - (height - centre[2]) ** 2))
        if half > 2:
            circle = centre[:2] + half * np.column_stack([np.cos(angles), np.sin(angles)])
            contours.append(contour(np.column_stack([circle, np.full(len(circle), height)]), image))
    rois = structure_set({"tumour": contours}, images=images, StudyInstanceUID=study, PatientID=f"P{number}")
    save(rois, folder / f"p{number}" / "rs.dcm")


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which DVC has run all stages of a workspace that ``voxflow new`` made."""
    repository = Repository.copy_to(tmp_path_factory.mktemp("petct"))
    for number in range(PEOPLE):
        write_patient(repository.root / "data/raw" / WORKSPACE, number)
    repository.set_params(repository.params | {"samples": {}, "workspaces": {}})
    repository.run("voxflow", "new", WORKSPACE, "--source", f"data/raw/{WORKSPACE}", "--template", "auto")
    block = repository.params["workspaces"][WORKSPACE]
    assert block["convert"] == {"channels": {"CT": {"modality": "CT"}, "PET": {"modality": "PT"}}}
    block["convert"] |= {"pseudonym_key": "k", "pet": "stated"}
    block["resample"] = {"spacing_mm": [3.0, 3.0, 4.0], "orientation": "LPS", "onto": "PET"}
    block["split"] = {"seed": 7, "testing": 2, "validation": 1}
    block["train"] = {"plan": "auto", "set": {"epochs": 20, "num_training_epoch_per_valid": 20}}
    block["export"] = {"engines": ["torchscript"], "parity_cases": 1}
    block["infer"] = {"key": "testing"}
    repository.set_params(repository.params | {"workspaces": {WORKSPACE: block}})
    repository.run("dvc", "repro", f"report@{WORKSPACE}")
    return repository.root


def test_every_case_lies_on_the_grid_of_the_pet_as_simpleitk_brings_it_there(stages: Path) -> None:
    converted = read_table(stages / "data/volumes/brain/cases.csv")
    assert len(converted) == PEOPLE
    for row in read_table(stages / "data/resampled/brain/cases.csv"):
        source = next(case for case in converted if case["case"] == row["case"])
        ct, pet = (stages / "data/volumes/brain" / name for name in source["image"].split(";"))
        reference = sitk.ReadImage(str(pet), sitk.sitkFloat32)
        expected = sitk.Resample(
            sitk.ReadImage(str(ct), sitk.sitkFloat32), reference, sitk.Transform(), sitk.sitkLinear
        )
        images = [sitk.ReadImage(str(stages / "data/resampled/brain" / name)) for name in row["image"].split(";")]
        label = sitk.ReadImage(str(stages / "data/resampled/brain" / row["label"]))
        assert [image.GetSize() for image in (*images, label)] == [reference.GetSize()] * 3
        assert np.allclose(images[1].GetOrigin(), reference.GetOrigin())
        assert np.array_equal(sitk.GetArrayFromImage(images[1]), sitk.GetArrayFromImage(reference))
        inner = (slice(1, -1), slice(2, -2), slice(2, -2))
        assert np.allclose(sitk.GetArrayFromImage(images[0])[inner], sitk.GetArrayFromImage(expected)[inner], atol=1.01)
        hot = sitk.GetArrayFromImage(images[1]) > 550
        drawn = sitk.GetArrayFromImage(label) == 1
        assert 2 * (hot & drawn).sum() / (hot.sum() + drawn.sum()) > 0.95


def test_scores_are_of_the_grid_that_the_tumour_was_drawn_on(stages: Path) -> None:
    cases = {row["case"]: row for row in read_table(stages / "data/volumes/brain/cases.csv")}
    rows = read_table(stages / "mmars/brain/eval/test/per_case.csv")
    assert len(rows) == 2
    for row in rows:
        mask = read_array(stages / "mmars/brain/eval/test/masks" / f"{row['case']}.nii.gz") == 1
        truth = read_array(stages / "data/volumes/brain" / cases[row["case"]]["label"]) == 1
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert float(row["dice_tumour"]) == pytest.approx(dice, abs=1e-6)
    assert json.loads((stages / "data/metrics/brain/evaluate.json").read_text())["mean_dice"] > 0.6


def test_segmentation_refers_to_the_pet(stages: Path) -> None:
    converted = {row["case"]: row for row in read_table(stages / "data/volumes/brain/cases.csv")}
    out = stages / "mmars/brain/eval/infer"
    rows = read_table(out / "preds_outputs.csv")
    assert len(rows) == 2
    for row in rows:
        (path,) = (out / row["case"]).glob("*.dcm")
        seg = highdicom.seg.segread(path)
        pet = converted[row["case"]]["series_uid"].split(";")[1]
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == pet
        assert (seg.Rows, seg.Columns) == (24, 24)
        (volume,) = np.moveaxis(seg.get_volume(combine_segments=False).array, -1, 0)
        assert volume.sum() == (read_array(next((out / row["case"]).glob("*.nii.gz"))) == 1).sum() > 0
        assert [item.SegmentLabel for item in seg.SegmentSequence] == ["tumour"]
