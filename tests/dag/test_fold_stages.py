"""With folds in params.yaml, DVC's graph has their stages, and looks for outputs where the programs write them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tasks.common.folds import load_ensemble, load_fold
from tasks.ops.graph import read_graph
from voxflow.workspace.folds import set_folds

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = "spleen_demo"
# DVC's own use of pygtrie.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from dvc.repo import Repo

    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    set_folds(tmp_path / "params.yaml", WORKSPACE, 2)
    Repo.init(str(tmp_path), no_scm=True).close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs() -> dict[str, set[Path]]:
    """What each stage declares, by DVC's address."""
    from dvc.repo import Repo

    with Repo() as repository:
        stages = repository.index.stages
        return {stage.addressing: {Path(out.fs_path).relative_to(Path.cwd()) for out in stage.outs} for stage in stages}


@pytest.mark.usefixtures("repository")
def test_outputs_are_where_the_programs_write() -> None:
    declared = outputs()
    train, export, evaluate = (load_fold(WORKSPACE, 2, name) for name in ("train", "export", "evaluate"))
    together, inferred = (load_ensemble(WORKSPACE, name) for name in ("evaluate", "infer"))
    expected = {
        f"train_fold@{WORKSPACE}-2": {train.models / name for name in ("train", "curves.csv", "train.json")},
        f"export_fold@{WORKSPACE}-2": {export.models / "export", export.models / "parity.json"},
        f"evaluate_fold@{WORKSPACE}-2": {evaluate.evaluation / "held_out", evaluate.metrics},
        f"evaluate_ensemble@{WORKSPACE}": {
            together.metrics,
            together.metrics.with_name("scores.json"),
            *(together.evaluation / name for name in ("test", "run.json", "cross_validation.csv")),
        },
        f"infer_ensemble@{WORKSPACE}": {inferred.evaluation / "infer", inferred.metrics},
    }
    assert {address: declared[address] for address in expected} == expected


@pytest.mark.usefixtures("repository")
def test_a_workspace_takes_its_folds_along_and_needs_each_of_them() -> None:
    nodes = {node.address: node for node in read_graph(WORKSPACE)}
    stages = [f"{stage}_fold@{WORKSPACE}-{fold}" for stage in ("train", "export", "evaluate") for fold in (1, 2)]
    assert set(nodes[f"evaluate_ensemble@{WORKSPACE}"].upstream) >= set(stages)
    assert set(nodes[f"train_fold@{WORKSPACE}-1"].upstream) == {f"resample@{WORKSPACE}", f"split@{WORKSPACE}"}
    assert not any("fold" in node.address or "ensemble" in node.address for node in read_graph("chestxray_demo"))


def test_without_folds_nothing_is_added(repository: Path) -> None:
    before = {address for address in outputs() if "fold" not in address and "ensemble" not in address}
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    (repository / "params.yaml").write_text(yaml.safe_dump({k: v for k, v in params.items() if "fold" not in k}))
    assert set(outputs()) == before
