"""The index leads to what is there, says what is not, and shows alerts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from tests.reporting.stages import put, write_segmentation
from voxflow.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "VOXFLOW_MLFLOW_URL", "PREFECT_API_URL", "PREFECT_PORT", "MLFLOW_PORT"):
        monkeypatch.delenv(name, raising=False)
    put(tmp_path / "params.yaml", "workspaces:\n  spleen_demo: {task: segmentation}\n  new: {task: classification}\n")
    write_segmentation(tmp_path)
    for page in ("mmars/spleen_demo/eval/report.html", "data/drift/spleen_demo/drift.html"):
        put(tmp_path / page, "page")
    put(
        tmp_path / "data/drift/spleen_demo/drift.json",
        {"alert": True, "moved": ["spacing_k_mm"], "incoming_patients": 9},
    )
    return tmp_path


def links(page: str) -> list[str]:
    return re.findall(r'<a href="([^"]+)"', page)


def test_every_link_leads_to_a_page_or_a_service(root: Path) -> None:
    assert main(["index"]) == 0
    page = (root / "data/index.html").read_text()
    local = [link for link in links(page) if not link.startswith("http")]
    assert len(local) == 3
    assert all((root / "data" / link.partition("#")[0]).is_file() for link in local)
    assert [link for link in links(page) if link.startswith("http")] == [
        "http://127.0.0.1:4200",
        "http://127.0.0.1:5000/#/experiments?workflowType=machine_learning",
        "http://127.0.0.1:5000/#/models",
    ]


def test_scores_decisions_and_alerts_are_told(root: Path) -> None:
    assert main(["index", "--out", "index.html"]) == 0
    page = (root / "index.html").read_text()
    assert "mean Dice 0.851 on 3 unseen cases" in page
    assert "<strong>Alert:</strong> drift of spacing_k_mm" in page
    assert "kept: a gain of 0.1 is below the margin" in page
    assert "Comparison of two models (voxflow compare)" in page
    assert "not evaluated yet" in page


def test_a_worklist_is_linked_where_cases_are_sorted(root: Path) -> None:
    assert main(["index"]) == 0
    assert "Cases to review" not in (root / "data/index.html").read_text()
    put(root / "mmars/spleen_demo/eval/infer/review.html", "page")
    put(root / "data/answers/spleen_demo/review.html", "page")
    assert main(["index"]) == 0
    addresses = links((root / "data/index.html").read_text())
    assert {"../mmars/spleen_demo/eval/infer/review.html", "answers/spleen_demo/review.html"} <= set(addresses)


def test_the_last_flow_run_is_linked_where_it_has_a_page(root: Path) -> None:
    page = "http://127.0.0.1:4200/runs/flow-run/1"
    put(
        root / ".voxflow/flow_runs/spleen_demo.json", [{"title": "Last flow run", "address": page, "about": "<b>1</b>"}]
    )
    assert main(["index"]) == 0
    text = (root / "data/index.html").read_text()
    assert page in links(text)
    assert "<b>1</b>" not in text


def test_services_of_other_machines_are_linked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.local:5000")
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.local:4200/api")
    assert main(["index"]) == 0
    assert {"http://mlflow.local:5000/#/experiments?workflowType=machine_learning", "http://prefect.local:4200"} <= set(
        links((root / "data/index.html").read_text())
    )


class Outline(HTMLParser):
    """What a screen reader goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, dict[str, str | None]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.setdefault(tag, dict(attrs))


def test_the_page_has_what_a_screen_reader_and_a_phone_need(root: Path) -> None:
    assert main(["index"]) == 0
    outline = Outline()
    outline.feed((root / "data/index.html").read_text())
    assert outline.attributes["html"]["lang"] == "en"
    assert outline.tags.count("h1") == 1
    assert outline.tags.count("main") == 1
    assert outline.attributes["a"]["class"] == "skip"
    assert 'name="viewport"' in (root / "data/index.html").read_text()
