"""Finds the calibration of a model, tells whether it is of this very model, and notes what is measured of a case."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from voxflow.engines import list_exported_kinds, list_model_files
from voxflow.errors import ConfigError, DataError
from voxflow.files import read_json_or_none, write_json
from voxflow.inference.ledger import digest_files
from voxflow.prediction import choose_signal
from voxflow.progress import say
from voxflow.trust import (
    CALIBRATION_FILE,
    RadiographCalibration,
    RadiographReviewer,
    Reviewer,
    has_calibration,
    read_calibration,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.inference.infer import InferOptions
    from voxflow.prediction import PredictOptions
    from voxflow.spec import ModelSpec
    from voxflow.trust import AnyReviewer

# Options that change a mask, or the agreement, whatever machine it is made on.
DECISIVE = ("plan", "blend", "skip_empty", "back", "clean")
NOT_MEASURED = "the mask is of an earlier run, which measured no agreement"


def open_any_reviewer(engine: Engine, models: Sequence[Path], options: InferOptions) -> AnyReviewer | None:
    """Prepare what says how far a model's answers can be trusted, masks or probabilities of radiograph findings.

    Args:
        engine: what runs the model.
        models: what it was opened from, a model file or a folder of exported ones; several for an ensemble.
        options: whether, and at which confidence.

    Returns:
        Of a segmentation what :func:`open_reviewer` does. Of a classifier without a calibration None, since its answers
        then stay as they are.

    Raises:
        ConfigError: a bound of the Dice is asked for of a classifier.
    """
    if engine.spec.task == "segmentation" or options.review_below is not None:
        return open_reviewer(engine, models, options)
    return _open_radiographs(engine, models, options) if options.calibrated else None


def open_reviewer(engine: Engine, models: Sequence[Path], options: InferOptions) -> Reviewer | None:
    """Prepare the review of a model's masks, where the options ask for it.

    Args:
        engine: what runs the model.
        models: what it was opened from, a model file or a folder of exported ones; several for an ensemble.
        options: whether, and below which bound.

    Returns:
        None where nobody asks. Without a calibration of this very model one that has every case reviewed.

    Raises:
        ConfigError: the model does not segment.
    """
    if options.review_below is None:
        return None
    if engine.spec.task != "segmentation":
        raise ConfigError("review_below: only the masks of a segmentation have a bound of their Dice")
    reviewer = _open_calibrated(engine, models, options)
    say(f"trust: {reviewer.describe()}")
    return reviewer


def _open_calibrated(engine: Engine, models: Sequence[Path], options: InferOptions) -> Reviewer:
    below, confidence = options.review_below or 0.0, options.confidence
    path = find_calibration(models)
    if path is None:
        how = "evaluate the workspace with evaluate: {calibrate: true}"
        return Reviewer(below, confidence, absence=f"the model has no {CALIBRATION_FILE}; {how}")
    try:
        calibration = read_calibration(path)
    except DataError as error:
        return Reviewer(below, confidence, absence=f"{path.name} can't be used: {error.message}")
    files = [_digest_each(list_model_files(model, engine.name)) for model in models]
    signal = choose_signal(engine, options.list_flips(engine.spec))
    mismatch = calibration.explain_mismatch(files, describe_settings(options, engine.spec), signal)
    return Reviewer(below, confidence, absence=mismatch) if mismatch else Reviewer(below, confidence, calibration)


def _open_radiographs(engine: Engine, models: Sequence[Path], options: InferOptions) -> RadiographReviewer | None:
    path = find_calibration(models)
    if path is None:
        return None
    try:
        calibration = RadiographCalibration.read(path)
    except DataError as error:
        say(f"trust: warning: probabilities are not calibrated: {path.name} can't be used: {error.message}")
        return None
    files = [_digest_each(list_model_files(model, engine.name)) for model in models]
    mismatch = calibration.explain_other_use(files, {"flips": describe_settings(options, engine.spec)["flips"]})
    reviewer = RadiographReviewer(calibration, calibration.match_models(files) or (), options.confidence)
    mismatch = mismatch or reviewer.explain_other_findings(engine.spec.class_names)
    if mismatch:
        say(f"trust: warning: probabilities are not calibrated: {mismatch}")
        return None
    say(f"trust: {reviewer.describe()}")
    return reviewer


def find_calibration(models: Sequence[Path]) -> Path | None:
    """Find the calibration of a model: beside it, or where the stage evaluate of its MMAR leaves it.

    Args:
        models: what is opened: a model file or a folder of exported ones; several for an ensemble.
    """
    if not models:
        return None
    folder = models[0] if models[0].is_dir() else models[0].parent
    parents = folder.absolute().parents
    places = [folder / CALIBRATION_FILE]
    if folder.absolute().parts[-2:] == ("models", "export"):
        places.append(parents[1] / "eval" / "test" / CALIBRATION_FILE)
    elif folder.absolute().parts[-4:-2] == ("models", "folds"):
        places.append(parents[3] / "eval" / "ensemble" / "test" / CALIBRATION_FILE)
    return next((place for place in places if has_calibration(place)), None)


def digest_exported_models(models: Sequence[Path]) -> list[dict[str, str]]:
    """Digest every file of each folder of exported models, by name: each engine's file is the same model."""
    return [
        _digest_each(file for kind in list_exported_kinds() for file in list_model_files(model, kind.name))
        for model in models
    ]


def _digest_each(files: Iterable[Path]) -> dict[str, str]:
    return {file.name: digest_files([file]) for file in files if file.is_file()}


def describe_settings(options: PredictOptions, spec: ModelSpec) -> dict[str, Any]:
    """List the options that change a mask, for plain JSON; those of memory and speed don't."""
    settings: dict[str, Any] = options.model_dump(mode="json", include=set(DECISIVE))
    flips = [sorted(set(options.list_flips(part))) for part in [part.spec for part in spec.parts] or [spec]]
    return settings | {"flips": flips if spec.parts else flips[0]}


def write_measurement(path: Path, agreement: float | None, features: Mapping[str, float]) -> None:
    """Note what a case's trust rests on, for a run that goes on after this one.

    Args:
        path: the file, see :func:`read_measurement`.
        agreement: NaN and None are noted as null.
        features: of the case's image.
    """
    is_number = agreement is not None and math.isfinite(agreement)
    write_json(path, {"agreement": agreement if is_number else None, "features": dict(features)})


def read_measurement(path: Path) -> tuple[float | None, dict[str, float]]:
    """Read the agreement, and the features of the image; None and nothing where they were not noted."""
    content = read_json_or_none(path)
    if not isinstance(content, dict) or not isinstance(content.get("features"), dict):
        return None, {}
    return content.get("agreement"), content["features"]
