"""Exports a workspace of ``kind: bundle``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.common.bundle import bundle_folder, read_bundle_options
from voxflow.bundle import BundleExportOptions, export_bundle
from voxflow.errors import EXIT_OK
from voxflow.files import atomic_directory, write_json
from voxflow.progress import say
from voxflow.tracking import continue_run, read_run_file

if TYPE_CHECKING:
    from tasks.common.stage import Stage


def export(stage: Stage) -> int:
    """Export by monai.bundle, and to the engines that were asked for; compare all with torch."""
    options, export_options = read_bundle_options(stage, "train"), stage.options(BundleExportOptions)
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        with atomic_directory(stage.models / "export") as out:
            numbers = export_bundle(bundle_folder(stage), stage.models / "train", out, options, export_options)
        write_json(stage.models / "parity.json", numbers)
        tracker.log_artifact(stage.models / "parity.json", "export")
        engines = {name: block for name, block in numbers.items() if isinstance(block, dict)}
        tracker.log_metrics({f"parity/{name}": value for name, value in numbers.items() if name not in engines})
    compared = [name for name, block in engines.items() if block["published"] and "compared" not in block]
    names = ", ".join(["torchscript", *compared])
    say(f"export {stage.title}: {names} {'equal' if compared else 'equals'} torch → {stage.models / 'export'}")
    return EXIT_OK
