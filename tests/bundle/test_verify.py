"""What a run of a bundle is proved by: the files of any data set, the weights of any network, and the cases counted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from voxflow.bundle.guard import StageBounds
from voxflow.bundle.verify import (
    check_dataset,
    compare_weights,
    count_cases,
    list_dataset_files,
    meet_engine,
    require_unchanged,
)
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
A, B = Path("/data/a.nii.gz"), Path("/data/b.nii.gz")


def pair() -> list[dict[str, Any]]:
    return [{"image": str(A), "label": 1}, {"image": B, "label": [0.0, 1.0]}]


def make_datasets() -> dict[str, Any]:
    from monai.data import CacheDataset, Dataset, ShuffleBuffer, SmartCacheDataset, ZipDataset

    return {
        "list": Dataset(pair()),
        "paths": Dataset([str(A), B]),
        "cached": CacheDataset(pair(), transform=lambda item: item, progress=False),
        "smart": SmartCacheDataset(pair(), transform=lambda item: item, cache_num=1, replace_rate=1.0, progress=False),
        "subset": Subset(Dataset(pair()), [0, 1]),
        "subset of a list": Dataset(Subset(pair(), [0, 1])),  # type: ignore[arg-type]
        "zip": ZipDataset([Dataset(pair()[:1]), Dataset(pair()[1:])]),
        "sum": ConcatDataset([Dataset(pair()[:1]), Dataset(pair()[1:])]),
        "buffer": ShuffleBuffer(Dataset(pair())),
    }


@pytest.mark.parametrize("kind", make_datasets())
def test_the_files_of_any_data_set_are_listed(kind: str) -> None:
    assert list_dataset_files(make_datasets()[kind]) == frozenset({A, B})


@pytest.mark.parametrize("dataset", [None, object(), DataLoader([1, 2]), [{"image": str(A)}]])  # type: ignore[arg-type]
def test_what_cannot_be_looked_at_is_not_listed(dataset: Any) -> None:
    assert list_dataset_files(dataset) is None


def test_a_data_set_without_files_lacks_the_cases() -> None:
    from monai.data import Dataset

    engine = SimpleNamespace(data_loader=SimpleNamespace(dataset=Dataset([{"image": torch.zeros(1)}])))
    with pytest.raises(ConfigError, match="'trainer' goes through 0 of the training's 2 images: it reads other data"):
        check_dataset(engine, pair(), "trainer", StageBounds((Path("/out"),)), part="training")


@pytest.mark.parametrize(
    ("wrap", "content", "expected"),
    [
        (lambda network: network, lambda state: state, True),
        (lambda network: network.half(), lambda state: state, True),
        (torch.nn.DataParallel, lambda state: state, True),
        (lambda network: network, lambda state: {"model": state, "epoch": 3}, True),
        (lambda network: network, lambda state: {"a": {k: v + 1 for k, v in state.items()}, "ema": state}, True),
        (lambda network: network, lambda state: {f"module.{name}": value for name, value in state.items()}, True),
        (lambda network: network, lambda state: {name: value + 1 for name, value in state.items()}, False),
        (lambda network: network, lambda state: {name: value[:0] for name, value in state.items()}, False),
        (lambda network: network, lambda state: {"weight": state["weight"]}, None),
        (lambda network: network, lambda _: [1, 2], None),
    ],
)
def test_weights_are_compared_in_the_network(
    tmp_path: Path, wrap: Callable[[Any], Any], content: Callable[[Any], Any], expected: bool | None
) -> None:
    network = torch.nn.Linear(3, 2)
    torch.save(content({name: value.clone() for name, value in network.state_dict().items()}), tmp_path / "model.pt")
    assert compare_weights(wrap(network).state_dict(), tmp_path / "model.pt") is expected


@pytest.mark.parametrize(
    ("cases", "batch", "drop", "steps", "count"),
    [(3, 1, False, 3, 3), (3, 2, False, 2, 3), (3, 2, True, 1, 2), (3, 1, False, 1, 1)],
)
def test_cases_that_no_batch_held_are_missed(cases: int, batch: int, drop: bool, steps: int, count: int) -> None:
    loader: Any = DataLoader(list(range(cases)), batch_size=batch, drop_last=drop)  # type: ignore[arg-type]
    engine = SimpleNamespace(data_loader=loader, state=SimpleNamespace(iteration=steps))
    assert count_cases(engine, {}, "evaluator") == count
    data = {"dataset#data": [{"image": str(n)} for n in range(cases)]}
    if count == cases:
        assert count_cases(engine, data, "evaluator") == cases
    else:
        with pytest.raises(
            ConfigError, match=f"evaluator: the evaluator went through {count} cases, and the stage has 3"
        ):
            count_cases(engine, data, "evaluator")


def test_an_engine_of_ignites_shows_the_data_that_it_is_given() -> None:
    from ignite.engine import Engine
    from monai.bundle import ConfigParser

    engine, loader, met = Engine(lambda _, batch: batch), DataLoader([1, 2]), []  # type: ignore[arg-type, var-annotated]
    parser = ConfigParser({"trainer": engine, "run": "$@trainer"})
    parser.get_parsed_content("run")
    with meet_engine(parser, "trainer", met.append):
        engine.run(loader, 2)
        engine.run(loader, 3)
    assert met == [engine]
    assert engine.data_loader is loader


@pytest.mark.parametrize("change", ["write", "remove", "add"])
def test_any_change_of_protected_files_is_noticed(tmp_path: Path, change: str) -> None:
    file = tmp_path / "config/train.json"
    file.parent.mkdir()
    file.write_text("{}")
    bounds = StageBounds((tmp_path / "out",), protected=(file.parent,))
    actions: dict[str, Callable[[], Any]] = {
        "write": lambda: file.write_text("[1]"),
        "remove": file.unlink,
        "add": lambda: file.with_name("more.json").write_text("[1]"),
    }
    with pytest.raises(ConfigError, match=r"wrote, changed or removed .*json"):
        run_in_bounds(bounds, actions[change])
    run_in_bounds(bounds, (tmp_path / "out").mkdir)


def run_in_bounds(bounds: StageBounds, action: Callable[[], Any]) -> None:
    with require_unchanged(bounds):
        action()
