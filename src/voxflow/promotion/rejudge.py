"""Evaluates the champion on the present test part, where it was judged on another one, so that it can be compared."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.datalist import Datalist
from voxflow.engines import open_engine
from voxflow.evaluation import EvaluateOptions, evaluate_classification, evaluate_segmentation
from voxflow.inference import find_native_cases
from voxflow.promotion.candidate import PER_CASE
from voxflow.promotion.service import attach_scores
from voxflow.tracking import RegisteredVersion, materialise_champion

if TYPE_CHECKING:
    from voxflow.places import Places


def evaluate_champion(places: Places, test_part: str) -> RegisteredVersion:
    """Evaluate the champion on the workspace's present test part, and keep the scores with its version.

    A champion that learnt from cases that are in the test part now scores too well, which only speaks for it.

    Args:
        places: the workspace.
        test_part: the digest of its test part.

    Returns:
        The champion's version.

    Raises:
        DataError: there is no champion, its files are not kept, or the test part has no case.
        VoxflowError: the registry can't be reached.
    """
    options = places.options_of("evaluate", EvaluateOptions)
    is_segmentation = places.task == "segmentation"
    datalist = Datalist.read(places.datalists / "dataset_0.json", places.resampled)
    labels = [(case.id, case.label) for case in datalist.cases(options.key)]
    cases = find_native_cases(labels, places.volumes, is_mask=is_segmentation)
    evaluate = evaluate_segmentation if is_segmentation else evaluate_classification
    with tempfile.TemporaryDirectory() as scratch:
        version = materialise_champion(places.registered_name, Path(scratch) / "export")
        scores = Path(scratch) / "test"
        scores.mkdir()
        evaluate(open_engine(Path(scratch) / "export", options.engine), cases, scores, options)
        attach_scores(version, scores / PER_CASE, test_part)
    return version
