"""``python3 -u -m medl.apps.evaluate``: see :mod:`voxflow.cli.apps`."""

import sys

from voxflow.cli.apps import evaluate_main

if __name__ == "__main__":
    sys.exit(evaluate_main())
