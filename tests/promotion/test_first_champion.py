"""What no first champion may have: a score below the floor, merged labels, failed checks; and what a person may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.promotion.test_service import BETTER, OLD, champion, put_forward, stage
from tests.promotion.workspace import CASES, put, write_workspace
from voxflow.cli.main import main
from voxflow.promotion import CaseScores, Decision, PromoteOptions, judge_candidate, read_candidate, read_scores
from voxflow.tracking import find_version

if TYPE_CHECKING:
    from voxflow.places import Places

HEADER = "verdict,reason,modality,files,size,spacing_mm,orientation,units,study_uid,series_uid,case,source"


def judge(places: Places, **options: object) -> Decision:
    return judge_candidate(read_candidate(places), PromoteOptions.model_validate(options), moves_alias=True)


def write_label_rows(places: Places, *rows: tuple[str, str, str]) -> None:
    lines = [f"{verdict},,SEG,1,,,,,1.2,{series},{case}," for verdict, series, case in rows]
    put(places.volumes / "conversion.csv", "\n".join([HEADER, "converted,,CT,9,,,,,1.2,1.2.9,t0,", *lines]) + "\n")


def test_a_first_champion_with_dice_0_17_is_refused(root: Path) -> None:
    decision = put_forward(root, [0.17] * 8, "one")
    assert (decision.verdict, champion()) == ("kept", "")
    assert decision.reasons == ("mean Dice 0.1700 is below 0.5, the floor of a first champion",)
    version = find_version("demo", "challenger")
    assert version is not None
    assert (version.tags["decision"], version.tags["floor"]) == ("kept", "0.5")


def test_the_floor_is_an_option_and_reaching_it_is_enough(root: Path) -> None:
    assert judge(write_workspace(root, [0.5] * 8), floor=0.500001).verdict == "kept"
    assert judge(write_workspace(root, [0.5] * 8), floor=0.5).verdict == "promoted"


def test_the_floor_of_a_classification_is_above_guessing(root: Path) -> None:
    places = write_workspace(root, OLD)
    rows = [f"{case},{n % 2},{0.5}" for n, case in enumerate(CASES)]
    put(places.evaluation / "test/per_case.csv", "\n".join(["case,cardiomegaly,probability_cardiomegaly", *rows]))
    assert judge(places).reasons == ("mean AUC 0.5000 is below 0.6, the floor of a first champion",)
    rows = [f"{case},{n % 2},{n % 2}" for n, case in enumerate(CASES)]
    put(places.evaluation / "test/per_case.csv", "\n".join(["case,cardiomegaly,probability_cardiomegaly", *rows]))
    assert judge(places).verdict == "promoted"


@pytest.mark.parametrize("table", [None, "case,dice_spleen\nt0,\n"])
def test_without_a_score_no_floor_is_reached(root: Path, table: str | None) -> None:
    places = write_workspace(root, OLD)
    path = places.evaluation / "test/per_case.csv"
    path.unlink() if table is None else path.write_text(table)
    assert judge(places).reasons == ("the evaluation left no score, so that no floor is reached",)
    assert judge(places, floor=0).verdict == "promoted"


def test_cases_that_failed_count_as_dice_0(root: Path) -> None:
    places = write_workspace(root, [0.9] * 2)
    failed = "\n".join(f"f{n},,,failed: unreadable image" for n in range(6))
    path = places.evaluation / "test/per_case.csv"
    header, *rows = path.read_text().splitlines()
    put(path, "\n".join([f"{header},remark", failed, *(f"{row}," for row in rows)]) + "\n")
    assert judge(places).reasons == ("mean Dice 0.2250 is below 0.5, the floor of a first champion",)


def test_a_case_that_failed_is_not_one_without_a_class(tmp_path: Path) -> None:
    table = tmp_path / "per_case.csv"
    put(table, "case,mean_dice,dice_spleen,remark\na,,,failed: unreadable image\nb,,,spleen: in neither\nc,0.5,0.5,\n")
    scores = read_scores(table)
    assert scores.failed == ("a",)
    assert scores.cases == ("b", "c")
    put(table, "case,x,probability_x,remark\na,,,failed: unreadable image\nb,1,0.5,\n")
    assert read_scores(table) == CaseScoresLike("classification", {"b": (0.5,)}, {"b": (1,)}, ("a",))


class CaseScoresLike:
    """Compares the fields, since CaseScores are compared by identity."""

    def __init__(self, *fields: object) -> None:
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, CaseScores)
        return self.fields == (other.task, other.values, other.truth, other.failed)

    __hash__ = None  # type: ignore[assignment]


def test_labels_merged_from_several_series_are_refused_until_a_person_allows_them(root: Path) -> None:
    places = write_workspace(root, OLD)
    one = [("converted", "1.2.3", "t0"), ("remedied", "1.2.3", "t0"), ("converted", "1.2.3", "t1")]
    write_label_rows(
        places, *one, ("quarantined", "1.2.4", "t0"), ("skipped", "1.2.5", "t1"), ("converted", "1.2.6", "")
    )
    assert read_candidate(places).judged.data.merged_labels == ()
    unused = [("quarantined", "1.2.4", "t0"), ("skipped", "1.2.5", "t1"), ("converted", "1.2.6", "")]
    write_label_rows(places, *one, *unused)
    assert read_candidate(places).judged.data.merged_labels == ()
    write_label_rows(places, *one, ("remedied", "1.2.7", "t0"))
    decision = judge(places)
    assert (decision.verdict, champion()) == ("kept", "")
    assert decision.reasons[0].startswith("the label of 1 case(s) (t0) was merged from several series")
    assert "promote.allow_merged_labels: true" in decision.reasons[0]
    assert judge(places, allow_merged_labels=True).verdict == "promoted"


@pytest.mark.parametrize("folder", ["demo", "demo.failed"])
def test_failed_checks_are_refused_until_a_person_allows_them(root: Path, folder: str) -> None:
    places = write_workspace(root, OLD)
    checks = [{"name": "label is not empty", "success": False}, {"name": "spacing", "success": True}]
    put(root / "data/quality" / folder / "report.json", json.dumps({"success": False, "checks": checks}))
    decision = judge(places)
    assert decision.reasons == (
        "1 data check(s) failed (label is not empty): correct the data or the check's bounds, or write "
        "promote.allow_failed_checks: true",
    )
    assert judge(places, allow_failed_checks=True).verdict == "promoted"


def test_all_reasons_against_a_first_champion_are_told_at_once(root: Path) -> None:
    places = write_workspace(root, [0.17] * 8, published=0)
    write_label_rows(places, ("converted", "1.2.3", "t0"), ("converted", "1.2.4", "t0"))
    put(root / "data/quality/demo/report.json", '{"checks": [{"name": "spacing", "success": false}]}')
    assert [reason.partition(" ")[0] for reason in judge(places).reasons] == ["parity:", "mean", "the", "1"]


def test_a_later_champion_is_compared_and_needs_no_floor(root: Path) -> None:
    assert judge(write_workspace(root, [0.10] * 8, model="one"), floor=0).verdict == "promoted"
    assert judge(write_workspace(root, [0.30] * 8, model="two")).verdict == "promoted"


def test_another_test_part_says_how_to_resolve_it_and_the_command_does(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_forward(root, OLD, "one")
    decision = put_forward(root, BETTER, "two", label="corrected")
    assert "`voxflow promote demo --evaluate-champion` evaluates the champion on the present" in decision.reasons[0]
    table = write_workspace(root, OLD, model="two").evaluation / "test/per_case.csv"
    old_scores = table.read_text()
    write_workspace(root, BETTER, model="two", label="corrected")

    def evaluate(engine: object, cases: object, out: Path, options: object) -> None:
        put(out / "per_case.csv", old_scores)

    # The models of these tests are no models.
    for name in ("open_engine", "find_native_cases"):
        monkeypatch.setattr(f"voxflow.promotion.rejudge.{name}", lambda *_, **__: [])
    monkeypatch.setattr("voxflow.promotion.rejudge.Datalist.read", lambda *_: Datalists())
    monkeypatch.setattr("voxflow.promotion.rejudge.evaluate_segmentation", evaluate)
    assert main(["promote", "demo", "--evaluate-champion"]) == 0
    assert champion() == "2"
    assert "promoted: mean Dice 0.7850 against 0.7350" in capsys.readouterr().err


class Datalists:
    def cases(self, key: str) -> list[object]:
        assert key == "testing"
        return []


def test_a_decision_by_hand_renews_the_report_and_the_index(root: Path) -> None:
    put_forward(root, OLD, "one")
    places = write_workspace(root, [score - 0.1 for score in OLD], model="two")
    assert judge(places).verdict == "kept"
    page = places.evaluation / "report.html"
    put(page, "as the stage left it")
    assert main(["promote", "demo", "--version", "2", "--because", "read by two radiologists"]) == 0
    assert "read by two radiologists" in page.read_text()
    assert "read by two radiologists" in places.evaluation.joinpath("model_card.md").read_text()
    assert "read by two radiologists" in Path("data/index.html").read_text()
    assert main(["rollback", "demo", "--because", "misses small spleens"]) == 0
    assert champion() == "1"
    assert "misses small spleens" in page.read_text()
    assert "misses small spleens" in Path("data/index.html").read_text()
    assert "this model did not become champion" in page.read_text()


def test_without_a_report_none_is_made(root: Path) -> None:
    put_forward(root, OLD, "one")
    places = write_workspace(root, BETTER, model="two")
    assert main(["promote", "demo"]) == 0
    assert not (places.evaluation / "report.html").exists()
    assert json.loads((places.evaluation / "decision.json").read_text())["verdict"] == "promoted"


def test_the_next_run_of_the_graph_keeps_what_a_person_decided(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_forward(root, OLD, "one")
    put_forward(root, BETTER, "two")
    assert main(["promote", "demo", "--version", "1", "--because", "judged by reading"]) == 0
    decision = stage(monkeypatch)
    assert (decision["verdict"], champion()) == ("kept", "1")
    assert "was rolled back" in str(decision["reasons"])
    assert "judged by reading" in str(decision["reasons"])
    assert main(["promote", "demo", "--version", "2", "--because", "after all"]) == 0
    decision = stage(monkeypatch)
    assert (decision["verdict"], champion()) == ("champion", "2")
    assert decision["reasons"] == ["version 2 is the champion already (by hand: after all)"]


def test_a_second_promotion_by_hand_says_that_the_newest_is_champion(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_forward(root, OLD, "one")
    assert main(["promote", "demo", "--because", "again"]) == 2
    assert "called 'challenger'; the newest model is champion already" in capsys.readouterr().err
