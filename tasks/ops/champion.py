"""Copy the exported files of a champion to a folder: ``python -m tasks.ops.champion WORKSPACE FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from voxflow.errors import EXIT_OK, VoxflowError
from voxflow.progress import say
from voxflow.tracking import CHAMPION, materialise_champion


def main() -> int:
    """Fetch, unless the folder holds this version already, and say which it is."""
    parser = argparse.ArgumentParser(prog="python -m tasks.ops.champion", description=__doc__)
    parser.add_argument("workspace", help="the workspace, which is also the name of the registered model")
    parser.add_argument("folder", type=Path, help="folder for the files; existing files are replaced")
    parser.add_argument("--alias", default=CHAMPION, help="another alias, or a version number (default: champion)")
    arguments = parser.parse_args()
    try:
        version = materialise_champion(arguments.workspace, arguments.folder, arguments.alias)
    except (VoxflowError, OSError) as error:
        say(f"champion {arguments.workspace}: error: {error}")
        return error.exit_code if isinstance(error, VoxflowError) else 1
    say(f"champion {arguments.workspace}: version {version.number} → {arguments.folder}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
