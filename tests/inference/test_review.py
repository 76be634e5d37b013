"""Inference sorts cases where it is asked to: bounds in the table, a worklist, a page, and words in the DICOM SEG."""

from __future__ import annotations

import csv
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.inference.models import BrightnessEngine, ThresholdEngine, save_unet
from voxflow.engines import open_engine
from voxflow.errors import ConfigError
from voxflow.executor import Threads
from voxflow.geometry import Geometry
from voxflow.inference import (
    InferenceCase,
    InferOptions,
    ModelFolders,
    ResultLedger,
    compute_maker_digest,
    describe_settings,
    digest_exported_models,
    infer_cases,
    infer_on_executor,
    join_worklists,
    open_reviewer,
)
from voxflow.trust import Observation, Reviewer, build_calibration
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.trust import Calibration

GRID = Geometry.from_parts((24, 20, 10), (1, 1, 5))
SORTED = InferOptions(overlays=0, review_below=0.6)


class SureEngine(ThresholdEngine):
    """Is certain of every voxel."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return super().run(batch) * 20


def digest_model(path: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(hashlib.sha256(path.read_bytes()).digest()).hexdigest()}


def write_case(folder: Path, name: str, size: int = 8) -> InferenceCase:
    image = np.zeros(GRID.size, np.float32)
    image[6 : 6 + size, 5:13, 3:7] = 1
    write_volume(folder / "images" / f"{name}.nii.gz", Volume(image, GRID))
    return InferenceCase(name, (folder / "images" / f"{name}.nii.gz",))


@pytest.fixture
def cases(tmp_path: Path) -> list[InferenceCase]:
    return [write_case(tmp_path, "b"), write_case(tmp_path, "a", size=0), write_case(tmp_path, "c", size=9)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def calibrate(dices: Sequence[float], **known: Any) -> Calibration:
    observations = [Observation(f"p{n}_1", 0.7, dice, False) for n, dice in enumerate(dices)]
    facts = {"signal": "probabilities", "models": [{}], "settings": {}, "part": "testing"}
    return build_calibration(observations, **{**facts, **known})


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_cases_are_sorted_and_the_doubtful_come_first(cases: list[InferenceCase], out: Path) -> None:
    reviewer = Reviewer(0.6, 0.9, calibrate([0.9] * 20))
    infer_cases(SureEngine(), cases, out, SORTED, reviewer=reviewer)
    rows = {row["case"]: row for row in read(out / "preds_outputs.csv")}
    assert [rows[name]["verdict"] for name in "abc"] == ["review", "send", "send"]
    assert rows["a"]["reasons"] == "empty mask"
    assert float(rows["b"]["bound_holds"]) == 0.9
    assert 0.6 < float(rows["b"]["dice_bound"]) <= float(rows["b"]["estimated_dice"])
    assert read(out / "review.csv")[0]["case"] == "a"
    page = (out / "review.html").read_text(encoding="utf-8")
    assert "1 of 3 cases to review" in page
    assert '<a href="review/viewer.html#a">a</a>' in page
    assert "viewer.html#b" not in page, "only those to review are shown"
    viewer = (out / "review" / "viewer.html").read_text(encoding="utf-8")
    assert '"id":"a"' in viewer
    assert '"id":"b"' not in viewer
    assert '"name":"prediction"' in viewer
    assert '"name":"organ"' in viewer
    assert 'href="../review.html"' in viewer
    assert "http" not in page.replace("http-equiv", "")


def test_the_viewer_of_a_worklist_goes_where_nothing_is_to_be_reviewed_any_more(
    cases: list[InferenceCase], out: Path
) -> None:
    reviewer = Reviewer(0.6, 0.9, calibrate([0.9] * 20))
    infer_cases(SureEngine(), cases, out, SORTED, reviewer=reviewer)
    assert (out / "review" / "viewer.html").is_file()
    infer_cases(SureEngine(), [cases[0]], out, SORTED, reviewer=reviewer)
    assert not (out / "review" / "viewer.html").exists()
    assert "viewer.html" not in (out / "review.html").read_text(encoding="utf-8")


def test_the_answers_of_a_pacs_have_one_worklist(cases: list[InferenceCase], tmp_path: Path) -> None:
    """Two studies of one patient number their cases alike; each row leads to the viewer of its own answer."""
    reviewer = Reviewer(0.6, 0.9, calibrate([0.9] * 20))
    answers = tmp_path / "answers"
    for uid, case in {"1.2": cases[1], "1.3": cases[0], "1.4": cases[1]}.items():
        (answers / uid).mkdir(parents=True)
        infer_cases(SureEngine(), [case], answers / uid, SORTED, reviewer=reviewer)
    assert join_worklists(answers, reviewer) == 2
    rows = read(answers / "review.csv")
    assert [(row["case"], row["verdict"], row["mask"]) for row in rows] == [
        ("a", "review", "1.2/a/a.nii.gz"),
        ("a (2)", "review", "1.4/a/a.nii.gz"),
        ("b", "send", "1.3/b/b.nii.gz"),
    ]
    page = (answers / "review.html").read_text(encoding="utf-8")
    assert "2 of 3 cases to review" in page
    assert '<a href="1.2/review/viewer.html#a">a</a>' in page
    assert '<a href="1.4/review/viewer.html#a">a (2)</a>' in page


def test_nothing_changes_where_nobody_asks(cases: list[InferenceCase], out: Path) -> None:
    infer_cases(ThresholdEngine(), cases, out, InferOptions(overlays=0))
    assert list(read(out / "preds_outputs.csv")[0]) == ["case", "image", "mask", "organ_ml"]
    assert {path.name for path in out.iterdir()} == {
        *("a", "b", "c", "overlays", "preds.csv", "preds_outputs.csv", "failures.json"),
    }
    assert [path.name for path in (out / "b").iterdir()] == ["b.nii.gz"]


def test_without_a_calibration_every_case_is_reviewed(cases: list[InferenceCase], out: Path, tmp_path: Path) -> None:
    model = save_unet(tmp_path / "adopted" / "model.pt")
    engine = open_engine(model)
    reviewer = open_reviewer(engine, [model], SORTED)
    infer_cases(engine, cases, out, SORTED, reviewer=reviewer)
    rows = read(out / "preds_outputs.csv")
    assert {row["verdict"] for row in rows} == {"review"}
    assert all("no trust.json" in row["reasons"] and not row["dice_bound"] for row in rows)
    assert "no case has an estimate" in (out / "review.html").read_text(encoding="utf-8")
    infer_cases(engine, cases, out, SORTED)
    assert {row["verdict"] for row in read(out / "preds_outputs.csv")} == {"review"}


def test_a_calibration_counts_for_its_model_and_its_settings(tmp_path: Path) -> None:
    model, other = save_unet(tmp_path / "one" / "model.pt"), tmp_path / "other" / "model.pt"
    other.parent.mkdir()
    other.write_bytes(model.read_bytes() + b" ")
    engine = open_engine(model)
    digests = [{"model.pt": "0" * 64}]
    settings = describe_settings(SORTED, engine.spec)
    calibrate([0.9] * 9, models=digests, settings=settings).write(model.with_name("trust.json"))
    reviewer = open_reviewer(engine, [model], SORTED)
    assert reviewer is not None
    assert reviewer.absence == "the calibration is of another model"
    calibrate([0.9] * 9, models=[digest_model(model)], settings=settings).write(model.with_name("trust.json"))
    found = open_reviewer(engine, [model], SORTED)
    assert found is not None
    assert found.calibration is not None
    mirrored = open_reviewer(engine, [model], SORTED.model_copy(update={"flips": ("i",)}))
    assert mirrored is not None
    assert "calibrated with flips: [], and run with ['i']" in mirrored.absence
    model.with_name("trust.json").write_text('{"format": 1}')
    broken = open_reviewer(engine, [model], SORTED)
    assert broken is not None
    assert "can't be used" in broken.absence


def test_a_classification_has_no_bound(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only the masks of a segmentation"):
        open_reviewer(BrightnessEngine(), [tmp_path], SORTED)


def test_a_run_that_goes_on_says_the_same(cases: list[InferenceCase], out: Path, tmp_path: Path) -> None:
    model = save_unet(tmp_path / "model.pt")
    engine = open_engine(model)
    reviewer = Reviewer(0.3, 0.9, calibrate([0.9] * 20))
    digest = compute_maker_digest(engine, [model], SORTED, reviewer=reviewer)
    assert digest != compute_maker_digest(engine, [model], SORTED, reviewer=Reviewer(0.4, 0.9, reviewer.calibration))
    ledger = ResultLedger(out, digest)
    infer_cases(engine, cases, out, SORTED, ledger=ledger, reviewer=reviewer)
    before = (out / "preds_outputs.csv").read_bytes(), (out / "review.html").read_bytes()
    keep = SORTED.model_copy(update={"overwrite": False})
    infer_cases(engine, cases, out, keep, ledger=ledger, reviewer=reviewer)
    assert before == ((out / "preds_outputs.csv").read_bytes(), (out / "review.html").read_bytes())
    (out / "b" / "b_trust.json").unlink()
    infer_cases(engine, cases, out, keep, ledger=ledger, reviewer=reviewer)
    rows = {row["case"]: row for row in read(out / "preds_outputs.csv")}
    assert "measured no agreement" in rows["b"]["reasons"]


def test_workers_sort_as_one_process_does(cases: list[InferenceCase], tmp_path: Path) -> None:
    model = save_unet(tmp_path / "export" / "model.pt")
    engine = open_engine(model.parent)
    settings = describe_settings(SORTED, engine.spec)
    calibrate([0.9] * 9, models=[digest_model(model)], settings=settings).write(model.with_name("trust.json"))
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    infer_cases(engine, cases, here, SORTED, reviewer=open_reviewer(engine, [model.parent], SORTED))
    infer_on_executor(Threads(1), ModelFolders((model.parent,)), cases, there, SORTED)
    for name in ("preds_outputs.csv", "review.csv", "review.html"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert "no trust.json" not in (here / "review.csv").read_text()


def test_every_exported_file_is_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"a")
    (tmp_path / "model.xml").write_bytes(b"b")
    (tmp_path / "model.bin").write_bytes(b"c")
    (digests,) = digest_exported_models([tmp_path])
    assert set(digests) == {"model.onnx", "model.xml", "model.bin"}
