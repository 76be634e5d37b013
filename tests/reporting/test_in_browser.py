"""Every page fits phones and screens, light and dark, can be read, and asks for nothing; measured in Chromium."""

from __future__ import annotations

import math
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
    wait_for_case(browser)
    return browser


def wait_for_case(browser: Browser, name: str = "") -> None:
    """Wait until a viewer has opened a case, any or one by its name, and has drawn it."""
    browser.wait("document.body.dataset.ready" + (f" === '{name}'" if name else ""))
    browser.settle()


def list_faults(browser: Browser, page: Path, width: int, *, is_dark: bool) -> list[Any]:
    """What lies beyond the edge, is asked for from outside, fails in a script, or is too faint to read."""
    browser.open(page, width=width, is_dark=is_dark)
    if "viewer" in page.name:
        wait_for_case(browser)
    browser.settle()
    beyond = browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    outside = [address for address in browser.requests if not address.startswith(("file:", "data:", "blob:"))]
    edge = [f"{beyond} px beyond the edge"] if beyond > 0 else []
    return [*edge, *outside, *browser.errors, *browser.run(CONTRAST)]


@pytest.mark.parametrize("name", NAMES)
def test_pages_fit_a_phone_in_the_dark_and_a_laptop_in_the_light(
    pages: dict[str, Path], browser: Browser, name: str
) -> None:
    assert list_faults(browser, pages[name], PHONE, is_dark=True) == []
    assert list_faults(browser, pages[name], LAPTOP, is_dark=False) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, LAPTOP, SCREEN])
@pytest.mark.parametrize("is_dark", [False, True])
def test_every_page_at_every_width_in_both_schemes(
    pages: dict[str, Path], browser: Browser, width: int, is_dark: bool, tmp_path: Path
) -> None:
    # VOXFLOW_PICTURES=docs/images takes those of the documentation anew.
    folder = ROOT / (os.environ.get("VOXFLOW_PICTURES") or tmp_path)
    for name in NAMES:
        assert list_faults(browser, pages[name], width, is_dark=is_dark) == [], name
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
    wait_for_case(viewer, "pet_1")
    assert viewer.run("document.getElementById('window').selectedOptions[0].textContent") == "Abdomen"
    viewer.press("c")
    viewer.wait("document.getElementById('channel').value === '1'")
    viewer.settle()
    assert viewer.run("document.getElementById('window').selectedOptions[0].textContent") == "SUV 0 to 10"
    assert viewer.errors == []


# Of every class that is drawn in 3D: the volume that its surface encloses (normals say which side is outside), and that
# of its voxels, mm³.
SURFACE_VOLUMES = """(() => [...state.meshes].filter(([, mesh]) => mesh).map(([key, mesh]) => {
  const { positions, normals, triangles } = mesh;
  const [layer, part] = key.split("-").map(Number), members = current.members[layer][part];
  const at = (array, n) => [...array.slice(3 * n, 3 * n + 3)], minus = (a, b) => a.map((mm, axis) => mm - b[axis]);
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  let enclosed = 0;
  for (let n = 0; n < triangles.length; n += 3) {
    const [a, b, c] = [0, 1, 2].map((corner) => at(positions, triangles[n + corner]));
    const area = cross(minus(b, a), minus(c, a));
    enclosed += Math.sign(dot(area, at(normals, triangles[n]))) * dot(a, area) / 6;
  }
  const count = current.masks[layer].reduce((sum, value) => sum + (members[value] ? 1 : 0), 0);
  return [enclosed, count * current.spacing[0] * current.spacing[1] * current.spacing[2]];
}))()"""


def test_surfaces_in_3d_enclose_the_volumes_of_the_masks_and_turn(viewer: Browser) -> None:
    volumes = viewer.run(SURFACE_VOLUMES)
    assert len(volumes) >= 2, "label and prediction"
    for enclosed, voxels in volumes:
        assert enclosed == pytest.approx(voxels, rel=0.05)
    before = read_canvas(viewer, "surface")
    x, y = viewer.run("(({x, y}) => [x + 60, y + 60])(document.getElementById('surface').getBoundingClientRect())")
    drag(viewer, (x, y), (x + 50, y + 20))
    turned = read_canvas(viewer, "surface")
    assert turned != before
    viewer.press("1")
    viewer.press("2")
    assert read_canvas(viewer, "surface") != turned, "no mask is shown any more"


@pytest.mark.parametrize("width", [PHONE, LAPTOP, SCREEN])
def test_the_dice_of_every_class_is_seen_without_scrolling_sideways(
    browser: Browser, pages: dict[str, Path], width: int
) -> None:
    browser.open(pages["viewer"], width=width)
    wait_for_case(browser)
    assert browser.run("[...document.querySelectorAll('aside th')].pop().textContent") == "Dice"
    beyond = "(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)(document.querySelector('aside .scroll'))"
    assert browser.run(beyond) <= 0


def test_a_link_opens_its_case(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["viewer"], width=LAPTOP, part="#pet_1")
    wait_for_case(browser, "pet_1")
    assert "pet_1" in browser.run("document.getElementById('status').textContent")


def test_every_side_of_the_phantom_is_drawn_where_radiologists_look_for_it(
    browser: Browser, pages: dict[str, Path]
) -> None:
    """The mark at the head lies right, in front and up, in every storage order: left, left and up on the screen."""
    pictures = []
    for name in ("LPS", "RAS", "PIL"):
        browser.open(pages["phantom"], width=LAPTOP, part=f"#{name}")
        wait_for_case(browser, name)
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


def locate(browser: Browser, plane: str, across: float, down: float) -> tuple[float, float]:
    """Where voxel edge (across, down) of a plane, counted from its left upper corner, lies in the window."""
    script = f"""(() => {{
      const {{ canvas, plane, ratio, scale, left, top }} = layOut("{plane}"), box = canvas.getBoundingClientRect();
      return [box.x + (left + {across} * current.spacing[plane.across] * scale) / ratio,
              box.y + (top + {down} * current.spacing[plane.down] * scale) / ratio];
    }})()"""
    x, y = browser.run(script)
    return x, y


def drag(browser: Browser, start: tuple[float, float], end: tuple[float, float]) -> None:
    for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    browser.settle()


def read_distance(browser: Browser) -> str:
    return str(browser.run("document.getElementById('distance').textContent"))


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_distances_are_in_mm_in_every_plane_of_an_anisotropic_image(
    browser: Browser, pages: dict[str, Path], plane: str
) -> None:
    browser.open(pages["phantom"], width=LAPTOP, part="#PIL")
    wait_for_case(browser, "PIL")
    spacing = {"axial": (1.5, 1.0), "sagittal": (1.0, 2.0), "coronal": (1.5, 2.0)}[plane]
    before, cross = read_canvas(browser, plane), browser.run("state.cross.join()")
    browser.press("m")
    drag(browser, locate(browser, plane, 10, 5), locate(browser, plane, 30, 20))
    expected = math.hypot(20 * spacing[0], 15 * spacing[1])
    text = read_distance(browser)
    length, unit = re.search(r"Distance: ([\d.]+) (\w+), " + plane + r" slice \d+$", text).groups()  # type: ignore[union-attr]
    assert unit == "mm"
    assert float(length) == pytest.approx(expected, abs=0.4)  # a pointer's place is a whole pixel
    assert read_canvas(browser, plane) != before
    assert browser.run("state.cross.join()") == cross
    browser.run(f"moveSlice('{plane}', 1)")
    browser.settle()
    browser.run(f"moveSlice('{plane}', -1)")
    assert read_distance(browser) == text
    browser.press("Escape")
    assert read_distance(browser) == "Distances cleared."
    browser.press("m")
    browser.settle()
    assert read_canvas(browser, plane) == before
    assert browser.errors == []


def test_distances_are_measured_by_keys_alone(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["phantom"], width=LAPTOP, part="#RAS")
    wait_for_case(browser, "RAS")
    browser.run("document.getElementById('measure').focus(); document.getElementById('measure').click()")
    assert browser.run("document.getElementById('measure').getAttribute('aria-pressed')") == "true"
    browser.run("document.getElementById('coronal').focus()")
    browser.press("Enter")
    for key in ["ArrowRight"] * 4 + ["ArrowDown"] * 3:
        browser.press(key)
    browser.press("Enter")
    assert read_distance(browser).startswith(f"Distance: {math.hypot(4 * 1.5, 3 * 2.0):.1f} mm, coronal slice ")
    assert browser.run("document.getElementById('distance').getAttribute('role')") == "status"
    browser.press("Enter")
    browser.press("PageUp")  # another slice: the line that was begun is given up
    browser.press("Enter")
    browser.press("ArrowLeft")
    browser.press("Enter")
    assert read_distance(browser).startswith("Distance: 1.5 mm, coronal slice ")
    browser.press("n")
    wait_for_case(browser, "PIL")
    assert read_distance(browser) == ""


def test_a_finger_measures_on_a_phone_and_two_still_zoom(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["phantom"], width=PHONE, part="#LPS")
    wait_for_case(browser, "LPS")
    browser.press("m")
    slice_before = read_slice(browser, "axial")
    ends = [locate(browser, "axial", *place) for place in ((8, 10), (28, 10))]
    touch(browser, "touchStart", ends[:1])
    touch(browser, "touchMove", ends[1:])
    touch(browser, "touchEnd", [])
    length = re.search(r"Distance: ([\d.]+) mm", read_distance(browser))
    assert length
    assert float(length[1]) == pytest.approx(30, abs=0.5)
    assert read_slice(browser, "axial") == slice_before
    touch(browser, "touchStart", ends[:1])
    touch(browser, "touchStart", ends)
    (x0, y0), (x1, y1) = ends
    for apart in (10, 30, 50):
        touch(browser, "touchMove", [(x0 - apart, y0), (x1 + apart, y1)])
    touch(browser, "touchEnd", [])
    assert browser.run("state.zoom") > 1
    assert browser.run("ruler.lines.length") == 1


def touch(browser: Browser, kind: str, places: list[tuple[float, float]]) -> None:
    points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
    browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser.settle()


def test_a_pet_is_laid_over_its_ct_in_colours(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["viewer"], width=LAPTOP, part="#3f9a1c2b_1")
    wait_for_case(browser, "3f9a1c2b_1")
    assert browser.run("document.querySelector('.fusion').hidden")
    browser.press("n")
    wait_for_case(browser, "pet_1")
    browser.press("1")
    browser.press("2")
    plain = read_canvas(browser, "axial")
    assert not browser.run("document.querySelector('.fusion').hidden")
    assert browser.run("document.querySelector('.fused').hidden")
    browser.press("o")
    browser.wait("fusion.channel === 1")
    browser.settle()
    assert not browser.run("document.querySelector('.fused').hidden")
    assert browser.run("document.getElementById('overlay-window').selectedOptions[0].textContent") == "SUV 0 to 10"
    assert re.search(r"CT ≈ -?\d+ HU · PET ≈ [\d.]+ SUV", browser.run("byId('readout').textContent"))
    # Amid the spleen, SUV 8.5 of 10: hot iron is yellow there, which no grey is.
    red, _, blue = read_colour(browser)
    assert red - blue > 80
    fused = read_canvas(browser, "axial")
    choose(browser, "overlay-map", "Grey")
    assert max(read_colour(browser)) - min(read_colour(browser)) <= 1
    choose(browser, "overlay-window", "2")
    assert browser.run("[fusion.low, fusion.high]") == [0, 20]
    choose(browser, "overlay-map", "Hot iron")
    choose(browser, "overlay-window", "0")
    assert read_canvas(browser, "axial") == fused
    browser.run("Object.assign(byId('overlay-opacity'), {value: 0}).dispatchEvent(new Event('input'))")
    browser.settle()
    assert max(read_colour(browser)) - min(read_colour(browser)) <= 1
    browser.press("c")  # the PET becomes the background, and is no overlay of itself
    browser.wait("state.channel === 1")
    assert browser.run("[fusion.channel, byId('overlay').value]") == [-1, "-1"]
    assert browser.run("[...byId('overlay').options].map((option) => option.textContent)") == ["none", "CT"]
    browser.press("c")
    browser.wait("state.channel === 0")
    browser.settle()
    assert read_canvas(browser, "axial") == plain
    assert browser.errors == []


def choose(browser: Browser, control: str, value: str) -> None:
    browser.run(f"Object.assign(byId('{control}'), {{value: '{value}'}}).dispatchEvent(new Event('change'))")
    browser.settle()


def read_colour(browser: Browser) -> list[int]:
    """The colour at the cross of the axial plane."""
    script = """(() => {
      const { canvas, left, top, scale } = layOut("axial"), [x, y] = locateCross("axial");
      const place = [left + x * scale, top + y * scale].map(Math.round);
      return [...canvas.getContext("2d").getImageData(...place, 1, 1).data].slice(0, 3);
    })()"""
    colour: list[int] = browser.run(script)
    return colour


@pytest.mark.parametrize(("width", "is_dark"), [(PHONE, True), (LAPTOP, False), (SCREEN, True)])
def test_the_page_stays_good_with_an_overlay_and_a_distance(
    browser: Browser, pages: dict[str, Path], width: int, is_dark: bool, tmp_path: Path
) -> None:
    browser.open(pages["viewer"], width=width, is_dark=is_dark, part="#pet_1")
    wait_for_case(browser, "pet_1")
    browser.press("o")
    browser.wait("fusion.channel === 1")
    browser.press("m")
    drag(browser, locate(browser, "axial", 20, 30), locate(browser, "axial", 60, 50))
    assert "mm, axial slice" in read_distance(browser)
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert browser.run(CONTRAST) == []
    assert browser.errors == []
    if width == LAPTOP:
        browser.take_picture(ROOT / (os.environ.get("VOXFLOW_PICTURES") or tmp_path) / "viewer-fusion.png")


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
