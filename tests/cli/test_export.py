"""``voxflow export`` takes an MMAR, a folder of checkpoints or one of them, and every option of the stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.inference.models import save_unet
from voxflow.cli.main import main
from voxflow.engines import open_engine

if TYPE_CHECKING:
    from pathlib import Path

FEW = ("--set", 'engines=["openvino"]')


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_unet(tmp_path / "model.pt")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_alone_and_the_engines_that_are_wanted(checkpoint: Path, tmp_path: Path) -> None:
    renamed = checkpoint.rename(tmp_path / "best.pt")
    assert main(["export", str(renamed), "--set", 'engines=["onnx"]']) == 0
    assert files(tmp_path) == ["best.fzn.onnx", "best.parity.json", "best.pt"]


@pytest.mark.parametrize("flags", [("--openvino_precision", "bf16"), ("--set", "openvino_precision=bf16")])
def test_the_precision_of_openvino(
    flags: tuple[str, ...], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Random weights on noise: almost every voxel is a near tie.
    assert main(["export", str(tmp_path), *flags, *FEW, "reduced_min_dice=0.8"]) == 0
    assert 'value="bf16"' in (tmp_path / "model.trt.xml").read_text()
    assert open_engine(tmp_path / "model.trt.xml").name == "openvino"
    assert "model.trt.xml equal torch on noise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            ["--set", "openvino_precison=int8"],
            "--set openvino_precison: Extra inputs are not permitted; there is engines",
        ),
        (["--set", "openvino_precision=int4"], "--set openvino_precision: Input should be 'fp32', 'bf16' or 'int8'"),
        (["--set", "opset"], "--set takes KEY=VALUE, received 'opset'"),
    ],
)
def test_wrong_settings_are_named(
    more: list[str], expected: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), *more]) == 2
    assert expected in capsys.readouterr().err


def test_what_is_no_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert main(["export", str(tmp_path / "model.onnx")]) == 2
    assert "model.onnx: only a checkpoint (.pt) can be exported" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "gone.pt")]) == 2
    assert "gone.pt" in capsys.readouterr().err
