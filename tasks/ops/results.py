"""What a flow shows of a workspace's last results: the scores as a table, and one picture."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.files import read_json_or_none

if TYPE_CHECKING:
    from tasks.ops.links import Link

KEY_SCORES = {"mean_dice": "mean Dice", "mean_auc": "mean AUC"}
# The case that a reader should see first, else all of them, else the ROC.
PICTURES = ("worst_*.png", "best_*.png", "contact_sheet.png", "*.png")
MAX_PIXELS = 900  # of a side: the picture is kept in Prefect's database
JPEG_QUALITY = 80


def describe_results(workspace: str, links: list[Link]) -> str:
    """Describe the last results in Markdown: scores, decision, links.

    Returns:
        Empty where there is nothing to show.
    """
    scores = _read_object(Path("data/metrics") / workspace / "evaluate.json")
    decision = _read_object(Path("mmars") / workspace / "eval/decision.json")
    lines = _tabulate_scores(scores)
    if "verdict" in decision:
        lines += [f"**{decision['verdict']}**: {'; '.join(map(str, decision.get('reasons') or ()))}", ""]
    lines += [f"- [{link.title}]({link.address}){f': {link.note}' if link.note else ''}" for link in links]
    return "\n".join(lines)


def encode_picture(workspace: str) -> str:
    """Encode a picture of the evaluation as a data address, which needs no server.

    Returns:
        Empty where there is no picture.
    """
    folder = Path("mmars") / workspace / "eval/test/overlays"
    picture = next((path for pattern in PICTURES for path in sorted(folder.glob(pattern))), None)
    if picture is None:
        return ""
    from PIL import Image

    with Image.open(picture) as image:
        image.thumbnail((MAX_PIXELS, MAX_PIXELS))
        stream = io.BytesIO()
        image.convert("RGB").save(stream, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _tabulate_scores(scores: dict[str, Any]) -> list[str]:
    key = next((key for key in KEY_SCORES if key in scores), None)
    if key is None:
        return []
    counts = f"{scores.get('cases', 0):g} unseen cases, {scores.get('failed_cases', 0):g} failed"
    rows = [f"| {name} | {value:.4g} |" for name, value in scores.items() if isinstance(value, int | float)]
    return [f"## {KEY_SCORES[key]} {scores[key]:.3f} on {counts}", "", "| score | value |", "|---|---|", *rows, ""]


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json_or_none(path)
    return content if isinstance(content, dict) else {}
