"""An adopted model in DVC: every stage runs, and none of them trains."""

from __future__ import annotations

import json
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.adopt.folders import make_dataset, make_plans
from tests.adopt.test_cascade import write_cascade
from tests.adopt.test_nnunet import write_model
from tests.dag.repository import SPLEEN, Repository

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NAME, CHALLENGER = "adopted_spleen", "spleen_here"
STAGES = ("convert", "validate", "resample", "split", "train", "export", "evaluate", "infer", "promote", "report")


def write_results(kind: str, root: Path) -> list[Path]:
    """Result folders of nnU-Net with random weights."""
    dataset = make_dataset({"background": 0, "spleen": 1})
    if kind == "cascade":
        return [write_cascade(root, dataset, spacing=(8.0, 4.0, 4.0))]
    plans = make_plans(spacing=(8.0, 4.0, 4.0), patch=(32, 64, 64))
    folders = [write_model(root / "first", plans, dataset)]
    if kind == "joined":
        coarse = make_plans(spacing=(9.0, 6.0, 6.0), patch=(16, 32, 32))
        folders.append(write_model(root / "second", coarse, make_dataset({"background": 0, "kidney": 1})))
    return folders


@pytest.mark.parametrize(("kind", "networks"), [("one network", 1), ("cascade", 2), ("joined", 2)])
def test_every_stage_runs_on_an_adopted_model_and_none_again(kind: str, networks: int, tmp_path: Path) -> None:
    repository = Repository.copy_to(tmp_path / "repository")
    params = repository.params
    demo = params["workspaces"][SPLEEN]
    params["samples"] = {SPLEEN: params["samples"][SPLEEN] | {"patients": 6}}
    params["workspaces"] = {}
    repository.set_params(params)
    results = map(str, write_results(kind, tmp_path / "results"))
    adopt = ("adopt", *results, "--name", NAME, "--source", f"data/raw/{SPLEEN}")
    repository.run(sys.executable, "-m", "voxflow.cli.main", *adopt)
    params = repository.params
    for stage in ("evaluate", "infer"):
        params["workspaces"][NAME][stage]["flips"] = []  # quicker; other tests compare mirrored masks
    params["workspaces"][NAME]["promote"] = {"floor": 0, "allow_failed_checks": True}  # its weights are random
    repository.set_params(params)
    output = repository.run("dvc", "repro").stdout
    assert set(re.findall(r"Running stage '([^']+)'", output)) == {
        f"sample@{SPLEEN}",
        *(f"{stage}@{NAME}" for stage in STAGES),
    }
    folder = repository.root / "mmars" / NAME
    assert json.loads((folder / "eval/decision.json").read_text())["verdict"] == "promoted"
    assert "trained elsewhere" in (folder / "eval/model_card.md").read_text()
    assert list((folder / "eval/infer").rglob("*.nii.gz"))
    assert len(list((folder / "models/export").glob("*.xml"))) == networks
    parity = json.loads((folder / "models/parity.json").read_text())
    assert {name: parity[name]["published"] for name in ("onnxruntime", "openvino")} == {
        "onnxruntime": 1,
        "openvino": 1,
    }
    package(repository, networks)
    assert "Running stage" not in repository.run("dvc", "repro").stdout
    challenge(repository, demo, has_its_classes=kind != "joined")


def package(repository: Repository, networks: int) -> None:
    """Package the model: the container has the files of every network, and Triton takes one network alone."""
    command = (sys.executable, "-m", "voxflow.cli.main", "package", f"mmars/{NAME}", "--out")
    repository.run(*command, "container")
    assert len(list((repository.root / "container/models" / NAME).glob("*.onnx"))) == networks
    triton = repository.run(*command, "model_repository", "--format", "triton", check=False)
    assert (triton.returncode == 0) == (networks == 1)
    assert networks == 1 or "has several networks, and Triton runs one; make a container of it" in triton.stderr


def challenge(repository: Repository, demo: dict[str, Any], *, has_its_classes: bool) -> None:
    """Train a model here: it is compared with the adopted champion on the same test cases, if that has its classes."""
    params = repository.params
    adopted = params["workspaces"][NAME]
    same = {key: adopted[key] for key in ("source", "convert", "validate", "split")}
    params["workspaces"][CHALLENGER] = demo | same | {"promote": {"model": NAME}}
    repository.set_params(params)
    shutil.copytree(repository.root / "mmars" / SPLEEN, repository.root / "mmars" / CHALLENGER)
    repository.run("dvc", "repro", f"promote@{CHALLENGER}")
    decision = json.loads(repository.read(f"mmars/{CHALLENGER}/eval/decision.json"))
    assert (decision["champion"], decision["challenger"]) == ("1", "2")
    assert decision["verdict"] in ("promoted", "kept")
    assert not [reason for reason in decision["reasons"] if "different test parts" in reason]
    if has_its_classes:
        assert decision["numbers"]["cases"] >= 1
    else:
        assert decision["verdict"] == "kept"
        assert "segmentation of spleen, and segmentation of spleen, kidney" in decision["reasons"][0]
