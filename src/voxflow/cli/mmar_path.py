"""Turns the word that names a workspace on a command line into its folder."""

from __future__ import annotations

from pathlib import Path

WORKSPACE_HELP = "name of a workspace in params.yaml, or the folder of an MMAR"


def find_mmar(word: Path) -> Path:
    """Find the folder that a word means: a path that is there, else a workspace of the present repository.

    Returns:
        The folder, below mmars/ for the name of a workspace; a path, and a word outside of a repository, as it is.

    Raises:
        ConfigError: no such file or folder, and no workspace of this name.
    """
    from voxflow.errors import ConfigError
    from voxflow.findings import suggest
    from voxflow.places import read_workspaces

    names = [str(name) for name in read_workspaces()]
    if word.exists() or not names or len(word.parts) > 1:
        return word
    if str(word) in names:
        return Path("mmars") / word
    raise ConfigError(f"no folder and no workspace is called {str(word)!r}{suggest(str(word), names)}")
