"""A cross-validation in DVC: fold by fold, then all together; it runs once, and leaves the other stages alone."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from typing import TYPE_CHECKING

import pytest

from tests.dag.repository import CHEST, SPLEEN, Repository
from tests.tables import read_table

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TARGETS = (f"evaluate_ensemble@{CHEST}", f"infer_ensemble@{CHEST}")
FOLDED = {f"{stage}_fold@{CHEST}-{fold}" for stage in ("train", "export", "evaluate") for fold in (1, 2)}


def ran(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    copy = Repository.copy_to(tmp_path_factory.mktemp("repository"))
    params = copy.params
    params["samples"] = {CHEST: params["samples"][CHEST] | {"images": 48}}
    params["workspaces"].pop(SPLEEN)
    params["workspaces"][CHEST]["train"]["set"] = {"epochs": 1}
    params["workspaces"][CHEST]["export"]["engines"] = ["onnx", "openvino"]
    copy.set_params(params)
    copy.run("dvc", "repro", f"train@{CHEST}")
    copy.run(sys.executable, "-m", "voxflow.cli.main", "folds", CHEST, "2")
    return copy


def test_folds_run_once_and_the_workspaces_own_training_not_again(repository: Repository) -> None:
    assert ran(repository.run("dvc", "repro", *TARGETS).stdout) == {f"split@{CHEST}", *FOLDED, *TARGETS}
    assert not ran(repository.run("dvc", "repro", f"train@{CHEST}", *TARGETS).stdout)


def test_every_labelled_case_is_held_out_once_or_tested(repository: Repository) -> None:
    part_of = {row["case"]: row["part"] for row in read_table(repository.root / f"data/datalists/{CHEST}/split.csv")}
    tables = {name: rows(repository.root / f"mmars/{CHEST}/eval" / name) for name in PLACES}
    held_out = [row["case"] for name in PLACES[:2] for row in tables[name]]
    assert sorted(held_out) == sorted(case for case in part_of if part_of[case] in {"training", "validation"})
    assert {row["case"] for row in tables[PLACES[2]]} == {case for case in part_of if part_of[case] == "testing"}


PLACES = ("folds/1/held_out", "folds/2/held_out", "ensemble/test")


def rows(folder: Path) -> list[dict[str, str]]:
    return read_table(folder / "per_case.csv")


def test_folds_are_the_children_of_one_run(repository: Repository) -> None:
    def run_of(place: str) -> str:
        return str(json.loads(repository.read(f"mmars/{CHEST}/{place}/run.json"))["run_id"])

    parent = run_of("eval/ensemble")
    query = "select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?"
    with sqlite3.connect(repository.root / "mlflow.db") as store:
        children = {row[0] for row in store.execute(query, (parent,))}
    assert children == {run_of(f"models/folds/{fold}/train") for fold in (1, 2)}


def test_a_flow_takes_the_folds_along(repository: Repository) -> None:
    program = f"from tasks.ops.graph import read_graph; print(*(node.address for node in read_graph('{CHEST}')))"
    addresses = repository.run(sys.executable, "-c", program).stdout.split()
    assert {*FOLDED, *TARGETS} < set(addresses)
    assert addresses.index(f"train_fold@{CHEST}-2") < addresses.index(f"evaluate_ensemble@{CHEST}")


def test_without_folds_their_stages_are_gone(repository: Repository) -> None:
    repository.run(sys.executable, "-m", "voxflow.cli.main", "folds", CHEST, "0")
    stages = repository.run("dvc", "stage", "list", "--name-only").stdout
    assert "fold" not in stages
    assert "ensemble" not in stages
    assert not {f"train@{CHEST}"} & ran(repository.run("dvc", "repro", f"train@{CHEST}").stdout)
