"""One program for each stage of dvc.yaml: ``python -m tasks.STAGE WORKSPACE``. No scheduler is imported here.

``tasks.common`` holds what the stages share, ``tasks.ops`` the programs that flows and operators run beside them.
"""

from pathlib import Path

# Programs of tasks.ops once lay here, and units of systemd and crontabs still call `python -m tasks.serve`.
__path__.append(str(Path(__file__).parent / "ops"))
