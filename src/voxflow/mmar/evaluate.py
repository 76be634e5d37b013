"""Evaluates and infers as an MMAR's validation configuration describes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components import create, summarise_metrics
from voxflow.config import load_evaluation
from voxflow.errors import DataError
from voxflow.files import write_json
from voxflow.findings import FindingCollector
from voxflow.inference import ROOM, Failures, make_cases, read_ahead
from voxflow.lint import require_fields
from voxflow.locks import hold_outputs
from voxflow.mmar.artefacts import find_model
from voxflow.mmar.data import read_datalist, read_learnt_images
from voxflow.mmar.models import open_model
from voxflow.mmar.record import continue_record
from voxflow.mmar.reports import read_predictions, write_metric, write_metric_reports
from voxflow.mmar.runner import CaseRunner
from voxflow.mmar.writing import CaseWriters
from voxflow.naming import name_files
from voxflow.progress import say
from voxflow.training import UnlabelledClasses, note_carriers, note_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.components import Metric, ModelLoader, Sample
    from voxflow.config import Evaluation
    from voxflow.datalist import Datalist
    from voxflow.engines import Engine
    from voxflow.inference import InferenceCase
    from voxflow.mmar.folder import Mmar
    from voxflow.mmar.passage import Setup

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class MmarEvaluation:
    """What an evaluation found and made.

    Attributes:
        folder: where it lies.
        metrics: numbers by name; those that are not defined are left out.
        cases: how many went well.
        failures: the others.
        engine: what ran the model.
        repeats: cases that the model's training learnt from.
    """

    folder: Path
    metrics: dict[str, float]
    cases: int
    failures: Failures
    engine: str
    repeats: int = 0

    @property
    def exit_code(self) -> int:
        """0; 3 when some cases failed, 1 when all did."""
        return self.failures.exit_code(self.cases)

    def summary(self) -> str:
        """One line for a person."""
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        scores = f"{numbers} on " if numbers else ""
        repeats = f", {self.repeats} of them in its training, too" if self.repeats and numbers else ""
        return f"{scores}{self.cases} case(s){repeats} ({self.engine}){self.failures.summary()} → {self.folder}"


def evaluate_mmar(
    mmar: Mmar,
    *,
    model: Path | None = None,
    setup: Setup | None = None,
    overwrite: bool = True,
    keep_predictions: bool = False,
) -> MmarEvaluation:
    """Run a model on cases, write what the configuration's writers say, and measure what its metrics say.

    Args:
        mmar: opened on a validation configuration. ``do_validation`` and ``output_infer_result`` choose what is done.
        model: the model file, or a name that stands for one; None: the configuration's model_loader.
        setup: how an image goes through the model where the configuration does not say.
        overwrite: replace results that are there; else they stay, and predictions that are there are judged.
        keep_predictions: fill tables of predictions even where ``output_infer_result`` says that nothing is written.

    Raises:
        ConfigError: the configuration is wrong.
        DataError: no model, no datalist, or no such cases.
        OSError: a result could not be written.
    """
    evaluation = load_evaluation(
        mmar.config, environment=mmar.environment, overrides=mmar.overrides, workspace=mmar.root
    )
    require_fields(evaluation)
    datalist, key = _read_evaluation_datalist(mmar, evaluation)
    file = find_model(model or _find_model_path(mmar, evaluation))
    _warn_of_older_export(file)
    engine = open_model(file, evaluation, datalist)
    cases = make_cases(datalist.cases(key), datalist, engine.spec)
    runner = CaseRunner.build(evaluation, engine, setup=setup, label_format=datalist.label_format)
    if evaluation.do_validation:
        runner = _leave_out_unlabelled(runner, evaluation, cases)
    mmar.eval.mkdir(parents=True, exist_ok=True)
    with hold_outputs(mmar.eval, "evaluate", say), continue_record(mmar.models, mmar.repository) as tracker:
        evaluation_pass = _EvaluationPass(
            mmar, evaluation, runner, file.parent, overwrite=overwrite, keep_predictions=keep_predictions
        )
        result = evaluation_pass.run(cases)
        tracker.log_metrics({f"eval/{name}": value for name, value in result.metrics.items()})
    return result


def _leave_out_unlabelled(runner: CaseRunner, evaluation: Evaluation, cases: Sequence[InferenceCase]) -> CaseRunner:
    """Let the runner mark what nobody labelled, where the datalist says so; refuse what would judge it."""
    spec = runner.engine.spec
    unlabelled = UnlabelledClasses.find(cases, spec.class_names, has_regions=bool(spec.regions))
    if unlabelled is None:
        return runner
    findings = FindingCollector(evaluation.path)
    note_carriers(findings, "pre_transforms", runner.before.head)
    note_carriers(findings, "label_transforms", runner.of_label.head)
    note_metrics(findings, "val_metrics", [create("metric", component) for component in evaluation.val_metrics])
    findings.raise_errors()
    return replace(runner, unlabelled=unlabelled)


@dataclass
class _EvaluationPass:
    """One pass over the cases."""

    mmar: Mmar
    evaluation: Evaluation
    runner: CaseRunner
    models: Path
    overwrite: bool
    keep_predictions: bool
    failures: Failures = field(default_factory=Failures)

    def __post_init__(self) -> None:
        names = self.runner.engine.spec.class_names
        measures, writes = self.evaluation.do_validation, self.evaluation.output_infer_result
        self.metrics: list[Metric] = [
            create("metric", component) for component in self.evaluation.val_metrics if measures
        ]
        self.measurements: list[list[NDArray[Any]]] = [[] for _ in self.metrics]
        self.finished: list[str] = []
        self.images: dict[str, str] = {}
        self.repeats = 0
        self.writing = CaseWriters.build(
            self.evaluation, self.mmar.root, self.mmar.eval, names, overwrite=self.overwrite
        )
        if not writes:
            tables = self.writing.tables if self.keep_predictions else ()
            self.writing = replace(self.writing, volumes=(), tables=tables)
        predictions = {} if self.overwrite else read_predictions(self.mmar.eval, names)
        self.known_logits = {
            case: _probabilities_to_logits(probabilities, self.runner.engine)
            for case, probabilities in predictions.items()
        }

    def run(self, cases: Sequence[InferenceCase]) -> MmarEvaluation:
        """Do every case that can be done, then write what concerns all of them."""
        self.images = {case.id: str(case.images[0]) for case in cases}
        learnt = read_learnt_images(self.models) if self.metrics else set()
        self.repeats = sum(case.images in learnt for case in cases)
        remaining = [case for case in cases if self.metrics or not self.writing.is_done(case.id)]
        doing = "evaluating" if self.metrics else "inferring"
        self.finished = list(
            read_ahead(remaining, self._read, self._work, self.failures, leaves_room=self._leaves_room, doing=doing)
        )
        # Predictions that were judged and not computed stay in the table as they are.
        if not self.known_logits:
            self.writing.finish()
        metrics = self._report()
        self.failures.write(self.mmar.eval)
        engine: Engine = self.runner.engine
        return MmarEvaluation(
            self.mmar.eval, metrics, len(self.finished), self.failures, engine.name, repeats=self.repeats
        )

    def _read(self, case: InferenceCase) -> Sample:
        if self.metrics and case.label is None:
            raise DataError("the case has no label to compare with; do_validation=false judges nothing")
        if case.id in self.known_logits:
            return {"case": case.id, "image": case.images, "label": case.label}
        return self.runner.prepare(case)

    def _leaves_room(self, sample: Sample) -> bool:
        size = sum(value.nbytes for value in sample.values() if isinstance(value, np.ndarray))
        return size < ROOM * self.runner.passage.options.memory_mb * 2**20

    def _work(self, case: InferenceCase, sample: Sample) -> str:
        """Everything of one case once it is read; returns its name."""
        logits = self.known_logits.get(case.id)
        sample = self.runner.answer(sample) if logits is None else self.runner.add_answer(sample, logits)
        sample = self.runner.finish(sample, with_label=bool(self.metrics))
        # All are measured before one is kept, so that each metric knows the same cases.
        measured = [metric.measure(self.runner.collect_outputs(sample, metric)) for metric in self.metrics]
        self.writing.write(sample)
        for values, value in zip(self.measurements, measured, strict=True):
            values.append(value)
        return case.id

    def _report(self) -> dict[str, float]:
        numbers_of = summarise_metrics(self.metrics, self.measurements, self.runner.engine.spec.class_names)
        numbers = {name: value for values in numbers_of for name, value in values.items()}
        files = name_files(dict.fromkeys([*(metric.name for metric in self.metrics), *numbers]))
        rows = list(zip(self.metrics, self.measurements, numbers_of, strict=True))
        for metric, values, own_numbers in rows:
            folder = self.mmar.root / metric.report_path if metric.report_path else self.mmar.eval
            folder.mkdir(parents=True, exist_ok=True)
            write_metric(metric, values, own_numbers, self.finished, folder, files=files)
        reports = self.evaluation.metric_reports
        if reports is not None and rows:
            folder = self.mmar.root / reports.folder if reports.folder else self.mmar.eval
            write_metric_reports(reports, rows, [self.images[case] for case in self.finished], folder)
        defined = {name: value for name, value in numbers.items() if math.isfinite(value)}
        if self.metrics:
            counts = {"cases": len(self.finished), "failed_cases": len(self.failures.cases)}
            counts |= {"repeated_cases": self.repeats} if self.repeats else {}
            write_json(self.mmar.eval / METRICS_FILE, defined | counts)
        return defined


def _read_evaluation_datalist(mmar: Mmar, evaluation: Evaluation) -> tuple[Datalist, str]:
    """The datalist, and the key that its cases stand under."""
    args = evaluation.image_pipeline.args if evaluation.image_pipeline else {}
    variables = evaluation.variables
    file = args.get("data_list_file_path") or variables.get("DATASET_JSON") or ""
    base = args.get("data_file_base_dir") or variables.get("DATA_ROOT") or ""
    key = str(args.get("data_list_key") or evaluation.data_list_key)
    datalist = read_datalist(mmar, str(file), str(base))
    if not datalist.cases(key):
        raise DataError("no case to evaluate", path=datalist.path, where=key)
    return datalist, key


def _find_model_path(mmar: Mmar, evaluation: Evaluation) -> Path:
    """What the model_loader names: a file, or a folder of checkpoints."""
    if evaluation.model_loader is None:
        return mmar.models / "model.trt.pb"
    loader: ModelLoader = create("model_loader", evaluation.model_loader)
    return mmar.root / loader.path


def _warn_of_older_export(file: Path) -> None:
    """An export outlives the training that it came from; nobody should judge it for the new one unawares."""
    checkpoint = file.with_name(file.name.partition(".")[0] + ".pt")
    if checkpoint.is_file() and file.stat().st_mtime < checkpoint.stat().st_mtime:
        say(f"{file.name} is older than {checkpoint.name}: export again to use the newer one")


def _probabilities_to_logits(probabilities: Sequence[float], engine: Engine) -> NDArray[np.float32]:
    """Logits of an answer that is known as probabilities."""
    values = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    logits = np.log(values) if engine.spec.activation == "softmax" else np.log(values / (1 - values))
    return logits.astype(np.float32)
