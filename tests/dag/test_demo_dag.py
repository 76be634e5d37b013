"""From a folder of DICOM to a report in one ``dvc repro``, on small synthetic data."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest
import SimpleITK as sitk

from tasks.ops.reach import Code
from tests.dag.repository import CHEST, SPLEEN, FirstRun, unreached_modules
from tests.tables import read_table

if TYPE_CHECKING:
    from tests.dag.repository import Repository

pytestmark = pytest.mark.timeout(1500)  # the first test runs the whole DAG

STAGES = ["convert", "validate", "resample", "split", "train", "export", "evaluate", "infer", "promote", "report"]


def ran(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_first_run_runs_every_stage_of_both_workspaces(first_run: FirstRun) -> None:
    assert ran(first_run.output) == {f"{stage}@{ws}" for ws in (SPLEEN, CHEST) for stage in ["sample", *STAGES]}


def test_nothing_tries_to_reach_the_outside(first_run: FirstRun) -> None:
    assert first_run.connections == []


def test_digests_cover_every_module_that_a_stage_imported(first_run: FirstRun) -> None:
    # The stage previous belongs to two-stage workspaces, and to their slow test.
    assert set(first_run.modules) == set(Code(first_run.repository.root).stages) - {"previous"}
    assert unreached_modules(first_run.modules) == {}


def test_broken_series_is_quarantined_with_its_reason(repository: Repository) -> None:
    table = read_table(repository.root / f"data/volumes/{SPLEEN}/conversion.csv")
    quarantined = [row for row in table if row["verdict"] == "quarantined"]
    assert len(quarantined) == 1
    assert "missing" in quarantined[0]["reason"]
    assert {row["verdict"] for row in table} == {"converted", "quarantined", "skipped"}


@pytest.mark.parametrize("workspace", [SPLEEN, CHEST])
def test_report_shows_without_any_outside_address(repository: Repository, workspace: str) -> None:
    page = repository.read(f"mmars/{workspace}/eval/report.html")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']+""", page)
    assert "not a medical device" in page


def test_masks_lie_on_the_grid_of_the_converted_volume(repository: Repository) -> None:
    cases = {row["case"]: row for row in read_table(repository.root / f"data/volumes/{SPLEEN}/cases.csv")}
    masks = sorted((repository.root / f"mmars/{SPLEEN}/eval/infer").glob("*/*.nii.gz"))
    assert masks
    for mask in masks:
        read = sitk.ReadImage(str(mask))
        image = sitk.ReadImage(str(repository.root / f"data/volumes/{SPLEEN}" / cases[mask.parent.name]["image"]))
        assert read.GetSize() == image.GetSize()
        assert read.GetOrigin() == pytest.approx(image.GetOrigin())
        assert read.GetDirection() == pytest.approx(image.GetDirection())


def test_every_unlabelled_ct_gets_a_dicom_seg(repository: Repository) -> None:
    folder = repository.root / f"mmars/{SPLEEN}/eval/infer"
    assert len(list(folder.glob("*/*_seg.dcm"))) == len(list(folder.glob("*/*.nii.gz"))) == 2


def test_predictions_have_a_row_a_case_and_the_old_name_links_to_them(repository: Repository) -> None:
    folder = repository.root / f"mmars/{CHEST}/eval/infer"
    assert read_table(folder / "preds_outputs.csv")
    assert read_table(folder / "preds.csv") == read_table(folder / "preds_outputs.csv")


@pytest.mark.parametrize(("workspace", "key"), [(SPLEEN, "mean_dice"), (CHEST, "mean_auc")])
def test_metrics_and_plots_show(repository: Repository, workspace: str, key: str) -> None:
    metrics = json.loads(repository.run("dvc", "metrics", "show", "--json").stdout)
    files = metrics[""]["data"]
    assert key.removeprefix("mean_") in files[f"data/metrics/{workspace}/scores.json"]["data"][workspace]
    repository.run("dvc", "plots", "show", "--out", "plots-page")
    assert workspace in repository.read("plots-page/index.html")
    shutil.rmtree(repository.root / "plots-page")


def test_summary_names_scores_reports_and_what_was_set_aside(repository: Repository) -> None:
    printed = repository.run("python", "-m", "tasks.ops.summary").stderr
    assert re.search(rf"{SPLEEN}: mean Dice \d\.\d{{3}} on \d+ unseen cases", printed)
    assert re.search(rf"{CHEST}: mean AUC (\d\.\d{{3}}|undefined) on \d+ unseen cases", printed)
    assert f"mmars/{SPLEEN}/eval/report.html" in printed
    assert "quarantined series" in printed


def test_second_run_runs_nothing(repository: Repository) -> None:
    assert ran(repository.run("dvc", "repro").stdout) == set()


def test_deleted_data_comes_back_from_the_cache(repository: Repository) -> None:
    before = sorted(path.relative_to(repository.root) for path in (repository.root / "data").rglob("*.nii.gz"))
    shutil.rmtree(repository.root / "data/volumes")
    shutil.rmtree(repository.root / "data/raw")
    repository.run("dvc", "checkout")
    assert sorted(path.relative_to(repository.root) for path in (repository.root / "data").rglob("*.nii.gz")) == before
    assert ran(repository.run("dvc", "repro").stdout) == set()


def test_without_data_nothing_is_trained_or_computed_again(repository: Repository) -> None:
    shutil.rmtree(repository.root / "data")
    assert ran(repository.run("dvc", "repro").stdout) == set()
    assert (repository.root / f"data/metrics/{SPLEEN}/scores.json").is_file()
    assert not (repository.run("dvc", "diff").stdout or "").count("deleted")


def test_no_patient_name_or_id_leaves_the_raw_folder(repository: Repository) -> None:
    """The sample's patients carry this marker in name and id; tables, headers and pages must not."""
    written = [path for folder in ("data", "mmars") for path in (repository.root / folder).rglob("*") if path.is_file()]
    written = [path for path in written if not path.is_relative_to(repository.root / "data/raw")]
    assert len(written) > 100
    # What follows the marker in a name or id, or a family name alone; chance may spell DEMO in a packed picture.
    marker = re.compile(rb"DEMO[\^\-\s<\"',]")
    leaks = [path for path in written if path.suffix != ".dcm" and marker.search(path.read_bytes())]
    assert leaks == []


def test_one_mlflow_run_holds_everything_of_a_training(repository: Repository) -> None:
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db'); client = mlflow.MlflowClient();"
        f"run = client.get_run(json.load(open('mmars/{SPLEEN}/models/train/run.json'))['run_id']);"
        "names = [f.path for f in client.list_artifacts(run.info.run_id)];"
        "print(json.dumps([run.data.params, run.data.metrics, run.data.tags, names, run.info.status]))"
    )
    params, metrics, tags, artifacts, status = json.loads(repository.run("python", "-c", code).stdout.splitlines()[-1])
    assert params["train.set.epochs"] == "1"
    assert any("mean_dice" in name for name in metrics)
    assert len(tags["git_commit"]) == 40
    assert {"dvc_lock_sha256", "datalist_sha256"} <= set(tags)
    assert "report.html" in artifacts
    assert status == "FINISHED"


def test_a_changed_spacing_runs_what_follows_for_that_workspace_only(repository: Repository) -> None:
    params = repository.params
    params["workspaces"][SPLEEN]["resample"]["spacing_mm"] = [3.5, 3.5, 7.0]
    repository.set_params(params)
    again = ran(repository.run("dvc", "repro").stdout)
    assert again == {f"{stage}@{SPLEEN}" for stage in STAGES[STAGES.index("resample") :]}
