"""Writes the case viewer of a worklist, with which a person looks at the masks that are to be reviewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.inference.channel_overlays import name_modalities
from voxflow.prediction import class_values
from voxflow.viewing import PREDICTION, ViewerCase, ViewerLayer, write_viewer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, TypeVar

    from voxflow.inference.cases import InferenceCase
    from voxflow.spec import ModelSpec

    T = TypeVar("T")
    Row = Mapping[str, Any]

VIEWER = "review/viewer.html"  # below the folder of the results
MOST_SHOWN = 24  # cases; each is shown the more coarsely, the more there are


def write_review_viewer(
    names: Sequence[str], *, out: Path, cases: Sequence[InferenceCase], rows: Mapping[str, Row], spec: ModelSpec
) -> list[str]:
    """Write review/viewer.html, the first cases of a worklist with their masks; where there are none, it is removed.

    Args:
        names: of the cases to review, in the order of the worklist.
        out: the folder of the results.
        cases: all, with their images.
        rows: of preds_outputs.csv, by case; for the place of each mask.
        spec: of the model, which names classes and channels.

    Returns:
        The names of the cases that the page shows.

    Raises:
        OSError: the page could not be written.
    """
    page = out / VIEWER
    if not names:
        page.unlink(missing_ok=True)
        return []
    by_name = {case.id: case for case in cases}
    shown_cases = [_describe_case(by_name[name], out / rows[name]["mask"], spec) for name in names[:MOST_SHOWN]]
    remark = "the least certain first" if len(names) > 1 else ""
    if len(names) > MOST_SHOWN:
        remark = f"the {MOST_SHOWN} least certain of {len(names)}"
    page.parent.mkdir(exist_ok=True)
    failures = write_viewer(page, "Cases to review", shown_cases, parent_page="../review.html", remark=remark)
    return [case.id for case in shown_cases if case.id not in failures]


def _describe_case(case: InferenceCase, mask: Path, spec: ModelSpec) -> ViewerCase:
    """Describe a case for the viewer: the image that gives the mask's grid comes first."""
    count = len(case.images)
    # A file of several channels is shown as it is, and its channels are numbered.
    is_named = count == len(spec.channels)
    first = min(spec.reference, count - 1)
    return ViewerCase(
        case.id,
        _put_first(case.images, first),
        (ViewerLayer(PREDICTION, mask),),
        channels=_put_first(spec.channels, first) if is_named else (),
        modalities=_put_first(name_modalities(spec, count), first),
        units=_put_first(case.units, first) if len(case.units) == count else (),
        classes=class_values(spec),
    )


def _put_first(values: Sequence[T], number: int) -> tuple[T, ...]:
    return (values[number], *values[:number], *values[number + 1 :])
