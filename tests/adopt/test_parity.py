"""The original is run, or stands in: masks by case and class, and the step at which both tools part."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.adopt.folders import make_dataset, make_plans, write_checkpoint, write_image
from tests.adopt.test_nnunet import make_weights, write_model
from voxflow.adopt import (
    Comparison,
    NnunetOriginal,
    compare_adoption,
    original,
    read_nnunet,
    require_parity,
    write_adopted,
    write_nnunet,
)
from voxflow.adopt.parity import list_cases
from voxflow.cli.main import main
from voxflow.engines import TorchEngine
from voxflow.errors import DataError, ParityError
from voxflow.places import read_workspaces
from voxflow.prediction import PredictOptions, predict_logits, predict_volume, prepare_image
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZE = (18, 20, 8)


class StandIn:
    """nnU-Net's program as the tests have it: Voxflow's own masks, changed where a test says so."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.change_image: Any = lambda image: image
        self.change_logits: Any = lambda logits: logits
        self.change_mask: Any = lambda mask: mask
        self.broken: set[str] = set()

    def __call__(self, _tool: str, _python: str, job: Mapping[str, Any]) -> None:
        self.jobs.append(dict(job))
        model = read_nnunet(Path(job["folder"]))
        engine = TorchEngine.wrap(model.network, model.spec)
        out = Path(job["out"])
        for case, files in job["cases"].items():
            if case in self.broken:
                continue
            volume = read_volume(Path(files[0]))
            prediction = predict_volume(engine, volume).mask
            mask = self.change_mask(prediction.array.copy())
            write_volume(out / f"{case}{job['ending']}", Volume(mask, prediction.geometry))
            if job["arrays"]:
                prepared = prepare_image([volume], model.spec)
                image = np.asarray(prepared.image)
                assert prepared.place is not None
                np.save(out / f"{case}.image.npy", self.change_image(image.copy()))
                np.save(out / f"{case}.logits.npy", self.change_logits(predict_logits(engine, image, PredictOptions())))
                box = [[part.start, part.stop] for part in prepared.place.box]
                (out / f"{case}.box.json").write_text(json.dumps(box))
        result = {
            "seconds": dict.fromkeys(job["cases"], 1.5),
            "failures": {case: "no image" for case in job["cases"] if case in self.broken},
        }
        (out / "result.json").write_text(json.dumps(result))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A repository with a result folder and two images, and a program in the place of nnU-Net's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    folder = write_model(tmp_path / "results")
    # Without mirror images, which take eight times as long.
    write_checkpoint(folder / "fold_0/checkpoint_final.pth", make_weights(folder), mirrored=None)
    for number in (1, 2):
        write_image(tmp_path / f"images/secret_{number}_0000.nii.gz", size=SIZE, seed=number)
    program = StandIn()
    monkeypatch.setattr(original, "_run_program", program)
    return program


def adopt(*flags: str) -> int:
    python = ("--original-python", sys.executable)
    return main(["adopt", "results", "--name", "liver", "--images", "images", *python, *flags])


def invert_first_plane(mask: Any) -> Any:
    mask[:2] = 1 - np.minimum(mask[:2], 1)
    return mask


def test_the_original_is_run_on_the_images_and_timed(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert adopt() == 0
    said = capsys.readouterr().err
    assert "the original segments 2 case(s)" in said
    assert "secret_2: 0 of 2880 voxels differ" in said
    (job,) = stand_in.jobs
    assert (job["folds"], job["checkpoint"]) == ([0], "checkpoint_final.pth")
    folder = Path("mmars/liver/config")
    record = json.loads((folder / "adopted.json").read_text())
    assert (record["compared_cases"], record["differing_voxels"], len(record["cases"])) == (2, 0, 2)
    assert record["cases"][0]["original_seconds"] == 1.5
    assert record["cases"][0]["dice"]["liver"] == 1
    assert record["original_seconds"] >= 0
    page = (folder / "adopted.html").read_text()
    assert "The masks are those of the original." in page
    assert "secret" not in page + (folder / "adopted.json").read_text(), "names of cases may be those of patients"


@pytest.mark.parametrize(
    ("change", "step", "numbers"),
    [
        ({"change_image": lambda image: image[:, :, :-1]}, "grid", "the network is shown 1 × ("),
        ({"change_image": lambda image: image + np.float32(0.5)}, "intensities", "the greatest difference is 0.5 in"),
        ({"change_logits": lambda logits: logits * np.float32(2)}, "logits", "in class"),
        ({}, "way back", "voxels of the masks differ, though the logits agree"),
    ],
)
def test_the_first_step_that_differs_is_named_with_numbers(
    change: dict[str, Any], step: str, numbers: str, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    vars(stand_in).update(change)
    stand_in.change_mask = invert_first_plane
    assert adopt("--report", "parity") == 1
    said = capsys.readouterr().err
    assert f"The first step that differs: {step}; " in said
    assert numbers in said
    assert not Path("mmars").exists()
    record = json.loads(Path("parity/adopted.json").read_text())
    assert record["first_difference"] == step
    assert [entry["differs"] for entry in record["steps_of_the_worst_case"]][-1]
    assert f"They part at the step {step}." in Path("parity/adopted.html").read_text()
    assert read_workspaces() == {}


def test_masks_made_otherwise_are_told_from_a_model_that_differs(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    images = {"secret_1": [tmp_path / "images/secret_1_0000.nii.gz"]}
    (tmp_path / "masks").mkdir()
    stand_in.change_mask = invert_first_plane
    NnunetOriginal(sys.executable, tmp_path / "results", ("fold_0",), ".nii.gz").segment(images, tmp_path / "masks")
    stand_in.change_mask = lambda mask: mask
    assert adopt("--masks", "masks") == 1
    assert "The original, run here in single precision, gives our masks" in capsys.readouterr().err


def test_a_bound_below_lets_a_model_pass_and_the_page_says_where_it_parts(stand_in: StandIn) -> None:
    stand_in.change_mask = invert_first_plane
    assert adopt("--least-equal", "0.5") == 0
    record = json.loads(Path("mmars/liver/config/adopted.json").read_text())
    assert record["first_difference"] == "way back"
    assert "but for" in Path("mmars/liver/config/adopted.html").read_text()


def test_a_case_that_the_original_fails_on_is_named_and_nothing_is_adopted(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.broken = {"secret_1"}
    assert adopt() == 1
    said = capsys.readouterr().err
    assert "1 of 2 cases can't be compared; secret_1: the original failed: no image" in said
    assert "secret_2: 0 of 2880 voxels differ" in said
    stand_in.broken = {"secret_1", "secret_2"}
    assert adopt() == 2
    assert "the original failed on every case" in capsys.readouterr().err


def test_a_mask_of_another_case_on_the_same_grid_is_called_so(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxflow.adopt.original.find_spec", lambda _: None)
    Path("masks").mkdir()
    mask = read_volume(Path("images/secret_1_0000.nii.gz"))
    array = np.zeros(SIZE, np.uint8)
    array[:3, :3, :2] = 1  # zeros are cropped off the image there: background
    write_volume(Path("masks/secret_1.nii.gz"), Volume(array, mask.geometry))
    assert main(["adopt", "results", "--name", "liver", "--images", "images", "--masks", "masks"]) == 1
    assert "it may be the mask of another case" in capsys.readouterr().err
    assert not stand_in.jobs


def test_flags_that_need_each_other(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["adopt", "results", "--name", "liver", "--original-python", sys.executable]) == 2
    assert "--original-python needs --images" in capsys.readouterr().err
    assert main(["adopt", "results", "--name", "liver", "--images", "images", "--original-python", "no-python"]) == 2
    assert "no program 'no-python'" in capsys.readouterr().err
    monkeypatch.setattr("voxflow.adopt.original.find_spec", lambda _: None)
    assert main(["adopt", "results", "--name", "liver", "--images", "images"]) == 2
    assert "nnunetv2 is not installed here" in capsys.readouterr().err
    assert not stand_in.jobs


def test_cases_are_named_with_or_without_the_number_of_a_channel(tmp_path: Path) -> None:
    for name in ("a_0000", "b", "liver_2024"):
        (tmp_path / f"{name}.nii.gz").touch()
    spec = read_nnunet(write_model(tmp_path / "results")).spec
    assert list(list_cases(tmp_path, spec, ".nii.gz")) == ["a", "b", "liver_2024"]


def test_a_python_without_nnunet_is_one_line(tmp_path: Path) -> None:
    write_model(tmp_path / "results")
    image = write_image(tmp_path / "a_0000.nii.gz", size=SIZE)
    tool = NnunetOriginal(sys.executable, tmp_path / "results", ("fold_0",), ".nii.gz")
    with pytest.raises(DataError, match=r"nnU-Net can't be run there: .*nnunetv2") as failure:
        tool.segment({"a": [image]}, tmp_path)
    assert "\n" not in str(failure.value)


@pytest.mark.slow
def test_nnunet_itself_gives_the_masks_and_the_step(tmp_path: Path, nnunet_python: Path) -> None:
    write_adopted(read_nnunet(write_model(tmp_path / "model")), tmp_path / "model.pt")
    write_nnunet(tmp_path / "model.pt", tmp_path / "results", "liver")  # under all names that nnU-Net looks for
    image = write_image(tmp_path / "images/a_0000.nii.gz", size=SIZE)
    tool = NnunetOriginal(str(nnunet_python), tmp_path / "results", ("fold_0",), ".nii.gz")
    result = compare(tmp_path / "results", image.parent, tool)
    assert not result.problem
    assert result.original is not None
    assert result.original.total_seconds > 0
    # The same weights with another window of values: both part at the intensities.
    plans = make_plans()
    plans["foreground_intensity_properties_per_channel"]["0"] = {
        **plans["foreground_intensity_properties_per_channel"]["0"],
        "mean": 300.0,
    }
    write_model(tmp_path / "other", plans, make_dataset())
    differing = compare(tmp_path / "other", image.parent, tool)
    assert "The first step that differs: intensities; the greatest difference is 1.2 in channel 0" in differing.problem
    with pytest.raises(ParityError, match="intensities"):
        require_parity(differing)


def compare(folder: Path, images: Path, tool: NnunetOriginal) -> Any:
    model = read_nnunet(folder)
    return compare_adoption(Comparison(TorchEngine.wrap(model.network, model.spec), images, original=tool))
