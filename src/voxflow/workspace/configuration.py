"""Writes which configuration a workspace is trained with into params.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.errors import ConfigError
from voxflow.files import read_text, write_text
from voxflow.places import read_params
from voxflow.workspace.params_lines import parses_to, set_line

if TYPE_CHECKING:
    from pathlib import Path

USUAL = "full"


def set_configuration(params_file: Path, workspace: str, configuration: str) -> None:
    """Write ``train.configuration`` of a workspace; the usual one is written only where another one stands.

    Args:
        params_file: params.yaml; comments and layout are kept.
        workspace: a key of ``workspaces``.
        configuration: a value of the key.

    Raises:
        ConfigError: a layout that can't be edited line by line.
    """
    text, content = read_text(params_file), read_params(params_file)
    train = content["workspaces"][workspace]["train"]
    if train.get("configuration", USUAL) == configuration:
        return
    train["configuration"] = configuration
    text = set_line(text, ("workspaces", workspace, "train"), "configuration", configuration)
    if not parses_to(text, content):
        place = f"workspaces.{workspace}.train.configuration"
        message = f"can't be edited line by line; write {place}: {configuration} in a line of its own"
        raise ConfigError(message, path=params_file)
    write_text(params_file, text)
