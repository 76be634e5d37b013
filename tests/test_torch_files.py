"""Files of torch: equal bytes for equal content, and no advice to run what a file holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from voxflow.bundle.guard import _explain_refusal
from voxflow.components.networks.modules.weights import _read
from voxflow.errors import DataError
from voxflow.torch_files import open_torch_file, read_torch, save_torch
from voxflow.training import read_checkpoint, read_weights
from voxflow.training.state import read_state

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
CONTENT: dict[str, Any] = {"a": torch.arange(6.0), "text": "x", "nested": {"b": torch.ones(2, 3)}}


class Harmful:
    """Asks for a file to be made when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def harmful(tmp_path: Path) -> Path:
    torch.save({"a": torch.zeros(1), "code": Harmful(tmp_path / "made")}, tmp_path / "harmful.pt")
    return tmp_path / "harmful.pt"


def test_equal_content_gives_equal_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    for name in ("a/model.pt", "b c/other name.pt"):
        save_torch(tmp_path / name, CONTENT)
    assert (tmp_path / "a/model.pt").read_bytes() == (tmp_path / "b c/other name.pt").read_bytes()
    assert torch.equal(read_torch(tmp_path / "a/model.pt", "file")["nested"]["b"], CONTENT["nested"]["b"])


def test_equal_scripts_give_equal_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    for name in ("a/model.ts", "b c/other name.ts"):
        module = torch.nn.Conv2d(1, 2, 3)
        for value in module.parameters():
            torch.nn.init.ones_(value)
        with open_torch_file(tmp_path / name) as stream:
            torch.jit.save(torch.jit.script(module), stream, _extra_files={"spec.json": "{}"})
    assert (tmp_path / "a/model.ts").read_bytes() == (tmp_path / "b c/other name.ts").read_bytes()
    script = torch.jit.load(str(tmp_path / "a/model.ts"))  # type: ignore[no-untyped-call]
    assert script(torch.ones(1, 1, 3, 3)).shape == (1, 2, 1, 1)


def test_a_file_whose_archive_has_the_name_of_its_file_is_read(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / ".partial-ab12.pt")
    assert read_torch(tmp_path / ".partial-ab12.pt", "file")["text"] == "x"


@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_torch(path, "file"),
        lambda path: read_torch(path, "file", mmap=True),
        read_checkpoint,
        read_weights,
        _read,
    ],
    ids=["read", "mapped", "checkpoint", "weights", "pretrained"],
)
def test_a_refused_file_is_answered_with_our_advice(read: Callable[[Path], object], harmful: Path) -> None:
    with pytest.raises(DataError, match=r"Voxflow runs no code of a file of weights; with the") as caught:
        read(harmful)
    message = str(caught.value)
    assert "torch.save(model.state_dict(), FILE) (it asks for" in message
    assert "mkdir" in message
    assert not [
        word for word in ("weights_only", "only if you trust", "will likely succeed", "allowlist") if word in message
    ]
    assert not (harmful.parent / "made").exists()


def test_a_bundle_that_loads_such_a_file_is_answered_with_our_advice(harmful: Path) -> None:
    load = _explain_refusal(torch.load)
    for arguments in ({}, {"weights_only": True}):
        with pytest.raises(DataError, match=r"harmful.pt: it can't be read without running code") as caught:
            load(str(harmful), **arguments)
        assert "weights_only" not in str(caught.value)


def test_a_refused_state_is_answered_with_our_advice(harmful: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_state(harmful) is None
    line = capsys.readouterr().err
    assert "the run is not continued" in line
    assert "save the tensors alone" in line
    assert "weights_only" not in line


def test_an_object_of_numpy_is_refused_with_our_advice(tmp_path: Path) -> None:
    torch.save({"a": np.float64(1.0), "b": np.zeros(2)}, tmp_path / "numpy.pt")
    with pytest.raises(DataError, match=r"save the tensors alone: .* \(it asks for numpy") as caught:
        read_torch(tmp_path / "numpy.pt", "file")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x02}q\x00", b"text"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"model.pt: no model file: \S+"):
        read_torch(tmp_path / "model.pt", "model file")


def test_an_exported_script_is_the_same_in_every_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import torch\n"
        "from tests.inference.models import volume_spec\nfrom voxflow.engines.torchscript import write_torchscript\n"
        "network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.BatchNorm3d(2)).eval()\n"
        "[torch.nn.init.ones_(value) for value in network.parameters()]\n"
        "write_torchscript(network, volume_spec(), Path(sys.argv[1]))"
    )
    for seed in ("1", "2"):  # of the order in which Python goes through a set
        command = [sys.executable, "-c", program, str(tmp_path / f"{seed}.ts")]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed})
    assert (tmp_path / "1.ts").read_bytes() == (tmp_path / "2.ts").read_bytes()
