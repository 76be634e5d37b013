"""``python3 -u -m nvmidl.apps.export``: see :mod:`voxflow.cli.apps`."""

import sys

from voxflow.cli.apps import export_main

if __name__ == "__main__":
    sys.exit(export_main())
