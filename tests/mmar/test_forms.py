"""Forms in which people and scripts write what is meant: text for true, lists of one, comments, marks, other cases."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.mmar import families
from tests.mmar.conftest import QUICK
from voxflow.cli.apps import evaluate_main, export_main, train_main
from voxflow.cli.main import main
from voxflow.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")
CONFIG3, CONFIG4 = "config/trn_base.json", "config/config_train_Unet.json"
VALIDATION3 = "config/config_validation_chpt.json"


def change(path: Path, **values: Any) -> None:
    write_json(path, json.loads(path.read_text()) | values)


def change_part(path: Path, section: str, **values: Any) -> None:
    content = json.loads(path.read_text())
    content[section] |= values
    write_json(path, content)


def run_train(mmar: Path, config: str, *settings: str) -> int:
    return train_main(["-m", str(mmar), "-c", config, "--set", *QUICK, *settings])


@pytest.mark.parametrize("place", ["environment", "configuration", "--set"])
@pytest.mark.parametrize("value", [True, "True", "true"])
def test_fresh_weights_are_asked_for_in_any_place_and_spelling(
    place: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint that the environment names is not there: a training that loaded it would fail."""
    mmar = families.getting_started4(tmp_path / "mmar")
    change(mmar / CONFIG4, dont_load_ckpt_model=value if place == "configuration" else False)
    if place == "environment":
        change(mmar / "config/environment.json", dont_load_ckpt_model=value)
    arguments = [f"dont_load_ckpt_model={value}"] if place == "--set" else []
    assert run_train(mmar, CONFIG4, *arguments) == 0
    assert "start weights" not in capsys.readouterr().err


def test_a_switch_that_is_neither_true_nor_false_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmar = families.getting_started3(tmp_path / "mmar")
    change(mmar / "config/environment.json", MMAR_CKPT="models/none.pt", dont_load_ckpt_model="true")
    assert run_train(mmar, CONFIG3) == 0
    change(mmar / "config/environment.json", dont_load_ckpt_model="perhaps")
    assert run_train(mmar, CONFIG3) == 2
    said = capsys.readouterr().err
    assert "environment.json: dont_load_ckpt_model: expected true or false, received 'perhaps'" in said
    mmar = families.getting_started4(tmp_path / "mmar4")
    content = json.loads((mmar / CONFIG4).read_text())
    content["train"]["handlers"][0]["disabled"] = "True"
    write_json(mmar / CONFIG4, content)
    assert run_train(mmar, CONFIG4) == 2
    assert "train.handlers[0].disabled: expected true or false, received 'True'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "config", "other"),
    [
        (families.getting_started3, CONFIG3, {"name": "Focal", "args": {}}),
        (families.getting_started4, CONFIG4, {"name": "FocalLoss", "args": {"to_onehot_y": True}}),
    ],
)
def test_a_list_of_losses_is_the_one_that_takes_part(
    family: Callable[[Path], Path],
    config: str,
    other: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mmar = family(tmp_path / "mmar")
    own = json.loads((mmar / config).read_text())["train"]["loss"]
    change_part(mmar / config, "train", loss=[other | {"disabled": True}, own])
    assert run_train(mmar, config) == 0
    # As AutoML's files list them, for a search to choose.
    listed = [own | {"apply": {"@disabled": "first"}}, other | {"apply": {"@disabled": "second"}}]
    change_part(mmar / config, "train", loss=listed)
    assert run_train(mmar, config) == 2
    said = capsys.readouterr().err
    assert "train.loss: 2 of 2 take part, and exactly one loss is needed; AutoML's search, which would choose" in said
    assert "set disabled to true in all others" in said


def test_a_scheduler_that_is_no_component_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmar = families.getting_started4(tmp_path / "mmar")
    change_part(mmar / CONFIG4, "train", lr_scheduler="StepLR")
    assert run_train(mmar, CONFIG4) == 2
    assert "train.lr_scheduler: expected an object such as" in capsys.readouterr().err


def test_a_misspelt_key_beside_the_right_one_is_not_to_be_renamed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmar = families.getting_started3(tmp_path / "mmar")
    change_part(mmar / CONFIG3, "train", looss={"name": "Focal"})
    change(mmar / CONFIG3, epoch=7)
    assert run_train(mmar, CONFIG3) == 2
    said = capsys.readouterr().err
    assert "train.looss: unknown key; 'loss' is there already: take one of the two out" in said
    assert "epoch: unknown key; 'epochs' is there already: take one of the two out" in said


def test_variables_that_nothing_uses_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmar = families.getting_started3(tmp_path / "mmar")
    change(mmar / CONFIG3, EPOCHS=7)
    assert run_train(mmar, CONFIG3, "MMAR_CKPT_DR=models/other") == 0
    said = capsys.readouterr().err
    assert "--set MMAR_CKPT_DR: this file uses no such variable; write 'MMAR_CKPT_DIR'" in said
    assert "EPOCHS: a variable that this file does not use; 'epochs' is there already" in said


def test_marks_line_ends_and_comments_are_read_in_every_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A byte-order mark and Windows line ends, or comments and trailing commas, as NVIDIA's own files have them."""
    mmar = families.getting_started3(tmp_path / "mmar")
    files = [mmar / CONFIG3, mmar / VALIDATION3, mmar / "config/environment.json", tmp_path / "sampleData/dataset.json"]
    texts = [file.read_text() for file in files]
    for file, text in zip(files, texts, strict=True):
        file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert run_train(mmar, CONFIG3) == 0
    assert evaluate_main(["-m", str(mmar), "-c", VALIDATION3]) == 0
    for file, text in zip(files, texts, strict=True):
        file.write_text("// see http://nvidia.com\n" + text.rstrip().removesuffix("}") + ", /* the end, } */ }")
    capsys.readouterr()
    assert run_train(mmar, CONFIG3) == 0
    assert "dataset.json: forgave 2 comment(s) and 1 trailing comma(s)" in capsys.readouterr().err
    assert evaluate_main(["-m", str(mmar), "-c", VALIDATION3]) == 0
    # The datalist is read a second time, to know what the model has learnt from.
    assert "2 case(s), 1 of them in its training, too" in capsys.readouterr().err


def test_an_export_needs_no_training_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Published MMARs call theirs otherwise; and shapes come as scripts write them."""
    mmar = families.getting_started4(tmp_path / "a folder ü")
    assert run_train(mmar, CONFIG4, "MMAR_CKPT_DIR=models/config_train_Unet") == 0
    model = mmar / "models/config_train_Unet/model.pt"
    for shape in ("[1, 1, 16, 16, 16]", "(1,1,16,16,16)", "1 1 16 16 16"):
        assert export_main(["--local-rank=0", "--input_shape", shape, "-m", str(mmar), "--model_path", str(model)]) == 0
    assert export_main(["-m", str(mmar), "--model_path", str(model), "--input_shape", "[1, 1, a]"]) == 2
    assert "--input_shape is a list such as [1, 1, 160, 160, 160], not '[1, 1, a]'" in capsys.readouterr().err
    assert main(["export", str(mmar), "--set", 'engines=["torchscript"]']) == 0
    assert (model.parent / "model.fzn.ts").is_file()


@pytest.mark.parametrize(
    ("family", "advice"),
    [
        (families.deepgrow4, "deepgrow, which learns from"),
        (families.pathology4, "whole-slide pathology is not carried"),
    ],
)
def test_an_export_of_what_is_not_carried_says_so_and_not_train_first(
    family: Callable[[Path], Path], advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmar = family(tmp_path / "mmar")
    arguments = ["-m", str(mmar), "-c", "config/config_train.json", "--model_path", str(mmar / "models/model.pt")]
    assert export_main([*arguments, "--input_shape", "[1, 3, 256, 256]"]) == 2
    assert advice in capsys.readouterr().err


def test_claras_administration_answers_in_one_line() -> None:
    command = [sys.executable, "-m", "dlmed.hci.tools.admin", "--host", "localhost", "--prompt", "AutoML> "]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("dlmed.hci.tools.admin: Clara's administration of AutoML and federated learning")
    assert result.stderr.count("\n") == 1


def test_a_value_reaches_a_component_that_has_no_arguments_yet(tmp_path: Path) -> None:
    mmar = families.getting_started3(tmp_path / "mmar")
    assert run_train(mmar, CONFIG3, "train.optimizer.args.lr=0.1") == 0


def test_a_checkpoint_of_tensorflow_to_begin_from_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mmar = families.getting_started3(tmp_path / "mmar")
    (mmar / "models/model.ckpt.index").write_bytes(b"names")
    assert run_train(mmar, CONFIG3, "MMAR_CKPT=models/model.ckpt") == 2
    assert "models/model.ckpt is TensorFlow's, which can't be read" in capsys.readouterr().err


def test_a_switch_among_the_arguments_is_read_like_one_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Clara 4.0's notebooks disable the loader of the checkpoint."""
    mmar = families.getting_started4(tmp_path / "mmar")
    content = json.loads((mmar / CONFIG4).read_text())
    loader = content["train"]["handlers"][0]
    loader["args"]["disabled"] = loader.pop("disabled")
    write_json(mmar / CONFIG4, content)
    assert run_train(mmar, CONFIG4) == 0
    assert "start weights" not in capsys.readouterr().err
    assert run_train(mmar, CONFIG4, "dont_load_ckpt_model=no") == 2
    said = capsys.readouterr().err
    assert "dont_load_ckpt_model: expected true or false, received 'no'" in said
