"""Reads the facts of the data that the model file stores: class names, grid, modality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.datalist import parse_channels
from voxflow.errors import DataError, join_names
from voxflow.files import read_text
from voxflow.images import read_conversion
from voxflow.texts import parse_json
from voxflow.training.options import DataFacts
from voxflow.volumes import FINGERPRINT, HIGHEST_LABEL, parse_spacing, read_fingerprint, read_geometry

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_facts(labels: Path, resampling: Mapping[str, Any], metadata: Mapping[str, Any]) -> DataFacts:
    """Gather the facts.

    Args:
        labels: labels.json: ``{"0": "background", "1": "spleen"}``, or ``{"findings": ["mass", ...]}``.
        resampling: the workspace's key ``resample``: spacing_mm and orientation, or a reference, or size.
        metadata: the datalist's, for its modality and its channels.

    Raises:
        DataError: labels.json is missing or has neither form, or ``resample.onto`` names no channel.
    """
    size, spacing = resampling.get("size"), resampling.get("spacing_mm")
    modality = metadata.get("modality", "")
    if isinstance(modality, dict):
        modality = next(iter(modality.values()), "")
    orientation = resampling.get("orientation")
    if resampling.get("reference"):
        # A new image keeps its own box, and gets the voxels that the network knows.
        grid = read_geometry(Path(resampling["reference"]))
        spacing, orientation = grid.spacing, grid.orientation
    names, values = _read_class_names(labels)
    channels, rules = parse_channels(metadata)
    # The stage resample takes channels of any grids; an MMAR's transforms do not.
    onto = str(resampling.get("onto") or next(iter(channels), ""))
    if onto and onto not in channels:
        raise DataError(f"resample.onto: {onto!r} is no channel; there are {join_names(channels) or 'no names'}")
    return DataFacts(
        class_names=names,
        label_values=values,
        spacing_mm=None if spacing is None else parse_spacing(spacing),
        orientation=orientation,
        extent=resampling.get("extent", "faces"),
        interpolation=resampling.get("interpolation", "linear"),
        antialias=resampling.get("antialias", False),
        size=None if size is None else (int(size[0]), int(size[1])),
        modality=str(modality),
        channels=channels,
        rules=rules,
        onto=onto,
        **(_read_measurements(labels.with_name(FINGERPRINT), len(channels)) if channels else {}),
        convert=read_conversion(labels.parent),
    )


def _read_measurements(path: Path, channel_count: int) -> dict[str, Any]:
    """What the channels are like, and their modalities, as the stage resample found them; empty where it did not."""
    if not path.is_file():
        return {}
    fingerprint = read_fingerprint(path)
    profile, modalities = fingerprint.profile, fingerprint.modalities
    is_known = any(modalities) and len(modalities) == channel_count
    return {
        "profile": profile.model_dump(mode="json") if profile else {},
        "modalities": modalities if is_known else (),
    }


def _read_class_names(labels: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names of the network's channels, and the label values; none of findings."""
    try:
        content = parse_json(read_text(labels))
        if "findings" in content:
            return tuple(str(name) for name in content["findings"]), ()
        names = {int(value): str(name) for value, name in content.items()}
    except FileNotFoundError as error:
        raise DataError("file not found; the stage resample writes it", path=labels) from error
    except (DataError, ValueError, TypeError, AttributeError) as error:
        reason = error.message if isinstance(error, DataError) else error
        form = '{"0": "background", "1": NAME, ...} or {"findings": [NAME, ...]}'
        raise DataError(f"expected {form}: {reason}", path=labels) from error
    if not names or min(names) < 0 or max(names) > HIGHEST_LABEL:
        values = join_names([str(value) for value in sorted(names)])
        raise DataError(f"label values must be 0 to {HIGHEST_LABEL}, received {values}", path=labels)
    # The network's channels are counted through; a value that the data skips gets a channel without a name.
    return tuple(names.get(value, f"class_{value}") for value in range(max(names) + 1)), tuple(sorted(names))
