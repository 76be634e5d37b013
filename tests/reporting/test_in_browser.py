"""Every page fits phones and screens, light and dark, can be read, and asks for nothing; measured in Chromium."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.reporting.browser import Browser, open_browser
from tests.reporting.pages import write_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = (
    *("report", "compare", "drift", "index", "data docs", "expectations", "data docs index", "checks"),
    *("viewer", "compare viewer", "review"),
)
ROOT = Path(__file__).parents[2]
PHONE, LAPTOP, SCREEN = 390, 1280, 1920
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
# Text by text: its colour against the nearest background that is not transparent; 3 is enough for large text.
CONTRAST = """(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const shine = (rgb) => rgb.slice(0, 3).map((n) => n / 255)
    .map((n) => (n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4))
    .reduce((sum, n, i) => sum + n * [0.2126, 0.7152, 0.0722][i], 0);
  const findGround = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const faults = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || element.closest("script, style, noscript, option, title, .sr")) continue;
    if (!element.getClientRects().length) continue;
    const style = getComputedStyle(element), colour = element.closest("svg") ? style.fill : style.color;
    const [low, high] = [shine(parse(colour)), shine(findGround(element))].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05), isLarge = parseFloat(style.fontSize) >= 24;
    if (contrast < (isLarge ? 3 : LEAST)) faults.push([text.slice(0, 40), colour, Math.round(contrast * 100) / 100]);
  }
  return faults;
})()""".replace("LEAST", str(LEAST_CONTRAST))
READY = "document.body.dataset.ready"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    root = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield write_pages(root)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def viewer(browser: Browser, pages: dict[str, Path]) -> Browser:
    browser.open(pages["viewer"], width=LAPTOP)
    browser.wait(READY)
    browser.settle()
    return browser


def require_good_page(browser: Browser, page: Path, width: int, *, is_dark: bool) -> None:
    """Nothing beyond the edge, nothing asked for, no script that fails, no text too faint."""
    browser.open(page, width=width, is_dark=is_dark)
    if "viewer" in page.name:
        browser.wait(READY)
    browser.settle()
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    outside = [address for address in browser.requests if not address.startswith(("file:", "data:", "blob:"))]
    assert outside == []
    assert browser.errors == []
    assert browser.run(CONTRAST) == []


@pytest.mark.parametrize("name", NAMES)
def test_pages_fit_a_phone_in_the_dark_and_a_laptop_in_the_light(
    pages: dict[str, Path], browser: Browser, name: str
) -> None:
    require_good_page(browser, pages[name], PHONE, is_dark=True)
    require_good_page(browser, pages[name], LAPTOP, is_dark=False)


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, LAPTOP, SCREEN])
@pytest.mark.parametrize("is_dark", [False, True])
def test_every_page_at_every_width_in_both_schemes(
    pages: dict[str, Path], browser: Browser, width: int, is_dark: bool, tmp_path: Path
) -> None:
    # VOXFLOW_PICTURES=docs/images takes those of the documentation anew.
    folder = ROOT / (os.environ.get("VOXFLOW_PICTURES") or tmp_path)
    for name in NAMES:
        require_good_page(browser, pages[name], width, is_dark=is_dark)
        if name == "viewer" and (width, is_dark) in ((LAPTOP, False), (PHONE, True)):
            browser.take_picture(folder / ("viewer-phone.png" if width == PHONE else "viewer.png"))


def test_slices_scroll_by_wheel_keys_and_slider(viewer: Browser) -> None:
    start = read_slice(viewer, "axial")
    before = read_canvas(viewer, "axial")
    place = viewer.run("(({x, y}) => [x + 150, y + 150])(document.getElementById('axial').getBoundingClientRect())")
    viewer.call("Input.dispatchMouseEvent", type="mouseWheel", x=place[0], y=place[1], deltaX=0, deltaY=120)
    viewer.settle()
    assert read_slice(viewer, "axial") == start - 1
    assert read_canvas(viewer, "axial") != before
    viewer.run("document.getElementById('axial').focus()")
    for _ in range(3):
        viewer.press("ArrowUp")
    assert read_slice(viewer, "axial") == start + 2
    viewer.run("Object.assign(document.getElementById('coronal-slice'), {value: 5}).dispatchEvent(new Event('input'))")
    viewer.settle()
    assert viewer.run("document.getElementById('coronal').getAttribute('aria-label')").startswith("Coronal, slice 6 of")


def test_masks_windows_cases_and_channels_are_switched(viewer: Browser) -> None:
    with_masks = read_canvas(viewer, "axial")
    viewer.press("1")
    viewer.press("2")
    without = read_canvas(viewer, "axial")
    assert without != with_masks
    assert viewer.run("[...document.querySelectorAll('[data-layer]')].map((box) => box.checked)") == [False, False]
    viewer.press("w")
    assert viewer.run("document.getElementById('window').selectedOptions[0].textContent") == "Lung"
    assert read_canvas(viewer, "axial") != without
    viewer.press("n")
    viewer.wait(f"{READY} === 'pet_1'")
    viewer.settle()
    assert viewer.run("document.getElementById('window').selectedOptions[0].textContent") == "Abdomen"
    viewer.press("c")
    viewer.wait("document.getElementById('channel').value === '1'")
    viewer.settle()
    assert viewer.run("document.getElementById('window').selectedOptions[0].textContent") == "SUV 0 to 10"
    assert viewer.errors == []


def test_a_link_opens_its_case(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["viewer"], width=LAPTOP, part="#pet_1")
    browser.wait(f"{READY} === 'pet_1'")
    assert "pet_1" in browser.run("document.getElementById('status').textContent")


def test_every_side_of_the_phantom_is_drawn_where_radiologists_look_for_it(
    browser: Browser, pages: dict[str, Path]
) -> None:
    """The mark at the head lies right, in front and up, in every storage order: left, left and up on the screen."""
    pictures = []
    for name in ("LPS", "RAS", "PIL"):
        browser.open(pages["phantom"], width=LAPTOP, part=f"#{name}")
        browser.wait(f"{READY} === '{name}'")
        browser.press("x")
        browser.press("1")
        pictures.append([find_brightest(browser, plane) for plane in ("axial", "coronal", "sagittal")])
    assert pictures[0] == pictures[1] == pictures[2]
    (across, _), (across_coronal, up), (back, up_sagittal) = pictures[0]
    # The cross starts amid the mark at the head, which lies to the right, in front of the middle and at the top.
    assert across < 0.5
    assert across_coronal < 0.5
    assert up < 0.5
    assert up_sagittal < 0.5
    assert back < 0.5


def find_brightest(browser: Browser, plane: str) -> list[float]:
    """Where the brightest part of a plane's image lies, from its left upper corner, as shares rounded to 0.02."""
    script = f"""(() => {{
      const {{ canvas, width, height, left, top, mmWide, mmHigh, scale }} = layOut("{plane}");
      const {{ data }} = canvas.getContext("2d").getImageData(0, 0, width, height);
      const right = left + mmWide * scale - 40, bottom = top + mmHigh * scale - 40;
      let x = 0, y = 0, count = 0;
      for (let v = Math.ceil(top) + 40; v < bottom; v++) for (let u = Math.ceil(left) + 40; u < right; u++)
        if (data[4 * (v * width + u)] > 235) {{ x += u; y += v; count++; }}
      return [(x / count - left) / (mmWide * scale), (y / count - top) / (mmHigh * scale)];
    }})()"""
    shares: list[float] = browser.run(script)
    return [round(share / 0.02) * 0.02 for share in shares]


def read_slice(browser: Browser, plane: str) -> int:
    return int(browser.run(f"document.getElementById('{plane}-slice').value"))


def read_canvas(browser: Browser, plane: str) -> Any:
    return browser.run(f"document.getElementById('{plane}').toDataURL()")


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
