"""Evaluates and infers with a workspace of ``kind: bundle``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.common.bundle import bundle_folder, list_labelled_items, read_bundle_options
from tasks.common.scores import TEST_KEY, is_without_test, leave_unjudged, write_plots, write_scores
from voxflow.bundle import evaluate_bundle, infer_bundle
from voxflow.datalist import Datalist
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED, DataError
from voxflow.files import atomic_directory, write_json
from voxflow.inference import find_native_cases
from voxflow.progress import say
from voxflow.tracking import continue_run, read_run_file
from voxflow.trust import leave_uncalibrated

if TYPE_CHECKING:
    from tasks.common.stage import Stage
    from voxflow.bundle import BundleItem, BundleResult
    from voxflow.tracking import Tracker


def evaluate(stage: Stage, key: str | None = None, part: str = "test") -> int:
    """Judge the trained bundle by its own configuration.

    Args:
        stage: of a workspace of ``kind: bundle``.
        key: the datalist's part to judge on; None: what the options name, else ``testing``.
        part: the folder below eval/ that tables go to.

    Raises:
        DataError: that part has no labelled case.
    """
    options = read_bundle_options(stage)
    key = key or options.key or TEST_KEY
    if options.data == "split" and is_without_test(stage, key):
        return leave_unjudged(stage)
    data = {options.validate_data: _list_items(stage, key)} if options.data == "split" else {}
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        with atomic_directory(stage.evaluation / part) as out:
            result = evaluate_bundle(bundle_folder(stage), stage.models / "train", out, options, data=data)
            if part == "test":
                leave_uncalibrated(out)
        _record(stage, result, tracker, part)
    if part == "test":
        write_scores(stage, result.numbers)
        write_plots(stage, stage.evaluation / part)
    score = f"{result.key_metric} {result.numbers[result.key_metric]:.4f}" if result.key_metric else "no metric"
    say(f"evaluate {stage.title}: {score} on {result.numbers['cases']:g} cases → {stage.evaluation / part}")
    return EXIT_SOME_FAILED if result.failures else EXIT_OK


def infer(stage: Stage) -> int:
    """Run the trained bundle by its own configuration on the datalist's cases without a label."""
    options = read_bundle_options(stage)
    data = (
        {options.infer_data: _list_native_items(stage, options.key or "inference")} if options.data == "split" else {}
    )
    target = stage.evaluation / "infer"
    if data and not data[options.infer_data]:
        with atomic_directory(target):
            pass
        write_json(stage.metrics, {"cases": 0})
        say(f"infer {stage.workspace}: the datalist has no case to infer → {target}")
        return EXIT_OK
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        with atomic_directory(target) as out:
            result = infer_bundle(bundle_folder(stage), stage.models / "train", out, options, data=data)
        _record(stage, result, tracker, "infer")
    say(f"infer {stage.workspace}: {result.numbers['cases']:g} cases by the bundle's own inference → {target}")
    return EXIT_SOME_FAILED if result.failures else EXIT_OK


def _list_items(stage: Stage, key: str) -> list[BundleItem]:
    datalist = Datalist.read(stage.datalist, stage.resampled)
    items = list_labelled_items(datalist, key)
    if not items:
        raise DataError("no case to evaluate on", path=datalist.path, where=key)
    return items


def _list_native_items(stage: Stage, key: str) -> list[BundleItem]:
    """Images as they came, since a bundle's own inference resamples them and returns masks on their own grid."""
    datalist = Datalist.read(stage.datalist, stage.resampled)
    cases = find_native_cases([(case.id, None) for case in datalist.parts.get(key, ())], stage.volumes, is_mask=False)
    paths = [[str(image.resolve()) for image in case.images] for case in cases]
    return [{"image": case_paths[0] if len(case_paths) == 1 else case_paths} for case_paths in paths]


def _record(stage: Stage, result: BundleResult, tracker: Tracker, name: str) -> None:
    write_json(stage.metrics, result.numbers)
    tracker.log_metrics({f"{name}/{key}": value for key, value in result.numbers.items()})
    for path in sorted((stage.evaluation / name).glob("*.csv")):
        tracker.log_artifact(path, name)
