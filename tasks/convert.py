"""Convert the workspace's folder of DICOM (or NIfTI, PNG) to checked volumes, labels and a case table."""

from __future__ import annotations

import sys

from tasks.common.stage import Stage, main
from voxflow.cluster import choose_cluster, open_executor
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED
from voxflow.files import write_json
from voxflow.progress import say


def run(stage: Stage) -> int:
    """Write data/volumes/WS: volumes, labels, cases.csv, and conversion.csv with a verdict a series.

    Returns:
        3 when a series was quarantined, each with its reason.
    """
    options = stage.options(ConvertOptions)
    with open_executor(choose_cluster()) as executor:
        summary = convert_folder(stage.source, stage.volumes, options, executor)
    write_json(stage.metrics, summary.metrics)
    *reasons, counts = summary.format_lines(stage.volumes)
    for reason in reasons:
        say(reason)
    say(f"convert {stage.workspace}: {counts}")
    return EXIT_SOME_FAILED if summary.quarantined else EXIT_OK


if __name__ == "__main__":
    sys.exit(main("convert", run))
