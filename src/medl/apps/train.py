"""``python3 -u -m medl.apps.train``: see :mod:`voxflow.cli.apps`."""

import sys

from voxflow.cli.apps import train_main

if __name__ == "__main__":
    sys.exit(train_main())
