"""Calibrates the trust in a model's masks with the cases that it was judged on and did not learn from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.common.folds import EnsembleStage
from voxflow.datalist import Datalist
from voxflow.errors import ConfigError
from voxflow.inference import describe_settings, digest_exported_models
from voxflow.places import PARAMS
from voxflow.prediction import choose_signal
from voxflow.progress import say
from voxflow.trust import CALIBRATION_FILE, Reviewer, build_calibration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tasks.common.stage import Stage
    from voxflow.engines import Engine
    from voxflow.evaluation import EvaluateOptions, EvaluationResult

LEARNED = ("training", "validation")  # keys of the datalist; by validation cases the best epoch was chosen
UNLEARNED = ("testing", "inference")
CONFIDENCE = 0.9  # of the line that the stage says


def require_calibratable(stage: Stage, options: EvaluateOptions) -> None:
    """Refuse a calibration that can't hold, before the network runs.

    Raises:
        ConfigError: the model learnt from the cases, or is calibrated by them and so can't be judged on them.
    """
    where = f"workspaces.{stage.workspace}.evaluate.calibrate"
    if options.key in LEARNED:
        message = f"the model learned from the cases under {options.key!r}; calibrate with key: testing"
        raise ConfigError(message, path=PARAMS, where=where)


def write_calibration(
    stage: Stage,
    engine: Engine,
    options: EvaluateOptions,
    evaluation: EvaluationResult,
    out: Path,
    *,
    models: Sequence[Path],
) -> None:
    """Write trust.json of a model, or of the folds' models together.

    Args:
        stage: whose datalists tell what the model learned from.
        engine: what ran the model.
        options: of the evaluation.
        evaluation: with the cases that were observed.
        out: the folder that gets the file.
        models: folders of exported models.
    """
    datalist = Datalist.read(stage.datalist, stage.resampled)
    patients = {case.id: case.patient for case in datalist.cases(options.key)}
    calibration = build_calibration(
        [replace(observation, patient=patients.get(observation.case, "")) for observation in evaluation.observations],
        signal=choose_signal(engine, options.list_flips(engine.spec)),
        models=digest_exported_models(models),
        settings=describe_settings(options, engine.spec),
        part=options.key,
        learned=_list_learned(stage, options.key),
    )
    calibration.write(out / CALIBRATION_FILE)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in calibration.left_out.items())
    left_out = f"; left out: {reasons}" if reasons else ""
    say(f"trust {stage.title}: {Reviewer(0, CONFIDENCE, calibration).describe()}{left_out}")


def _list_learned(stage: Stage, key: str) -> set[str]:
    """Cases and patients that the model may have learned from: all that stand under another key of its datalists."""
    paths = [stage.datalist]
    if isinstance(stage, EnsembleStage):
        paths = [stage.fold(number, "train").datalist for number in stage.numbers]
    learned: set[str] = set()
    for path in paths:
        for part, cases in Datalist.read(path, stage.resampled).parts.items():
            if part not in (key, *UNLEARNED):
                learned |= {name for case in cases for name in (case.id, case.patient) if name}
    return learned
