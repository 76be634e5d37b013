"""A label is taken, turned to its image or refused for one reason, whichever way a training or an evaluation starts."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from tasks import train as train_stage
from tasks.common.stage import main as run_stage
from tests.mmar.conftest import QUICK
from tests.mmar.test_scripts import run as run_script
from tests.mmar.workspaces import brats_experiment
from tests.tasks.cubes import write_cubes
from voxflow.bundle import BundleOptions, train_bundle
from voxflow.cli.apps import evaluate_main, train_main
from voxflow.cli.main import main as voxflow
from voxflow.cli.tlt import train_main as tlt_train
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.tracking import NullTracker
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    # Starts a training in a folder on data with a faulty label; returns the label's file name and what was said.
    Door = Callable[["Doors"], tuple[str, str]]


class Doors:
    """What a way to a training needs.

    Attributes:
        root: an empty folder.
        mmar: an MMAR with data of its own.
        spoil: makes a label file faulty.
    """

    def __init__(
        self, root: Path, mmar: Path, spoil: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.root, self.mmar, self.spoil, self._capfd = root, mmar, spoil, capfd

    def call(self, code: int) -> str:
        """What was said, once a command has ended as wrong input does."""
        said = self._capfd.readouterr()
        assert code == 2, said.err
        return said.err


def flip(path: Path) -> None:
    """Store a label with its first axis running the other way, in the same place."""
    label = read_volume(path)
    last = label.geometry.to_physical(np.array([label.geometry.size[0] - 1, 0, 0]))
    affine = label.geometry.affine * [-1, 1, 1, 1]
    affine[:3, 3] = last
    write_volume(path, Volume(label.array[::-1], Geometry(label.geometry.size, affine)))


def move(path: Path) -> None:
    """Store a label a tenth of a voxel off."""
    label = read_volume(path)
    affine = label.geometry.affine.copy()
    affine[:3, 3] += 0.1 * affine[:3, 0]
    write_volume(path, Volume(label.array, Geometry(label.geometry.size, affine)))


def mirror(path: Path) -> None:
    """Store a label whose first axis runs the other way, from the same first voxel: another place."""
    label = read_volume(path)
    write_volume(path, Volume(label.array, Geometry(label.geometry.size, label.geometry.affine * [-1, 1, 1, 1])))


def halve_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def halve_values(path: Path) -> None:
    label = read_volume(path)
    write_volume(path, Volume(label.array.astype(np.float32) / 2, label.geometry))


def by_the_stage(doors: Doors) -> tuple[str, str]:
    block = write_cubes(doors.root)
    doors.spoil(doors.root / "data/resampled/cubes/cube1_label.nii.gz")
    (doors.root / "params.yaml").write_text(yaml.safe_dump({"workspaces": {"cubes": block}}))
    sys.argv = ["tasks.train", "cubes"]
    return "cube1_label.nii.gz", doors.call(run_stage("train", train_stage.run))


def by_nvmidl(doors: Doors) -> tuple[str, str]:
    doors.spoil(doors.mmar / "data/box1_label.nii.gz")
    return "box1_label.nii.gz", doors.call(train_main(["-m", str(doors.mmar), "--set", *QUICK]))


def by_the_script(doors: Doors) -> tuple[str, str]:
    doors.spoil(doors.mmar / "data/box1_label.nii.gz")
    process = run_script(doors.mmar / "commands/train.sh", *QUICK)
    assert process.returncode == 2
    return "box1_label.nii.gz", process.stderr


def by_the_command(doors: Doors) -> tuple[str, str]:
    doors.spoil(doors.mmar / "data/box1_label.nii.gz")
    return "box1_label.nii.gz", doors.call(voxflow(["train", str(doors.mmar), "--set", *QUICK]))


def by_tlt(doors: Doors) -> tuple[str, str]:
    folder = brats_experiment(doors.root / "brats")
    doors.spoil(folder / "data/p1/p1_seg.nii.gz")
    flags = ["-e", f"{folder}/config_brats.json", "-d", f"{folder}/datalist.json", "-r", f"{folder}/output"]
    return "p1_seg.nii.gz", doors.call(tlt_train(["segmentation", *flags, "--file_root", f"{folder}/data"]))


def by_a_bundle(doors: Doors) -> tuple[str, str]:
    doors.spoil(doors.mmar / "data/box1_label.nii.gz")
    files = {"image": "box1.nii.gz", "label": "box1_label.nii.gz"}
    item = {key: str(doors.mmar / "data" / name) for key, name in files.items()}
    with pytest.raises(DataError) as caught:
        train_bundle(
            doors.root, doors.root / "out", BundleOptions(), data={"train#dataset#data": [item]},
            tracker=NullTracker(), curves=doors.root / "curves.csv",
        )  # fmt: skip
    return "box1_label.nii.gz", str(caught.value)


FAULTS: dict[Callable[[Path], None], str] = {
    move: "its grid is not the image's, they lie on different grids: size",
    mirror: "its grid is not the image's, they lie on different grids: size",
    halve_file: "unreadable image: damaged, or it ends early",
    halve_values: "label values are no whole numbers from 0: [0.0, 0.5",
}
DOORS: list[Door] = [by_the_stage, by_nvmidl, by_the_command, by_tlt, by_a_bundle]


@pytest.fixture(params=FAULTS, ids=lambda fault: fault.__name__)
def doors(
    tmp_path: Path,
    segmentation: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Doors:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    mmar = own_data(segmentation)
    return Doors(tmp_path, mmar, request.param, capfd)


def own_data(mmar: Path) -> Path:
    """Give a clone of an MMAR its own copy of the data."""
    path = mmar / "config/environment.json"
    environment = json.loads(path.read_text())
    if environment["DATA_ROOT"] != str(mmar / "data"):
        shutil.copytree(environment["DATA_ROOT"], mmar / "data", dirs_exist_ok=True)
        path.write_text(json.dumps(environment | {"DATA_ROOT": str(mmar / "data")}))
    return mmar


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_training_refuses_a_label_for_the_same_reason(doors: Doors, door: Door) -> None:
    file, said = door(doors)
    assert FAULTS[doors.spoil] in said
    assert file in said


@pytest.mark.parametrize("doors", [move], indirect=True)
def test_the_script_says_what_the_commands_say(doors: Doors) -> None:
    file, said = by_the_script(doors)
    assert FAULTS[move] in said
    assert file in said or "training[1].label" in said


def test_a_turned_label_trains_and_scores_as_the_same_label_unturned(segmentation: Path, tmp_path: Path) -> None:
    mmar = own_data(segmentation)
    scores = [(train(mmar, tmp_path / "plain"), evaluate(mmar))]
    for label in (mmar / "data").glob("*_label.nii.gz"):
        flip(label)
    scores.append((train(mmar, tmp_path / "turned"), evaluate(mmar)))
    assert scores[0] == scores[1]


def train(mmar: Path, models: Path) -> float:
    settings = ["epochs=2", "num_training_epoch_per_valid=1", f"MMAR_CKPT_DIR={models}", *QUICK]
    assert train_main(["-m", str(mmar), "--write_train_stats", "--set", *settings]) == 0
    return float(json.loads((models / "train_stats.json").read_text())["mean_dice"])


def evaluate(mmar: Path) -> str:
    assert evaluate_main(["-m", str(mmar), "--set", "DATA_LIST_KEY=validation"]) == 0
    return (mmar / "eval/mean_dice.txt").read_text()
