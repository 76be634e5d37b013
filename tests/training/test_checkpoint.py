"""Model files that can't be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from voxflow.components import Component, build_network
from voxflow.errors import DataError
from voxflow.spec import ModelSpec
from voxflow.training import load_model, save_model

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = Component(name="Unet", args={"nf_enc": [4, 8], "in_channels": 1, "num_classes": 2})
SPEC = ModelSpec(task="segmentation", class_names=("background", "x"), activation="softmax", divisor=2)


def test_a_model_answers_the_same_after_loading(tmp_path: Path) -> None:
    network = build_network(NETWORK).eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    save_model(tmp_path / "model.pt", network, NETWORK, spec=SPEC, epoch=3, metric=0.5)
    loaded, spec = load_model(tmp_path / "model.pt")
    image = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(loaded(image), network(image))
    assert spec == SPEC
    assert not loaded.training


def test_missing_foreign_and_truncated_files_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model.pt: file not found; train first"):
        load_model(tmp_path / "model.pt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    with pytest.raises(DataError, match="no Voxflow model file of format 1"):
        load_model(tmp_path / "foreign.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(DataError, match="no model file"):
        load_model(tmp_path / "text.pt")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit",))

    torch.save(Evil(), tmp_path / "evil.pt")
    with pytest.raises(DataError, match="no model file"):
        load_model(tmp_path / "evil.pt")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    another = NETWORK.model_copy(update={"args": {**NETWORK.args, "nf_enc": [4, 16]}})
    save_model(tmp_path / "model.pt", build_network(NETWORK), another, spec=SPEC, epoch=1, metric=0.0)
    with pytest.raises(DataError, match="weights don't fit the network"):
        load_model(tmp_path / "model.pt")
