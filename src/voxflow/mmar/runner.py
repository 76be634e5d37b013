"""Runs one case through an evaluation configuration: its transforms, the model, the transforms after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components import (
    LABEL_FORMAT,
    SOURCE,
    UNLABELLED_SETS,
    Chain,
    ComputeAccuracy,
    ComputeAUC,
    ComputeBinaryPreds,
    affine_key,
    compute_probabilities,
)
from voxflow.errors import ConfigError, DataError
from voxflow.mmar.passage import Passage
from voxflow.prediction import logits_to_probabilities
from voxflow.volumes import read_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.components import Metric, Outputs, Sample
    from voxflow.config import Evaluation
    from voxflow.engines import Engine
    from voxflow.inference import InferenceCase
    from voxflow.mmar.passage import Setup
    from voxflow.training import UnlabelledClasses

ANSWER = "model"
# No field of a configuration is called so, and no transform touches it: metrics need logits that stay what they were.
LOGITS = "_logits"


@dataclass(frozen=True)
class CaseRunner:
    """Everything that one case passes through.

    Attributes:
        engine: the model.
        passage: how an image goes through it.
        before, after, of_label: transforms of image, answer and label.
        output_names: fields that the answer goes by.
        input_name: the field that the model takes.
        label_format: classification: classes of each position of a label.
        answers_logits: the answer's fields hold logits, not probabilities, and the sample knows the image file's grid.
        unlabelled: what nobody labelled, and metrics leave out; None: nothing.
    """

    engine: Engine
    passage: Passage
    before: Chain
    after: Chain
    of_label: Chain
    output_names: tuple[str, ...] = (ANSWER,)
    input_name: str = "image"
    label_format: tuple[int, ...] = ()
    answers_logits: bool = False
    unlabelled: UnlabelledClasses | None = None

    @classmethod
    def build(
        cls, evaluation: Evaluation, engine: Engine, *, setup: Setup | None, label_format: Sequence[int] = ()
    ) -> CaseRunner:
        """Build every part.

        Args:
            evaluation: what is to be done.
            engine: the model.
            setup: how an image goes through the model where the configuration does not say; None: windows of the
                training's size for volumes, the whole image else.
            label_format: the datalist's.

        Raises:
            ConfigError: a transform is random, or the window does not fit the model.
        """
        return cls(
            engine=engine,
            passage=Passage.build(evaluation, engine, setup),
            before=_build_chain(evaluation, "transforms"),
            after=_build_chain(evaluation, "post_transforms"),
            of_label=_build_chain(evaluation, "label_transforms"),
            output_names=evaluation.output_names,
            input_name=evaluation.input_name,
            label_format=tuple(label_format),
            answers_logits=evaluation.answers_logits,
        )

    def prepare(self, case: InferenceCase) -> Sample:
        """Read a case and run the transforms of the image.

        Returns:
            The sample with the image as the model takes it; the label is still what the datalist says.

        Raises:
            DataError: a file can't be read, or holds values that are no numbers.
        """
        if case.selection:
            names = ", ".join(self.engine.spec.channels)
            raise DataError(
                f"the datalist names the channels in another order than the model: {names}", path=case.images[0]
            )
        mark = self.unlabelled.mark(case) if self.unlabelled else {}
        sample: Sample = {"case": case.id, "image": case.images, "label": case.label, **mark}
        if self.answers_logits and self.engine.spec.task == "segmentation":
            sample[SOURCE] = read_geometry(case.images[0])
        if self.answers_logits and isinstance(case.label, tuple):
            sample["label"] = np.asarray(case.label, np.float32).reshape(-1, 1, 1)
        return self.before.run_head(sample)

    def answer(self, sample: Sample) -> Sample:
        """Show the image to the model.

        Returns:
            The sample with probabilities (class, ...spatial) under every output name, and the image's affine beside.

        Raises:
            DataError: no transform loads the image, or the network takes another number of channels.
        """
        image = sample.get(self.input_name)
        if not isinstance(image, np.ndarray):
            raise DataError(f"no transform loads {self.input_name!r}; pre_transforms begin with LoadNifti or LoadPng")
        return self.add_answer(sample, self.passage.compute_logits(np.ascontiguousarray(image, dtype=np.float32)))

    def add_answer(self, sample: Sample, logits: NDArray[Any]) -> Sample:
        """Add an answer that is known already to a sample.

        Args:
            sample: the case.
            logits: (class, ...spatial).
        """
        value = logits if self.answers_logits else self._probabilities(logits)
        if self.answers_logits and value.ndim == 1:  # MONAI's transforms of images take the findings as channels
            value = value.reshape(-1, 1, 1)
        names = {ANSWER, *self.output_names}
        answer = sample | dict.fromkeys(names, value) | {LOGITS: logits}
        affine = sample.get(affine_key(self.input_name))
        if affine is None:
            return answer
        # The answer lies where the image does, whether a transform says so or not.
        return answer | {affine_key(name): np.array(affine) for name in names}

    def finish(self, sample: Sample, *, with_label: bool) -> Sample:
        """Run the transforms of the answer and, if wanted, those of the label.

        Args:
            sample: of :meth:`answer`.
            with_label: the case has a label, which is wanted.
        """
        finished = self.after.run_head(sample)
        if not with_label:
            return finished
        if isinstance(finished["label"], tuple):
            finished = finished | {"label": np.asarray(finished["label"], dtype=np.float32)}
        return self.of_label.run_head(finished)

    def collect_outputs(self, sample: Sample, metric: Metric) -> Outputs:
        """What a metric sees of one case: arrays with a batch axis.

        Dice judges logits, or masks that transforms made; the area under a curve judges probabilities.
        """
        outputs: Outputs = {key: value[None] for key, value in sample.items() if isinstance(value, np.ndarray)}
        logits = outputs.pop(LOGITS)
        if self.answers_logits:
            return outputs
        context: Outputs = {"activation": self.engine.spec.activation, LABEL_FORMAT: self.label_format}
        if self.unlabelled is not None:
            context[UNLABELLED_SETS] = self.unlabelled.sets
        if self.engine.spec.task == "classification" and "label" in outputs:
            # What training's auxiliary operations make, under the names that they have unless told otherwise.
            inputs = {ANSWER: logits, "label": outputs["label"], **context}
            outputs = ComputeBinaryPreds().compute(inputs) | ComputeAccuracy().compute(inputs) | outputs
        probabilities = self._probabilities(sample[LOGITS])[None]
        for name in {ANSWER, *self.output_names}:
            value = outputs.get(name)
            if value is None or value.shape != probabilities.shape or not np.array_equal(value, probabilities):
                continue  # a transform changed it
            outputs[name] = probabilities if isinstance(metric, ComputeAUC) and name == metric.field else logits
        return outputs | context

    def _probabilities(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        if set(self.label_format) - {1}:
            return np.asarray(compute_probabilities(logits[None], self.label_format)[0], dtype=np.float32)
        return logits_to_probabilities(logits, self.engine.spec)


def _build_chain(evaluation: Evaluation, section: str) -> Chain:
    chain = Chain.build(getattr(evaluation, section))
    if chain.tail:
        json_path = "pre_transforms" if section == "transforms" else section
        name = chain.tail[0].component_name()
        raise ConfigError(
            f"{name} is random; an evaluation must be the same each time", path=evaluation.path, where=json_path
        )
    return chain
