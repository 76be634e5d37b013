"""Proposes names for the values of label files, where these are not counted from 1: masks of 0 and 255, say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError
from voxflow.images.label_values import propose_labels
from voxflow.images.options import ImageOptions
from voxflow.images.pairs import pair_files
from voxflow.images.tree import list_files
from voxflow.volumes import read_volume, round_labels

if TYPE_CHECKING:
    from pathlib import Path

MOST_FILES, MOST_VALUES = 5, 32


def propose_label_values(source: Path) -> dict[int, str]:
    """Read the first label files of a folder without a known layout.

    Args:
        source: of images and labels that belong together by their names.

    Returns:
        Names by the files' values, as the option ``labels`` takes them; empty where the values need none, or are too
        many to be classes.
    """
    try:
        labels = [pair.label for pair in pair_files(source, list_files(source), ImageOptions()).pairs if pair.label]
    except DataError:  # an empty folder, say
        return {}
    values: set[int] = set()
    for path in labels[:MOST_FILES]:
        try:
            values |= {int(value) for value in np.unique(round_labels(read_volume(path).array))}
        except DataError:  # the conversion says why
            continue
    return propose_labels(values) if len(values) <= MOST_VALUES else {}
