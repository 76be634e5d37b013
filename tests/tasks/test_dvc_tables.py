"""What DVC shows: few scores in a table that fits a screen, plots without a network; and what it restores."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.common.scores import write_plots, write_scores
from tasks.common.stage import Stage

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
WIDTH = 120


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real graph and its settings, with the files that DVC shows of two evaluations."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", ".dvc/.gitignore", ".dvc/config"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_results("spleen_demo", {"mean_dice": 0.93847, "hd95_spleen": 5.6, "cases": 3, "failed_cases": 0})
        numbers = {"mean_auc": 0.92519, "mean_average_precision": 0.8998, "ece_mass": 0.1, "failed_cases": 2}
        write_results("chestxray_demo", numbers)
    for command in (["init", "-q"], ["add", "-A"], [*IDENTITY, "commit", "-qm", "results"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def plots_page(repository: Path) -> Path:
    dvc(repository, "plots", "show")
    return repository / "dvc_plots/index.html"


IDENTITY = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]


def write_results(workspace: str, numbers: dict[str, float]) -> None:
    stage = Stage(workspace, "evaluate", {"task": "segmentation"})
    folder = stage.evaluation / "test"
    for path in (folder, stage.metrics.parent, stage.models):
        path.mkdir(parents=True)
    if "mean_dice" in numbers:
        (folder / "per_case.csv").write_text(
            "case,mean_dice,dice_spleen,remark\na,0.9,0.95,\nb,,,failed: unreadable\nc,0.5,0.5,\n"
        )
    else:
        (folder / "per_case.csv").write_text("case,mass,probability_mass,remark\na,1,0.75,\nb,0,0.5,\n")
        (folder / "roc.csv").write_text("class,fpr,tpr\nmass,0,0\nmass,1,1\n")
    (stage.models / "curves.csv").write_text("epoch,train_loss,mean_dice\n1,0.9,0.1\n2,0.5,0.6\n")
    stage.metrics.write_text(json.dumps(numbers))
    write_scores(stage, numbers)
    write_plots(stage, folder)


def dvc(root: Path, *arguments: str) -> str:
    environment = os.environ | {"COLUMNS": str(WIDTH), "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_scores_are_few_and_their_names_short(repository: Path) -> None:
    scores = json.loads((repository / "data/metrics/spleen_demo/scores.json").read_text())
    assert scores == {"spleen_demo": {"dice": 0.9385}}
    scores = json.loads((repository / "data/metrics/chestxray_demo/scores.json").read_text())
    assert scores == {"chestxray_demo": {"auc": 0.9252, "failed": 2}}


def test_a_bundles_own_metrics_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/metrics/spleen").mkdir(parents=True)
    write_scores(Stage("spleen", "evaluate", {}), {"val_mean_dice": 0.25, "cases": 1})
    assert json.loads(Path("data/metrics/spleen/scores.json").read_text()) == {
        "spleen": {"val_mean_dice": 0.25, "cases": 1}
    }


def test_a_table_of_experiments_fits_a_screen(repository: Path, tmp_path: Path) -> None:
    command = re.search(r"^dvc (exp show .*?)(?: +#.*)?$", (ROOT / "docs/tracking.md").read_text(), re.MULTILINE)
    assert command
    # Files of git in the place of DVC's outputs, which only a run of the graph makes.
    names = [f"data/metrics/{workspace}/scores.json" for workspace in ("spleen_demo", "chestxray_demo")]
    root = tmp_path / "copy"
    shutil.copytree(repository, root)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"metrics": names, "params": ["params.yaml"]}))
    (root / ".gitignore").unlink()
    for arguments in (["add", "-A"], [*IDENTITY, "commit", "-qm", "the metrics"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    for name, old, new in (
        ("params.yaml", "epochs: 100", "epochs: 50"),
        (names[0], "0.9385", "0.91"),
        (names[1], "0.9252", "0.88"),
    ):
        (root / name).write_text((root / name).read_text().replace(old, new))
    table = dvc(root, *[part.strip("'") for part in command[1].split()], "--no-pager")
    assert max(map(len, table.splitlines())) <= WIDTH
    assert "…" not in table
    assert all(text in table for text in ("spleen_demo.dice", "0.91", "0.9385", "chestxray_demo.auc", "0.88", "50"))
    assert "failed" not in table


def test_plots_show_curves_roc_and_cases_without_a_network(plots_page: Path) -> None:
    page = plots_page.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    for name in ("mmars/spleen_demo/models/curves.csv", "data/plots/spleen_demo/per_case.csv"):
        assert name in page
    assert "data/plots/chestxray_demo/roc.csv" in page
    assert "vegaEmbed" in page
    assert "vega.github.io/schema" in page


def test_a_browser_draws_the_plots(plots_page: Path, tmp_path: Path) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("Chromium is missing: make test-services installs it")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000", "--dump-dom"]
    command = [chromium, *options, plots_page.as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    # The ROC of a segmentation is empty, and left out.
    assert len(re.findall(r"<canvas", drawn)) == 5


def test_the_rows_of_the_plots(repository: Path) -> None:
    def read(name: str) -> list[str]:
        return (repository / "data/plots" / name).read_text().splitlines()

    assert read("spleen_demo/per_case.csv") == ["case,class,score", "a,spleen,0.95", "c,spleen,0.5"]
    assert read("spleen_demo/roc.csv") == ["class,fpr,tpr"]
    assert read("chestxray_demo/per_case.csv") == ["case,class,score", "a,mass,0.750000", "b,mass,0.500000"]
    assert read("chestxray_demo/roc.csv") == ["class,fpr,tpr", "mass,0,0", "mass,1,1"]


def test_no_stage_that_dvc_can_not_restore_writes_below_data() -> None:
    """DVC's run cache leaves out stages with persistent outputs, so that a removed data/ would train again."""
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    persistent = set()
    for name, stage in stages.items():
        outs = [out for key in ("outs", "metrics", "plots") for out in stage["do"].get(key, ())]
        paths = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
        if any(isinstance(out, dict) and next(iter(out.values())).get("persist") for out in outs):
            persistent.add(name)
            assert [path for path in paths if path.startswith("data/")] == [], name
    assert persistent == {"train", "train_fold", "promote"}
