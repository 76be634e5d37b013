"""Every page fits a phone, and has what a keyboard and a screen reader need; measured in Chromium where it is there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.reporting.pages import write_pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("report", "compare", "drift", "index", "data docs", "expectations", "data docs index", "checks")
PHONE_PX = 390
# Chromium's own window is never as narrow as a phone; a frame is.
FRAME = """<!doctype html><html><body><iframe id="f" width="{width}" height="800" style="border:0" srcdoc="{page}">
</iframe><script>
document.getElementById("f").addEventListener("load", (event) => {{
  const page = event.target.contentDocument.documentElement, beyond = page.scrollWidth - page.clientWidth;
  const asked = event.target.contentWindow.performance.getEntriesByType("resource").map((each) => each.name);
  document.body.textContent = JSON.stringify({{beyond, asked: asked.filter((name) => !name.startsWith("data:"))}});
  document.title = "measured";
}});
</script></body></html>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    root = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield write_pages(root)


@pytest.fixture(scope="module")
def chromium() -> str:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("Chromium is missing: make test-services installs it")
    return program


@pytest.mark.parametrize("name", NAMES)
def test_no_page_is_wider_than_a_phone_or_asks_for_anything(
    pages: dict[str, Path], chromium: str, tmp_path: Path, name: str
) -> None:
    wrapped = tmp_path / "frame.html"
    wrapped.write_text(FRAME.format(width=PHONE_PX, page=html.escape(pages[name].read_text(encoding="utf-8"))))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    dumped_page = subprocess.run(
        [chromium, *options, "--virtual-time-budget=5000", "--dump-dom", wrapped.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert "<title>measured</title>" in dumped_page
    measured = re.search(r"<body>(\{.*?\})</body>", dumped_page, re.DOTALL)
    assert measured
    assert json.loads(html.unescape(measured[1])) == {"beyond": 0, "asked": []}


class Outline(HTMLParser):
    """What a screen reader goes by, and what a keyboard reaches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[dict[str, str | None]] = []
        self.tables: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "div":
            self.open.append(dict(attrs))
        if tag == "table":
            self.tables.append(self.open[-1] if self.open else {})

    def handle_endtag(self, tag: str) -> None:
        if tag == "div" and self.open:
            self.open.pop()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize("name", NAMES)
def test_every_page_can_be_read_by_keyboard_and_ear(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text(encoding="utf-8")
    page = Outline(text)
    assert page.all("html")[0]["lang"] == "en"
    assert re.search(r"<title>[^<]+</title>", text)
    assert 'name="viewport"' in text
    assert len(page.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    assert all(image.get("alt") for image in page.all("img"))
    assert all(drawing.get("aria-label") for drawing in page.all("svg"))
    assert all(cell.get("scope") for cell in page.all("th"))
    for around in page.tables:
        assert around.get("tabindex") == "0"
        assert around.get("role") == "region"
        assert around.get("aria-label")
    assert page.all("a")[0]["href"] == "#main"
    assert ":focus-visible" in text
    local = text.replace("http://127.0.0.1", "")
    assert not re.search(r"https?://|@import|url\(", local)
