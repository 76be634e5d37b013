"""Changes Great Expectations' Data Docs so that they load nothing from the internet.

As they come, their pages fetch styles, scripts and pictures from eight public servers each time that someone looks at
them, show nothing readable where these can't be reached, and carry 4 MB of fonts. Here every page keeps its text and
tables, and gets one small stylesheet of its own, and what a phone, a keyboard and a screen reader need. What says
nothing of the data, such as the class that held the table in memory, is left out; each column of numbers gets a
histogram.
"""

from __future__ import annotations

import html
import re
import shutil
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_REMOTE = re.compile(
    r"<script\b.*?</script>|<iframe\b.*?</iframe>|<link\b[^>]*>|<img\b[^>]*>|<style\b.*?</style>|<footer\b.*?</footer>",
    re.DOTALL | re.IGNORECASE,
)
# Buttons that do nothing without their scripts.
_DEAD = re.compile(r'<strong>Actions</strong>.*?(?=<div class="card d-md-block)', re.DOTALL)
# What only their scripts open and close is open here; what counts as empty is left out.
_SWITCH = re.compile(r'<a data-toggle="collapse".*?</a>|<thead hidden>.*?</thead>', re.DOTALL)
# Of the table in memory, not of the data.
_BATCH = re.compile(
    r'<div id="[^"]*-header" >\s*<div>\s*<h3[^>]*>\s*Batch (?:Markers|Parameters|Spec)\s*</h3>.*?</table></div>',
    re.DOTALL,
)
_CODE = re.compile(r"<code\s*>\s*df\.filter.*?</code>", re.DOTALL)
_ICON = re.compile(r'(<i class="[^"]*text-(success|danger)")')
_HEADING = re.compile(r"<h2[^>]*>\s*([^<]*?)\s*</h2>")
_TITLES = re.compile(r"<title>.*?</title>", re.DOTALL)
_BODY = re.compile(r"<body[^>]*>")
_CONTENT = '<div class="container-fluid pt-4'
SKIP = '<a class="skip" href="#main">To the content</a>'
SCROLL = '<div class="scroll" tabindex="0" role="region" aria-label="Table">'
_MENDED = (
    ("<html>", '<html lang="en">'),
    *((f"<{end}{old}", f"<{end}{new}") for old, new in (("h4", "h1"), ("h5", "h2"), ("h6", "h3")) for end in ("", "/")),
    ("<th\n", '<th scope="col"\n'),
    ("<th>", '<th scope="col">'),
    ("<table", f"{SCROLL}<table"),
    ("</table>", "</table></div>"),
    ("Data asset: None", "Data asset: the measurements of every case"),
    ("</body>", "</main></body>"),
)
_MARKS = {"success": "passed", "danger": "failed"}
STYLE = """
:root { color-scheme: light dark; --bar: #0072b2; --out: #c03a00; --soft: #55606e; --line: #d0d7de;
  --good: #1a7f37; --bad: #cf222e; --warn: #855500; }
@media (prefers-color-scheme: dark) { :root { --bar: #338ec1; --out: #ff9d7a; --soft: #a3aebc; --line: #30363d;
  --good: #5fd1a8; --bad: #ff8f80; --warn: #e3be5c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; margin: 0 auto; max-width: 75rem; padding: 1rem; }
nav ul, nav ol { list-style: none; display: flex; flex-wrap: wrap; gap: 0 1rem; padding: 0; margin: .5rem 0; }
table { border-collapse: collapse; margin: .5rem 0 1rem; width: 100%; }
th, td { border: 1px solid #d0d7de; padding: .25rem .6rem; text-align: left; vertical-align: top; }
a { color: #0550ae; } .popover, .tooltip { display: none; }
h1, h2, h3, .breadcrumb-item { overflow-wrap: anywhere; }
h1, h2, h3 { margin: 1.2rem 0 .3rem; } h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; } h3 { font-size: 1rem; }
.scroll { overflow-x: auto; }
a:focus-visible, .scroll:focus-visible { outline: 3px solid #0550ae; outline-offset: 2px; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: .5rem; top: .5rem; background: #fff; color: #0550ae; padding: .4rem .8rem; }
.badge { background: #eaeef2; border-radius: .3rem; padding: 0 .35rem; }
.fa-check-circle::before { content: "\\2713"; color: var(--good); font-weight: bold; }
.fa-times::before, .fa-times-circle::before { content: "\\2717"; color: var(--bad); font-weight: bold; }
.fa-exclamation-triangle::before, .fa-exclamation-circle::before { content: "!"; color: var(--warn); }
figure.histogram { margin: .3rem 0 .6rem; max-width: 32rem; } figure.histogram svg { width: 100%; height: auto; }
figure.histogram text { font: 12px system-ui, sans-serif; fill: var(--soft); }
figure.histogram .in { fill: var(--bar); } figure.histogram .out { fill: var(--out); }
figure.histogram .grid { stroke: var(--line); }
figure.histogram .diagonal { stroke: var(--soft); stroke-dasharray: 4 4; }
i { font-style: normal; } .alert-danger, .table-danger { background: #ffebe9; }
@media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3; } a { color: #79c0ff; }
  th, td { border-color: #30363d; } .badge { background: #30363d; } .alert-danger { background: #67060c; } }
"""


def make_self_contained(docs: Path, title: str, histograms: Mapping[str, str] | None = None) -> None:
    """Rewrite every page below ``docs`` so that it needs nothing but itself; index.html shows the newest results.

    Args:
        docs: folder of the Data Docs.
        title: of every page.
        histograms: drawing by column, which its part of the results shows.
    """
    shutil.rmtree(docs / "static", ignore_errors=True)
    for page in docs.rglob("*.html"):
        text = _DEAD.sub("", _REMOTE.sub("", page.read_text(encoding="utf-8")))
        text = _rewrite_page(text, title)
        if histograms and "validations" in page.parts:
            text = _HEADING.sub(lambda heading: _add_histogram(heading, histograms), text)
        page.write_text(text, encoding="utf-8")
    write_docs_index(docs, title)


def _rewrite_page(text: str, title: str) -> str:
    """One page in the order and with the names that people go by who don't see it, or see little of it at once."""
    text = _SWITCH.sub("", _TITLES.sub("", text))
    for old, new in _MENDED:
        text = text.replace(old, new)
    text = _CODE.sub("", _BATCH.sub("", text))
    text = _ICON.sub(lambda icon: f'{icon[1]} role="img" aria-label="{_MARKS[icon[2]]}"', text)
    head = f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
    text = _BODY.sub(rf"\g<0>{SKIP}", text.replace("</head>", head, 1), count=1)
    return text.replace(_CONTENT, f'<main id="main">{_CONTENT}', 1)


def _add_histogram(heading: re.Match[str], histograms: Mapping[str, str]) -> str:
    drawing = histograms.get(html.unescape(heading[1]), "")
    return f'{heading[0]}<figure class="histogram">{drawing}</figure>' if drawing else heading[0]


def write_docs_index(docs: Path, title: str) -> None:
    """Write index.html, which leads to the newest results of every suite at or below ``docs``."""
    pages = sorted(page.relative_to(docs) for page in docs.rglob("*.html"))
    by_suite = {_find_suite_name("validations", page): page.as_posix() for page in pages if "validations" in page.parts}
    expected = [page for page in pages if "expectations" in page.parts]
    target = html.escape(quote(next(iter(by_suite.values()), "#"), safe="/#"))
    results = "".join(_format_item(page, f"results of {suite}") for suite, page in by_suite.items())
    suites = "".join(_format_item(page.as_posix(), f"what is expected of {page.stem}") for page in expected)
    # With one suite the page of its results is what a reader wants.
    refresh = f'<meta http-equiv="refresh" content="0; url={target}">' if len(by_suite) == 1 else ""
    (docs / "index.html").write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{refresh}<style>{STYLE}</style></head>'
        f'<body>{SKIP}<main id="main"><h1>{html.escape(title)}</h1><ul>{results}{suites}</ul></main></body></html>\n',
        encoding="utf-8",
    )


def _find_suite_name(folder: str, page: Path) -> str:
    return page.parts[page.parts.index(folder) + 1]


def _format_item(name: str, title: str) -> str:
    return f'<li><a href="{html.escape(quote(name))}">{html.escape(title)}</a></li>'
