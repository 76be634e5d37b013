"""``voxflow drift``: from volumes to an exit code, a table and a page; and when a training is due."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.ops import monitor
from tests.tables import read_table
from voxflow.cli.main import main
from voxflow.drift import count_new_labelled_cases
from voxflow.geometry import Geometry
from voxflow.places import Places
from voxflow.quality import measure_cases
from voxflow.volumes import Volume, write_volume


def write_studies(folder: Path, seed: int, patients: int, *, spacing: float = 3.0, scale: float = 1.0) -> pd.DataFrame:
    """Small CT volumes, one a patient, as the stage convert leaves them."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(patients):
        grid = Geometry.from_parts((12, 10, 6), (float(rng.uniform(0.7, 0.9)),) * 2 + (spacing,))
        values = rng.normal(40 * scale, float(rng.uniform(90, 110)) * scale, (12, 10, 6)).astype(np.int16)
        case = f"s{seed}p{n}_1"
        write_volume(folder / f"images/{case}.nii.gz", Volume(values, grid))
        rows.append(
            {"case": case, "patient": f"s{seed}p{n}", "modality": "CT", "image": f"images/{case}.nii.gz", "label": "x"}
        )
    table = pd.DataFrame(rows)
    table.to_csv(folder / "cases.csv", index=False)
    return table


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drift")
    (root / "params.yaml").write_text("workspaces:\n  demo: {task: segmentation, source: raw}\n")
    volumes = root / "data/volumes/demo"
    table = write_studies(volumes, 0, 24)
    for case in table["case"]:
        (volumes / "labels").mkdir(exist_ok=True)
        (volumes / f"labels/{case}.nii.gz").touch()
    (root / "data/quality/demo").mkdir(parents=True)
    measure_cases(table.assign(label=""), volumes).to_csv(root / "data/quality/demo/measurements.csv", index=False)
    (root / "data/datalists/demo").mkdir(parents=True)
    parts = ["testing"] * 4 + ["training"] * 20
    table[["case", "patient"]].assign(part=parts).to_csv(root / "data/datalists/demo/split.csv", index=False)
    for name, more in {"same": {}, "thin": {"spacing": 1.5}, "scaled": {"scale": 0.1}}.items():
        write_studies(root / name, 7, 12, **more).assign(label="").to_csv(root / name / "cases.csv", index=False)
    return root


@pytest.fixture
def root(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repository)
    return repository


def read_moved() -> list[str]:
    names: list[str] = json.loads(Path("data/drift/demo/drift.json").read_text())["moved"]
    return names


@pytest.mark.usefixtures("root")
def test_studies_like_the_training_data_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "demo", "same"]) == 0
    assert "no drift in 12 patients" in capsys.readouterr().err
    assert read_moved() == []


@pytest.mark.usefixtures("root")
def test_another_spacing_ends_with_4_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "demo", "thin"]) == 4
    assert "DRIFT in 12 patients: " in capsys.readouterr().err
    assert sorted(read_moved()) == ["extent_k_mm", "spacing_k_mm"]
    rows = {row["name"]: row for row in read_table(Path("data/drift/demo/drift.csv"))}
    assert (rows["spacing_k_mm"]["before"], rows["spacing_k_mm"]["now"]) == ("3", "1.5")
    page = Path("data/drift/demo/drift.html").read_text()
    assert page.count("<svg") == len([row for row in rows.values() if row["statistic"]])
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']+""", page)


def test_the_page_links_incoming_studies_to_a_viewer_where_that_is_wished(root: Path) -> None:
    params, viewer = root / "params.yaml", root / "data/drift/demo/incoming_viewer.html"
    plain = params.read_text()
    for text, count in ((plain, 0), (plain.replace("source: raw", "source: raw, monitor: {viewer: 3}"), 3), (plain, 0)):
        params.write_text(text)
        assert main(["drift", "demo", "thin"]) == 4
        page = viewer.with_name("drift.html").read_text()
        links = re.findall(r'href="incoming_viewer.html#([^"]+)"', page)
        assert len(links) == count
        assert viewer.is_file() == bool(count)
        if count:
            assert f'content="{" ".join(links)}"' in viewer.read_text()
            assert 'href="drift.html"' in viewer.read_text()


@pytest.mark.usefixtures("root")
def test_another_intensity_scale_is_named() -> None:
    assert main(["drift", "demo", "scaled"]) == 4
    assert sorted(read_moved()) == ["deviation", "percentile_1", "percentile_99"]


def test_predictions_are_compared_with_those_of_the_test_part(root: Path) -> None:
    masks = root / "mmars/demo/eval/test/masks"
    grid = Geometry.from_parts((8, 8, 8), (5, 5, 5))
    for n in range(12):
        mask = np.zeros((8, 8, 8), np.uint8)
        mask[: 2 + n % 3] = 1
        write_volume(masks / f"t{n}_1.nii.gz", Volume(mask, grid))
    (root / "data/volumes/demo/labels.json").write_text('{"0": "background", "1": "spleen"}')
    rows = [f"n{n}_1,i,m,{900 + n}" for n in range(12)]
    (root / "preds.csv").write_text("\n".join(["case,image,mask,spleen_ml", *rows]) + "\n")
    assert main(["drift", "demo", "same", "--predictions", "preds.csv", "--out", "out"]) == 4
    assert json.loads((root / "out/drift.json").read_text())["moved"] == ["predicted_spleen_ml"]


@pytest.mark.usefixtures("root")
def test_a_workspace_that_never_ran_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text("workspaces:\n  demo: {task: segmentation, source: raw}\n  new: {source: raw}\n")
    assert main(["drift", "new", "same"]) == 2
    assert "the stage validate writes it" in capsys.readouterr().err


def run_monitor(monkeypatch: pytest.MonkeyPatch, block: str) -> dict[str, object]:
    Path("params.yaml").write_text(f"workspaces:\n  demo: {{task: segmentation, source: raw, monitor: {block}}}\n")
    monkeypatch.setattr(sys, "argv", ["monitor", "demo"])
    code = monitor.program()
    record: dict[str, object] = json.loads(Path("data/drift/demo/monitor.json").read_text())
    return record | {"code": code}


@pytest.mark.usefixtures("root")
def test_drift_raises_the_alert_and_starts_a_training_where_that_is_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    record = run_monitor(monkeypatch, "{inbox: thin}")
    assert (record["code"], record["alert"], record["retrain"]) == (4, True, [])
    record = run_monitor(monkeypatch, "{inbox: thin, retrain: {on_drift: true}}")
    assert record["retrain"] == ["drift of extent_k_mm, spacing_k_mm"] or record["retrain"] == [
        "drift of spacing_k_mm, extent_k_mm"
    ]


@pytest.mark.usefixtures("root")
def test_enough_new_labels_start_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places.of("demo")
    assert count_new_labelled_cases(places) == 0
    table = places.volumes / "cases.csv"
    before = table.read_text()
    table.write_text(before + "new1_1,new1,CT,images/a.nii.gz,labels/a.nii.gz\nnew2_1,new2,CT,images/b.nii.gz,\n")
    assert count_new_labelled_cases(places) == 1
    assert run_monitor(monkeypatch, "{retrain: {new_labelled: 2}}")["retrain"] == []
    record = run_monitor(monkeypatch, "{retrain: {new_labelled: 1}}")
    assert record["retrain"] == ["1 labelled cases that no training has seen (from 1 on)"]
    assert (record["alert"], record["code"]) == (False, 0)
    table.write_text(before)


@pytest.mark.usefixtures("root")
def test_an_inbox_that_is_empty_is_no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("empty").mkdir(exist_ok=True)
    record = run_monitor(monkeypatch, "{inbox: empty}")
    assert (record["code"], record["line"]) == (0, "no study in empty")
