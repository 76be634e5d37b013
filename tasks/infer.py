"""Run the exported model on the datalist's cases without a label: masks, DICOM SEG, tables, pictures.

With ``--ensemble`` the models of all folds answer together. A run that was interrupted leaves its finished cases
beside the output, hidden, and the next run goes on from them.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.common import bundle_infer
from tasks.common.bundle import is_bundle
from tasks.common.folds import main
from voxflow.cluster import choose_cluster, open_executor
from voxflow.datalist import Datalist
from voxflow.dicom import ConvertOptions
from voxflow.files import atomic_directory, replace_folder, write_json
from voxflow.inference import (
    InferenceCase,
    InferOptions,
    ModelFolders,
    ResultLedger,
    attach_sources,
    compute_maker_digest,
    find_native_cases,
    infer_cases,
    infer_on_executor,
    open_any_reviewer,
)
from voxflow.progress import say
from voxflow.tracking import continue_run, read_run_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tasks.common.folds import EnsembleStage
    from tasks.common.stage import Stage
    from voxflow.inference import InferenceResult
    from voxflow.tracking import Tracker


def run(stage: Stage) -> int:
    """Make masks or probabilities for the datalist's cases without a label, and record how it went.

    A bad case is reported and the others go on.

    Returns:
        3 where some cases failed, 1 where all did.
    """
    if is_bundle(stage):
        return bundle_infer.infer(stage)
    options = stage.options(InferOptions)
    cases = list_unlabelled_cases(stage, options)
    models = ModelFolders((stage.models / "export",), options.engine, device=options.device)
    return infer(stage, models, cases, options, run_file=stage.models / "train" / "run.json")


def run_ensemble(stage: EnsembleStage) -> int:
    """Infer with the folds' models together, and record."""
    options = stage.options(InferOptions)
    models = ModelFolders(tuple(stage.engine_folders), options.engine, is_ensemble=True, device=options.device)
    return infer(stage, models, list_unlabelled_cases(stage, options), options, run_file=stage.evaluation / "run.json")


def list_unlabelled_cases(stage: Stage, options: InferOptions) -> list[InferenceCase]:
    """List the datalist's cases to infer, as they came: on their own grid, before the stage resample.

    Args:
        stage: whose datalist.
        options: names the datalist's part; where a DICOM SEG is wanted, each case of DICOM gets its files.
    """
    datalist = Datalist.read(stage.datalist, stage.resampled)
    images = [(case.id, None) for case in datalist.parts.get(options.key, ())]
    cases = find_native_cases(images, stage.volumes, is_mask=False)
    return _add_sources(stage, cases) if stage.task == "segmentation" and options.needs_sources else cases


def infer(
    stage: Stage, models: ModelFolders, cases: list[InferenceCase], options: InferOptions, *, run_file: Path
) -> int:
    """Run a model over cases, write what it says to the stage's folder, and record it.

    Args:
        stage: whose folder.
        models: what to open, here or on a cluster's workers.
        cases: what to run it on.
        options: window plan, way back, what to write.
        run_file: names the run of the training.

    Returns:
        The exit code.
    """
    target = stage.evaluation / "infer"
    with open_executor(choose_cluster()) as executor:
        engine = None if executor else models.open()
        with continue_run(read_run_file(run_file)) as tracker:
            if executor:
                executor.require_memory(options.memory_mb)
                if options.device != "cpu":
                    executor.prefer_gpus()
                with atomic_directory(target) as out:
                    inference = infer_on_executor(executor, models, cases, out, options)
            elif engine:
                reviewer = open_any_reviewer(engine, models.folders, options)
                maker = compute_maker_digest(engine, models.folders, options, code=True, reviewer=reviewer)
                with _resume_output(stage, target, maker, cases) as (out, ledger):
                    # What lies in that folder is of this very model, of these options: only what is missing is made.
                    missing = options.model_copy(update={"overwrite": False})
                    inference = infer_cases(engine, cases, out, missing, ledger=ledger, reviewer=reviewer)
            _record(stage, inference, tracker)
    if not cases:
        say(f"infer {stage.title}: the datalist has no case under {options.key!r}, nothing to infer → {target}")
        return inference.failures.exit_code(0)
    result = "masks" if stage.task == "segmentation" else "predictions"
    count = int(inference.metrics["cases"])
    summary = f"{result} for {count} of {len(cases)} cases ({inference.engine}){inference.failures.summary()}"
    say(f"infer {stage.title}: {summary} → {target}")
    return inference.failures.exit_code(count)


@contextmanager
def _resume_output(
    stage: Stage, target: Path, maker: str, cases: Sequence[InferenceCase]
) -> Iterator[tuple[Path, ResultLedger]]:
    """A folder that becomes ``target`` when the block ends well, and else keeps the finished cases for the next run."""
    folder = target.with_name(f".unfinished-{target.name}-{maker[:12]}")
    # Of other models and options; before version 1 they were called .partial-.
    for pattern in (f".unfinished-{target.name}-*", f".partial-{target.name}-*"):
        for leftover in target.parent.glob(pattern):
            if leftover != folder:
                shutil.rmtree(leftover)
    folder.mkdir(parents=True, exist_ok=True)
    ledger = ResultLedger(folder, maker, is_exclusive=True)
    ledger.keep_only(cases)
    if ledger.count:
        say(f"infer {stage.title}: going on after {ledger.count} cases that an earlier run has finished")
    try:
        yield folder, ledger
    except BaseException:
        if ledger.count:
            counts = f"{ledger.count} of {len(cases)} cases"
            say(f"infer {stage.title}: {counts} are finished; the next run goes on from them")
        else:
            shutil.rmtree(folder)
        raise
    ledger.remove()
    replace_folder(folder, target)


def _add_sources(stage: Stage, cases: list[InferenceCase]) -> list[InferenceCase]:
    """The same cases with the DICOM files that they were made of, for those that were."""
    return attach_sources(cases, stage.source, ConvertOptions.model_validate(stage.block.get("convert") or {}))


def _record(stage: Stage, inference: InferenceResult, tracker: Tracker) -> None:
    write_json(stage.metrics, inference.metrics)
    tracker.log_metrics({f"infer/{name}": value for name, value in inference.metrics.items()})
    folder = stage.evaluation / "infer"
    tables = [name for name in ("statistics.csv", "statistics.json") if (folder / name).is_file()]
    for name in ("preds_outputs.csv", "failures.json", *tables, "overlays"):
        tracker.log_artifact(folder / name, "infer/overlays" if name == "overlays" else "infer")


if __name__ == "__main__":
    sys.exit(main("infer", run, run_ensemble=run_ensemble))
