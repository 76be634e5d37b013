"""The report holds everything inside itself, says what is missing, and trusts no text that it shows."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from tests.reporting.stages import CASES, put, sources_of, write_classification, write_folds, write_segmentation
from voxflow.reporting.page import write_report
from voxflow.reporting.sources import ReportOptions

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.reporting.sources import ReportSources

VOID = {"meta", "link", "img", "line", "br"}


class Page(HTMLParser):
    """Collects addresses and checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A closed element needs no end."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element at {self.getpos()}"


def report(sources: ReportSources, root: Path, options: ReportOptions | None = None) -> tuple[Page, str]:
    page, card = root / "report.html", root / "model_card.md"
    write_report(sources, page, card, options)
    return Page(page.read_text(encoding="utf-8")), card.read_text(encoding="utf-8")


@pytest.fixture
def finished_report(tmp_path: Path) -> tuple[Page, str]:
    return report(write_segmentation(tmp_path), tmp_path)


def test_page_is_well_formed_and_asks_no_other_address(finished_report: tuple[Page, str]) -> None:
    page, _ = finished_report
    assert page.open == []
    assert [address[:22] for address in page.addresses if not address.startswith("#")] == [
        "data:,",
        *["data:image/png;base64,"] * 3,
    ]
    assert not re.search(r"https?://|@import|url\(", page.text)


def test_scores_come_with_the_interval_that_evaluate_found(finished_report: tuple[Page, str], tmp_path: Path) -> None:
    assert re.search(r"<td>mean dice</td><td>0.851</td><td>0.793 to 0.901</td>", finished_report[0].text)
    classification = tmp_path / "other"
    assert "95 % interval" not in report(write_classification(classification), classification)[0].text


def test_short_tables_are_shown_whole(finished_report: tuple[Page, str], tmp_path: Path) -> None:
    assert "scroll tall" not in finished_report[0].text.split("worst first</h2>")[0]
    sources = write_segmentation(tmp_path / "many")
    put(sources.metrics / "evaluate.json", {f"dice_organ{n}": 0.5 for n in range(17)})
    assert "scroll tall" in report(sources, tmp_path / "many")[0].text.split("worst first</h2>")[0]


def test_worst_case_comes_first_and_an_undefined_one_before_it(finished_report: tuple[Page, str]) -> None:
    table = finished_report[0].text.split("worst first</h2>")[1].split("</table>")[0]
    assert re.findall(r"<td>([0-9a-f]{8}_1)</td>", table) == [CASES[2], CASES[1], CASES[3], CASES[0]]


def test_quarantine_and_failures_come_with_their_reasons(finished_report: tuple[Page, str]) -> None:
    text = finished_report[0].text
    assert "slice 17 of 42 is missing" in text
    assert "gantry tilt of 4 degrees straightened" in text
    assert "the file is cut short" in text


def test_text_from_the_data_is_shown_and_not_run(finished_report: tuple[Page, str]) -> None:
    assert "is usual &lt;b&gt;" in finished_report[0].text


def test_no_uid_reaches_page_or_card(finished_report: tuple[Page, str]) -> None:
    assert "1.2.3" not in finished_report[0].text + finished_report[1]


@pytest.mark.parametrize(
    "words", ["0.851", "on 3 unseen cases", "best epoch", "of 40, 1.4 min", "series in quarantine", "failed cases"]
)
def test_key_numbers_stand_on_top(finished_report: tuple[Page, str], words: str) -> None:
    assert words in finished_report[0].text.split('<section id="scores">')[0]


def test_provenance_names_commit_hashes_run_and_versions(finished_report: tuple[Page, str]) -> None:
    for page in (finished_report[0].text, finished_report[1]):
        assert "8f2c" * 10 in page
        assert "0123abcd" in page
        assert "torch" in page


def test_card_says_use_data_scores_and_limits(finished_report: tuple[Page, str]) -> None:
    card = finished_report[1]
    assert "not a medical device" in card
    assert "- training: 7 cases" in card
    assert "| mean dice | 0.851 | 0.793 to 0.901 |" in card
    assert "1 case(s) failed" in card
    assert card.count("\n## ") == 9


def test_page_and_card_say_what_engines_were_compared_on_and_which_were_not(finished_report: tuple[Page, str]) -> None:
    page, card = finished_report
    for text in ("NVIDIA L4 (cuda), driver 580.1, torch 2.13.0", "at its first use", "torch sees no NVIDIA GPU"):
        assert text in page.text
        assert text in card


def test_the_decision_on_the_champion_shows_with_its_numbers(finished_report: tuple[Page, str]) -> None:
    for page in (finished_report[0].text, finished_report[1]):
        assert "this model did not become champion" in page
        assert "0.1 is below the margin" in page
        assert "+0.0100 to +0.0300" in page


def test_classification_is_sorted_by_its_gravest_error_and_shows_its_roc(tmp_path: Path) -> None:
    page, _ = report(write_classification(tmp_path), tmp_path)
    table = page.text.split("worst first</h2>")[1].split("</table>")[0]
    assert re.findall(r"<td>(sure|unsure|wrong)</td>", table) == ["wrong", "unsure", "sure"]
    assert "ROC on unseen cases" in page.text
    assert "mean AUC" in page.text


def test_folds_stand_beside_each_other_with_their_spread_and_the_ensemble(
    tmp_path: Path, finished_report: tuple[Page, str]
) -> None:
    assert "Cross-validation" not in finished_report[0].text + finished_report[1]
    sources = write_segmentation(tmp_path)
    write_folds(sources)
    page, card = report(sources, tmp_path)
    part = page.text.split('<section id="folds">')[1].split("</section>")[0]
    assert part.startswith("\n<h2>Cross-validation</h2>\n<p>3 models")
    titles = ["score", "mean ± std", "fold 1", "fold 2", "fold 3", "ensemble, unseen cases"]
    assert re.findall(r'<th scope="col">([^<]+)', part) == titles
    rows = [re.findall(r"<td[^>]*>([^<]+)", row) for row in part.split("<tr>")[2:]]
    assert rows == [
        ["cases", "–", "3", "3", "3", "4"],
        ["mean dice", "0.800 ± 0.100", "0.900", "0.800", "0.700", "0.871"],
        ["dice spleen", "0.850 ± 0.071", "0.900", "0.800", "–", "0.880"],
    ]
    assert "below the run fedc9876" in part
    assert "| mean dice | 0.800 ± 0.100 | 0.900 | 0.800 | 0.700 | 0.871 |" in card


def test_nothing_there_is_said_part_by_part(tmp_path: Path) -> None:
    page, card = report(sources_of(tmp_path, "segmentation"), tmp_path)
    assert page.open == []
    for part in ("per_case.csv", "conversion.csv", "quality/spleen_demo/report.json", "parity.json", "evaluate.json"):
        assert re.search(rf"Not available: \S*{part} is not there", page.text)
    assert "Not available" in card


def test_a_small_difference_is_not_rounded_to_nothing(finished_report: tuple[Page, str]) -> None:
    assert "<td>4.20e-06</td>" in finished_report[0].text


def test_title_description_and_number_of_pictures_can_be_chosen(tmp_path: Path) -> None:
    options = ReportOptions(title="Spleen <1>", description="What it is for", overlays=0)
    page, card = report(write_segmentation(tmp_path), tmp_path, options)
    assert "<h1>Spleen &lt;1&gt;</h1>" in page.text
    assert page.text.count("data:image/png") == 2
    assert card.startswith("# Model card: Spleen <1>\nWhat it is for\n")


@pytest.mark.parametrize(
    ("store", "page"),
    [("http://mlflow.local:5000/", "http://mlflow.local:5000/#/runs/0123abcd"), ("sqlite:///mlflow.db", None)],
)
def test_the_mlflow_run_is_linked_where_a_server_keeps_it(tmp_path: Path, store: str, page: str | None) -> None:
    sources = write_segmentation(tmp_path)
    put(sources.models / "train/run.json", {"run_id": "0123abcd", "tracking_uri": store})
    html_page, card = report(sources, tmp_path)
    assert [address for address in html_page.addresses if address.startswith("http")] == ([page] if page else [])
    assert (f"({page})" in card) == bool(page)


def test_regions_and_channels_are_named_and_what_the_plan_decided_is_shown(tmp_path: Path) -> None:
    sources = write_segmentation(tmp_path)
    datalist = json.loads(sources.datalist.read_text())
    header: dict[str, Any] = {"labels": {"0": "background", "1": "whole", "2": "whole + core"}, "modality": {"0": "MR"}}
    regions = {"whole": [1, 2], "core": [2]}
    header |= {"regions": regions, "channels": {"T1": {}, "T2": {}}}
    put(sources.datalist, datalist | header | {"metadata": header})
    put(sources.models / "train" / "plan.json", {"set": {"train.model.args.final_activation": "sigmoid"}})
    page, card = report(sources, tmp_path)
    assert "MR (T1, T2)" in page.text
    assert "- Labels: whole, core\n" in card
    assert "final_activation=sigmoid" in card
