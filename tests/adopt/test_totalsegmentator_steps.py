"""What TotalSegmentator does around nnU-Net: the working grid, cleaning, and which folders have which steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.ndimage import label, map_coordinates

from tests.adopt.test_joined import write_parts
from tests.adopt.test_parity import StandIn
from tests.adopt.totalsegmentator_weights import write_ct, write_weights
from voxflow.adopt import find_task, original, read_nnunet, repeat_steps, write_nnunet
from voxflow.cli.main import main
from voxflow.engines import TorchEngine, open_engine
from voxflow.errors import ConfigError
from voxflow.geometry import Geometry
from voxflow.prediction import PredictOptions, predict_volume, prepare_image, totalsegmentator
from voxflow.prediction.totalsegmentator import (
    bring_to_working_grid,
    clean_on_working_grid,
    find_nearest_planes,
    join_pieces,
    split_image,
)
from voxflow.spec import ModelSpec, TotalSegmentatorSteps
from voxflow.training import load_model
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxflow.adopt import AdoptedModel

STEPS = TotalSegmentatorSteps(task="total", spacing_mm=(1.5, 1.5, 1.5))
FAST = "Dataset297_TotalSegmentator_total_3mm_1559subj"
TURNED = (0, 0, -1, 1, 0, 0, 0, -1, 0)


@pytest.mark.parametrize("order", [1, 3])
def test_the_first_and_last_voxels_stay_and_values_become_whole_numbers(order: int) -> None:
    array = np.random.default_rng(3).integers(-1000, 1000, (12, 9, 7)).astype(np.int16)
    volume = Volume(array, Geometry.from_parts(array.shape, (1.0, 2.0, 4.0), (5, 6, 7)))
    image, working = bring_to_working_grid(volume, STEPS.model_copy(update={"order": order}))
    assert image.array.shape == (8, 12, 19)
    assert working.grid.spacing == pytest.approx((1.5, 1.5, 1.5))
    ras = array[::-1, ::-1]  # the axes of a Geometry go left and posterior
    positions = [np.linspace(0, have - 1, need) for have, need in zip(ras.shape, image.array.shape, strict=True)]
    expected = map_coordinates(ras.astype(float), np.meshgrid(*positions, indexing="ij"), order=order, mode="nearest")
    assert np.abs(image.array - np.trunc(expected)).max() <= 1
    assert (image.array == np.trunc(expected)).mean() > 0.99
    np.testing.assert_allclose(working.grid.origin, volume.geometry.to_physical(np.array([11, 8, 0])))


def test_an_image_of_that_spacing_stays_as_it_is() -> None:
    array = np.random.default_rng(3).normal(size=(6, 5, 4)).astype(np.float32)
    direction = (0, 0, -1, 1, 0, 0, 0, -1, 0)
    volume = Volume(array, Geometry.from_parts(array.shape, (1.5,) * 3, (0, 0, 0), direction))
    image, working = bring_to_working_grid(volume, STEPS)
    assert working.grid.orientation == "RAS"
    assert sorted(image.array.ravel()) == sorted(array.ravel())
    np.testing.assert_array_equal(working.restore(image.array), array)


def test_a_mask_comes_back_by_the_nearest_voxel() -> None:
    for have, need in [(8, 12), (12, 8), (5, 5), (7, 1), (1, 4)]:
        places = np.arange(need) * ((have - 1) / (need - 1) if need > 1 else 1)
        np.testing.assert_array_equal(find_nearest_planes(have, need), np.floor(places + 0.5))


def test_very_large_images_are_divided_in_three(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(2 * 2 * 100).reshape(2, 2, 100)
    volume = Volume(array, Geometry.from_parts(array.shape, (1.5,) * 3))
    steps = STEPS.model_copy(update={"splits": True})
    assert split_image(volume, steps) == [volume]
    monkeypatch.setattr(totalsegmentator, "MANY_VOXELS", 100)
    assert split_image(volume, steps) == [volume]
    monkeypatch.setattr(totalsegmentator, "MANY_PLANES", 99)
    pieces = split_image(volume, steps)
    assert [(int(piece.array[0, 0, 0]), piece.array.shape[2]) for piece in pieces] == [(0, 53), (14, 72), (47, 53)]
    np.testing.assert_array_equal(join_pieces([piece.array for piece in pieces]), array)
    assert split_image(volume, STEPS) == [volume]


def test_masks_are_cleaned_as_totalsegmentator_does() -> None:
    labels = (np.random.default_rng(5).random((24, 20, 16)) * 5).astype(np.uint8)
    steps = {"removed": (4,), "largest": (1,), "least_mm3": ((2, 20.0),)}
    cleaned = labels.copy()
    clean_on_working_grid(cleaned, (1.5, 1.5, 1.5), STEPS.model_copy(update=steps))
    expected = np.where(labels == 3, 3, 0)
    components, count = label(labels == 1)  # voxels touch by faces
    sizes = [int((components == number).sum()) for number in range(1, count + 1)]
    expected[components == 1 + int(np.argmax(sizes))] = 1
    components, count = label(labels == 2)
    for number in range(1, count + 1):
        if (components == number).sum() * 1.5**3 > 20:
            expected[components == number] = 2
    np.testing.assert_array_equal(cleaned, expected)
    assert {1, 2, 3} == set(np.unique(cleaned)) - {0}


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    """The folder of weights of `total --fast`, but for the number of its classes."""
    trainer = "nnUNetTrainer_4000epochs_NoMirroring"
    return write_weights(tmp_path / "results", FAST, 2, spacing=3.0, trainer=trainer, mirrored=(0, 1))


def test_folders_are_recognised_and_their_steps_are_in_the_model_file(
    fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["adopt", str(fast), "--name", "total"]) == 0
    said = capsys.readouterr().err
    assert "the steps of TotalSegmentator 2.18.0 around nnU-Net are repeated, task total: images to 3 mm" in said
    _, spec = load_model(tmp_path / "total/models/model.pt")
    assert spec.totalsegmentator == TotalSegmentatorSteps(task="total", spacing_mm=(3.0, 3.0, 3.0))
    assert (spec.mirrored, spec.overlap) == ((), 0.2)
    assert json.loads((tmp_path / "total/config/adopted.json").read_text())["totalsegmentator"]["order"] == 1
    with pytest.raises(ConfigError, match="adopt its folder with --steps nnunet, and that model can leave"):
        write_nnunet(tmp_path / "total/models/model.pt", tmp_path / "left", "Dataset001_Total")
    assert main(["adopt", str(fast), "--name", "plain", "--steps", "nnunet"]) == 0
    assert "the steps of TotalSegmentator" not in capsys.readouterr().err
    _, plain = load_model(tmp_path / "plain/models/model.pt")
    assert plain == read_nnunet(fast).spec
    assert "totalsegmentator" not in plain.model_dump()


def test_the_mask_is_nnunets_of_the_working_grid_brought_back(fast: Path, tmp_path: Path) -> None:
    volume = read_volume(
        write_ct(tmp_path / "case.nii.gz", size=(40, 30, 25), spacing=(2.0, 1.0, 4.0), direction=TURNED)
    )
    engine = open_engine(write_model(fast, tmp_path), "torch")
    prediction = predict_volume(engine, volume)
    assert engine.spec.totalsegmentator is not None
    image, working = bring_to_working_grid(volume, engine.spec.totalsegmentator)
    plain = read_nnunet(fast)
    inner = ModelSpec.model_validate(plain.spec.model_dump() | {"overlap": 0.2, "mirrored": ()})
    member = TorchEngine.wrap(plain.network, inner)
    expected = working.restore(predict_volume(member, image).mask.array)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(prediction.mask.array, expected)
    assert prediction.mask.geometry.is_close(volume.geometry)
    on_tensors = prepare_image([volume], engine.spec, "cpu").pieces[0]
    assert on_tensors.image.shape == (1, *image.array.T.shape)
    assert not np.array_equal(predict_volume(member, volume).mask.array, expected)
    cleaned = predict_volume(engine, volume, PredictOptions.model_validate({"clean": {"largest_component": ["all"]}}))
    assert (cleaned.mask.array > 0).sum() < (expected > 0).sum()


def write_model(folder: Path, tmp_path: Path) -> Path:
    """The model file of a folder with the steps of its task."""
    from voxflow.adopt import write_adopted

    write_adopted(adopt(folder), tmp_path / "adopted.pt")
    return tmp_path / "adopted.pt"


def adopt(folder: Path, classes: str | None = None) -> AdoptedModel:
    """A folder with the steps of its task."""
    task = find_task([folder])
    assert task is not None
    return repeat_steps(read_nnunet(folder), task, classes)


@pytest.mark.parametrize(
    ("version", "steps", "words"),
    [
        ("2.12.0", (3, 0.5), "TotalSegmentator 2.12.0 around"),
        ("2.15.0", (1, 0.5), "TotalSegmentator 2.15.0 around"),
        ("2.16.1", (1, 0.2), "TotalSegmentator 2.16.1 around"),
        ("2.19", (1, 0.2), "the last one that is known here (installed: 2.19.0)"),
    ],
)
def test_the_version_beside_the_class_map_counts(
    version: str, steps: tuple[int, float], words: str, fast: Path, tmp_path: Path
) -> None:
    (tmp_path / f"TotalSegmentator-{version}.dist-info").mkdir()
    (tmp_path / "totalsegmentator").mkdir()
    file = tmp_path / "totalsegmentator/map_to_binary.py"
    file.write_text('class_map = {"total": {1: "spleen", 2: "kidney"}}')
    model = adopt(fast, f"{file}:total")
    assert model.spec.totalsegmentator is not None
    assert (model.spec.totalsegmentator.order, model.spec.overlap) == steps
    assert words in model.notes[-1]
    (tmp_path / f"TotalSegmentator-{version}.dist-info").rename(tmp_path / "totalsegmentator-2.7.0.dist-info")
    with pytest.raises(ConfigError, match=r"TotalSegmentator 2\.7\.0 resamples otherwise .* from 2\.8\.0 on"):
        adopt(fast, f"{file}:total")


def test_folders_that_are_not_repeated_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    liver = write_weights(tmp_path, "Dataset570_ct_liver_segments", 2)
    assert main(["adopt", str(liver), "--name", "liver"]) == 0
    said = "what TotalSegmentator does around its task liver_segments is not repeated here: masks are those of nnU-Net"
    assert said in capsys.readouterr().err
    part = write_weights(tmp_path, "Dataset291_TotalSegmentator_part1_organs_1559subj", 2)
    assert main(["adopt", str(part), "--name", "organs"]) == 0
    assert "1 of the 5 folders of TotalSegmentator's task total, and 0 others" in capsys.readouterr().err
    assert read_nnunet(part).spec == load_model(tmp_path / "organs/models/model.pt")[1]


def test_totalsegmentator_is_run_and_compared(
    fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_ct(tmp_path / "images/case_0000.nii.gz", size=(30, 24, 12), spacing=(2.0, 2.2, 5.0))
    arguments = ["adopt", str(fast), "--name", "total", "--images", "images"]
    monkeypatch.setattr("voxflow.adopt.original.find_spec", lambda _name: None)
    assert main(arguments) == 2
    assert "TotalSegmentator is not installed here: name a Python that has it" in capsys.readouterr().err
    stand_in = _TaskStandIn()
    monkeypatch.setattr(original, "_run_program", stand_in)
    assert main([*arguments, "--original-python", "python3"]) == 0
    (job,) = stand_in.jobs
    assert (job["task"], job["mode"], job["plans"]) == ("total", "fast", "nnUNetPlans")
    assert job["weights"] == {FAST: str(fast)}
    record = json.loads((tmp_path / "total/config/adopted.json").read_text())
    assert (record["differing_voxels"], record["compared_cases"]) == (0, 1)
    stand_in.change_mask = lambda mask: np.where(mask == 2, 1, mask)
    arguments[arguments.index("total")] = "other"
    assert main([*arguments, "--original-python", "python3"]) != 0
    assert "the masks are not those of the original" in capsys.readouterr().err


class _TaskStandIn(StandIn):
    """TotalSegmentator's program as the tests have it: Voxflow's own masks, by the names of its job."""

    def __call__(self, tool: str, python: str, job: Mapping[str, Any]) -> None:
        assert tool == "TotalSegmentator"
        assert not job["arrays"], "no steps are compared"
        from pathlib import Path

        from voxflow.volumes import write_volume

        self.jobs.append(dict(job))
        model = adopt(Path(next(iter(job["weights"].values()))))
        engine = TorchEngine.wrap(model.network, model.spec)
        out = Path(job["out"])
        for case, files in job["cases"].items():
            mask = predict_volume(engine, read_volume(Path(files[0]))).mask
            write_volume(out / f"{case}{job['ending']}", Volume(self.change_mask(mask.array.copy()), mask.geometry))
        (out / "result.json").write_text(json.dumps({"seconds": dict.fromkeys(job["cases"], 1.5), "failures": {}}))


def test_parts_of_other_names_are_joined_as_before(tmp_path: Path) -> None:
    assert find_task(write_parts(tmp_path)) is None
