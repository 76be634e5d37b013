"""Makes two workspaces of one segmentation in two stages: a low resolution, then the full one that sees its mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.errors import ConfigError
from voxflow.files import read_text, write_text
from voxflow.places import read_params
from voxflow.workspace.folds import replace_section, set_folds
from voxflow.workspace.params_lines import parses_to, set_line

if TYPE_CHECKING:
    from pathlib import Path

# Of the median image in the first stage: a patch of 96 voxels along each axis covers a quarter of it, nnU-Net's share.
MOST_VOXELS = 4 * 96**3
FOLDS = 5
SECTION, COMMENT = "previous", "The first stage of each workspace that is the second of two."


def name_first_stage(name: str) -> str:
    """Name the workspace of the first stage.

    Example:
        >>> name_first_stage("liver")
        'liver_low'
    """
    return f"{name}_low"


def join_stages(params: Path, second: str, first: str) -> None:
    """Make one workspace the first stage of another, both of the template auto.

    Args:
        params: params.yaml, in which both have their blocks; comments and layout are kept.
        second: of the full resolution, which is shown the other one's masks.
        first: gets a low resolution, and folds, of which each makes the masks of the cases that it held out.

    Raises:
        ConfigError: there is no such workspace, or the file can't be edited line by line.
    """
    set_folds(params, first, FOLDS)
    text, content = read_text(params), read_params(params)
    blocks = content["workspaces"]
    blocks[first]["resample"]["most_voxels"] = MOST_VOXELS
    blocks[second]["train"]["previous"] = first
    content[SECTION] = (content.get(SECTION) or {}) | {second: {"workspace": first}}
    text = set_line(text, ("workspaces", first, "resample"), "most_voxels", str(MOST_VOXELS))
    text = set_line(text, ("workspaces", second, "train"), "previous", first)
    text = replace_section(text, SECTION, content[SECTION], COMMENT)
    if not parses_to(text, content):
        raise ConfigError("can't be edited line by line; docs/two-stages.md shows what to write", path=params)
    write_text(params, text)
