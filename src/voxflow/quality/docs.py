"""Owns making Great Expectations' Data Docs complete in themselves.

As they come, their pages fetch styles, scripts and pictures from eight public servers each time that someone looks at
them, show nothing readable where these can't be reached, and carry 4 MB of fonts. Here every page keeps its text and
tables, and gets one small stylesheet of its own.
"""

from __future__ import annotations

import html
import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_REMOTE = re.compile(
    r"<script\b.*?</script>|<iframe\b.*?</iframe>|<link\b[^>]*>|<img\b[^>]*>|<style\b.*?</style>|<footer\b.*?</footer>",
    re.DOTALL | re.IGNORECASE,
)
# Buttons that do nothing without their scripts.
_DEAD = re.compile(r'<strong>Actions</strong>.*?(?=<div class="card d-md-block)', re.DOTALL)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; margin: 0 auto; max-width: 75rem; padding: 1rem; }
nav ul, nav ol { list-style: none; display: flex; flex-wrap: wrap; gap: 0 1rem; padding: 0; margin: .5rem 0; }
table { border-collapse: collapse; margin: .5rem 0 1rem; width: 100%; }
th, td { border: 1px solid #d0d7de; padding: .25rem .6rem; text-align: left; vertical-align: top; }
a { color: #0550ae; } h4, h5 { margin: 1.2rem 0 .3rem; } .popover, .tooltip { display: none; }
.badge { background: #eaeef2; border-radius: .3rem; padding: 0 .35rem; }
.fa-check-circle::before { content: "\\2713"; color: #1a7f37; font-weight: bold; }
.fa-times::before, .fa-times-circle::before { content: "\\2717"; color: #cf222e; font-weight: bold; }
.fa-exclamation-triangle::before, .fa-exclamation-circle::before { content: "!"; color: #9a6700; font-weight: bold; }
i { font-style: normal; } .alert-danger, .table-danger { background: #ffebe9; }
@media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3; } a { color: #79c0ff; }
  th, td { border-color: #30363d; } .badge { background: #30363d; } .alert-danger { background: #67060c; } }
"""


def make_self_contained(docs: Path, title: str) -> None:
    """Rewrite every page below ``docs`` so that it needs nothing but itself; index.html shows the newest results."""
    shutil.rmtree(docs / "static", ignore_errors=True)
    for page in docs.rglob("*.html"):
        text = _DEAD.sub("", _REMOTE.sub("", page.read_text(encoding="utf-8")))
        page.write_text(text.replace("</head>", f"<style>{STYLE}</style></head>", 1), encoding="utf-8")
    write_docs_index(docs, title)


def write_docs_index(docs: Path, title: str) -> None:
    """Write index.html, which leads to the newest results of every suite at or below ``docs``."""
    pages = sorted(page.relative_to(docs) for page in docs.rglob("*.html"))
    by_suite = {_after("validations", page): page.as_posix() for page in pages if "validations" in page.parts}
    expected = [page for page in pages if "expectations" in page.parts]
    target = html.escape(next(iter(by_suite.values()), "#"))
    results = "".join(_item(page, f"results of {suite}") for suite, page in by_suite.items())
    suites = "".join(_item(page.as_posix(), f"what is expected of {page.stem}") for page in expected)
    # With one suite the page of its results is what a reader wants.
    refresh = f'<meta http-equiv="refresh" content="0; url={target}">' if len(by_suite) == 1 else ""
    (docs / "index.html").write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{refresh}<style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1><ul>{results}{suites}</ul></body></html>\n",
        encoding="utf-8",
    )


def _after(folder: str, page: Path) -> str:
    return page.parts[page.parts.index(folder) + 1]


def _item(name: str, title: str) -> str:
    return f'<li><a href="{html.escape(name)}">{html.escape(title)}</a></li>'
