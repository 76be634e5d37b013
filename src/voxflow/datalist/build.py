"""Writing a datalist in Clara's form from a case table whose cases have their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.datalist.model import SPLIT_MARK
from voxflow.datalist.split import INFERENCE, TESTING, TRAINING, VALIDATION
from voxflow.tables import FINDING_PREFIX, LABELLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

PARTS = (TRAINING, VALIDATION, TESTING, INFERENCE)
CHANNELS = ";"


def build_datalist(
    table: pd.DataFrame,
    labels: Mapping[str, Any],
    *,
    name: str,
    regions: Mapping[str, Sequence[int]] | None = None,
    ignore: int | None = None,
    channels: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Build the JSON of a datalist.

    Args:
        table: one row a case, with ``part`` and paths relative to the data root.
        labels: the content of labels.json: names by label value, or the list of findings.
        name: the data set's name.
        regions: the label values of each class, where a voxel may belong to several.
        ignore: the label value of voxels that nobody labelled; None where there is none.
        channels: of cases of several images, the rule of each by its name; of files an empty one.

    Returns:
        Metadata, ``label_format`` for classification, and the four parts.
    """
    findings = [column for column in table.columns if column.startswith(FINDING_PREFIX)]
    counts = table["part"].value_counts()
    datalist: dict[str, Any] = {
        "name": name,
        "description": f"{name}, {SPLIT_MARK}",
        "labels": labels.get("findings", labels) if findings else dict(labels),
        "modality": {
            str(n): value
            for n, value in enumerate(sorted({str(modality) for modality in table["modality"].dropna() if modality}))
        },
        "tensorImageSize": "2D" if findings else "3D",
        "numTraining": int(counts.get(TRAINING, 0) + counts.get(VALIDATION, 0)),
        "numTest": int(counts.get(TESTING, 0)),
    }
    if regions:
        datalist["regions"] = {region: list(values) for region, values in regions.items()}
    if ignore is not None:
        datalist["ignore"] = ignore
    if channels:
        datalist["channels"] = {channel: dict(rule) for channel, rule in channels.items()}
    if findings:
        datalist["label_format"] = [1] * len(findings)
    rows = table.sort_values("case").to_dict("records")
    for part in PARTS:
        datalist[part] = [_make_item(row, findings, part) for row in rows if row["part"] == part]
    return datalist


def _make_item(row: dict[Any, Any], findings: list[str], part: str) -> dict[str, Any]:
    images = str(row["image"]).split(CHANNELS)
    item: dict[str, Any] = {"image": images[0] if len(images) == 1 else images}
    if part != INFERENCE:
        item["label"] = [int(row[column]) for column in findings] if findings else row["label"]
        if isinstance(row.get(LABELLED), str) and row[LABELLED]:
            item["labelled"] = row[LABELLED].split(CHANNELS)
    return item | {"case": row["case"], "patient": row["patient"]}
