"""Starting from weights that exist, and leaving some of them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.training.conftest import volume_config, workflow_of
from voxflow.errors import ConfigError, DataError
from voxflow.tracking import NullTracker
from voxflow.training import TrainOptions, load_model, train
from voxflow.training.weights import freeze, load_weights, read_weights, to_training_mode

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.datalist import Datalist
    from voxflow.training import DataFacts


def small(classes: int = 2) -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, classes))


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module."])
def test_plain_state_dicts_are_read_however_they_are_wrapped(tmp_path: Path, wrap: str) -> None:
    source = small().state_dict()
    content: dict[str, Any] = {"plain": dict(source), "state_dict": {"state_dict": source, "epoch": 3}}.get(
        wrap, {f"module.{name}": value for name, value in source.items()}
    )
    torch.save(content, tmp_path / "any.pth")
    network = small()
    report = load_weights(network, read_weights(tmp_path / "any.pth"), tmp_path / "any.pth")
    assert len(report.loaded) == len(source)
    assert report.mismatched == report.missing == report.unused == ()
    assert all(torch.equal(value, source[name]) for name, value in network.state_dict().items())


def test_partial_weights_are_taken_and_the_rest_is_named(tmp_path: Path) -> None:
    weights = small(5).state_dict()
    del weights["0.bias"]
    weights["extra"] = torch.zeros(1)
    network = small()
    fresh = network.state_dict()["2.weight"].clone()
    report = load_weights(network, weights, tmp_path)
    assert report.mismatched == ("2.weight [5, 4] instead of [2, 4]", "2.bias [5] instead of [2]")
    assert (report.missing, report.unused) == (("0.bias",), ("extra",))
    assert torch.equal(network.state_dict()["0.weight"], weights["0.weight"])
    assert torch.equal(network.state_dict()["2.weight"], fresh)
    assert report.line().startswith("6 of 9 weights taken; of another shape, so fresh: 2.weight [5, 4] instead of")


def test_weights_of_another_network_are_an_error_that_shows_both(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of its 1 weights fits .* it has stem \[3\], the network 0.weight"):
        load_weights(small(), {"stem": torch.zeros(3)}, tmp_path / "x.pt")


def test_files_that_hold_no_weights_or_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit",))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(DataError, match=r"no file of weights: it can.t be read without running code that it holds"):
        read_weights(tmp_path / "evil.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match="no weights in it"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(DataError, match="file of start weights not found"):
        read_weights(tmp_path / "none.pt")


def test_frozen_layers_keep_weights_and_running_statistics() -> None:
    network = small()
    assert freeze(network, ["0.*", "1"]) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    to_training_mode(network)
    assert network.training
    assert not network[1].training
    network(torch.randn(8, 3)).sum().backward()
    assert network[0].weight.grad is None
    assert torch.equal(network.state_dict()["1.running_mean"], torch.zeros(4))


def test_a_pattern_without_a_parameter_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"freeze: '2.wieght' fits no parameter .* such as '2.weight'"):
        freeze(small(), ["2.wieght"])
    with pytest.raises(ConfigError, match=r"freeze: '\*' leaves no parameter to be trained"):
        freeze(small(), ["*"])


def test_fine_tuning_starts_from_the_model_and_moves_only_what_is_free(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = workflow_of(volume_config(), tmp_path, epochs=1)
    out = tmp_path / "m"
    train(workflow, cubes, options, out, facts=facts, tracker=NullTracker())
    before = load_model(out / "model_final.pt")[0].state_dict()
    tuned = options.model_copy(update={"checkpoint": out / "model_final.pt", "freeze": ("model.0.*",)})
    capsys.readouterr()
    train(workflow, cubes, tuned, out, facts=facts, tracker=NullTracker())
    after = load_model(out / "model_final.pt")[0].state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("model.0.")} <= same
    assert len(same) < len(before)
    assert f"start weights from {out}/model_final.pt: {len(before)} of {len(before)}" in capsys.readouterr().err
