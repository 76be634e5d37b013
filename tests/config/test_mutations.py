"""Printed configurations, broken at random: a fault is always reported as one, never as a traceback."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from voxflow.config import load_evaluation, load_workflow
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = sorted((Path(__file__).parent / "seeds").glob("[ct]l*_*.json"))
PLACES = {"DATA_ROOT": "/d", "DATASET_JSON": "l", "MMAR_EVAL_OUTPUT_PATH": "e", "MMAR_CKPT_DIR": "m"}
KEYS = ("name", "args", "path", "zz", "disabled", "search", "ref", "__c", "tag", "tags")
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 1.5, 10**30, "", "x", "{DATA_ROOT}", "{NOPE}", "tlt2:x", "a#b", [], [[1]], [None], {}),
    *({"ref": "LoadNifty"}, {"name": "Dice"}, {"name": 3}, {"name": "#"}, {"path": "a.B"}, {"path": ""}),
    *({"name": "x", "args": {}}, {"disabled": True}, {"a": {"b": 1}}),
)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if above:
        yield above
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*above, key))


def broken(config: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    for _ in range(rng.choice([1, 1, 2, 4])):
        *above, last = rng.choice([*places(config)] or [("name",)])
        holder: Any = config
        for key in above:
            holder = holder[key]
        value = copy.deepcopy(rng.choice(VALUES))
        match rng.random():
            case share if share < 0.5:
                holder[last] = value
            case share if share < 0.7:
                holder.pop(last, None) if isinstance(holder, dict) else holder.pop(last)
            case _:
                holder.append(value) if isinstance(holder, list) else holder.update({rng.choice(KEYS): value})
    return config


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_a_broken_configuration_is_a_list_of_faults(path: Path, tmp_path: Path) -> None:
    rng = random.Random(path.stem)
    load = load_workflow if path.stem.endswith("_train") else load_evaluation
    file = tmp_path / "config.json"
    faults: list[str] = []
    for _ in range(60):
        file.write_text(json.dumps(broken(json.loads(path.read_text(encoding="utf-8")), rng)), encoding="utf-8")
        try:
            load(file, overrides=PLACES)
        except ConfigError as error:
            faults += error.findings
    assert len(faults) > 30
    assert all(line.startswith((f"{file}: ", "and ")) for line in faults)
