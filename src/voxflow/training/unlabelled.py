"""What a training needs to leave out the voxels and the classes that nobody labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from voxflow.components import (
    MARK,
    UNLABELLED_REGIONS,
    ComputeAverage,
    ComputeAverageDice,
    NegLoss,
    carries_unlabelled,
    code_of_set,
)
from voxflow.errors import ConfigError, DataError, join_names
from voxflow.findings import FindingCollector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.components import AuxiliaryOperation, Loss, Metric, Transform
    from voxflow.training.plan import TrainingPlan

CAN_NOT = "can't leave out voxels that nobody labelled"


class LabelledCase(Protocol):
    """A case, with what the datalist says of its label; see :class:`voxflow.datalist.Case`."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def ignore(self) -> int | None:
        """The label value of voxels that nobody labelled."""

    @property
    def labelled(self) -> tuple[str, ...] | None:
        """The classes that were labelled; None: all."""


@dataclass(frozen=True)
class UnlabelledClasses:
    """The classes that were not labelled in some cases.

    Attributes:
        class_names: of the network's answers.
        sets: the classes, by their numbers, that were not labelled in at least one case; each set once.
        has_regions: a voxel may belong to several classes.
    """

    class_names: tuple[str, ...]
    sets: tuple[tuple[int, ...], ...]
    has_regions: bool

    @classmethod
    def find(
        cls, cases: Sequence[LabelledCase], class_names: tuple[str, ...], *, has_regions: bool
    ) -> UnlabelledClasses | None:
        """Find what some cases have no label for; None where all was labelled.

        Args:
            cases: with what the datalist says of them.
            class_names: of the network's answers.
            has_regions: a voxel may belong to several classes.

        Raises:
            DataError: a case names a labelled class that the model has not.
        """
        if all(case.ignore is None and case.labelled is None for case in cases):
            return None
        sets = {absent for case in cases if (absent := _find_absent(case, class_names))}
        return cls(class_names, tuple(sorted(sets)), has_regions)

    def mark(self, case: LabelledCase) -> dict[str, Any]:
        """What the case's sample must hold so that its label is marked; empty where all of it is labelled."""
        absent = _find_absent(case, self.class_names)
        if case.ignore is None and not absent:
            return {}
        if self.has_regions:
            regions = tuple(self.class_names[number] for number in absent)
            return {MARK: (case.ignore, 0, ()), UNLABELLED_REGIONS: regions}
        return {MARK: (case.ignore, code_of_set(self.sets.index(absent)) if absent else 0, absent)}


def find_unlabelled(plan: TrainingPlan, cases: Sequence[LabelledCase], *, overlap: bool) -> UnlabelledClasses | None:
    """Find what some cases have no label for.

    Args:
        plan: of the training.
        cases: to learn from and to validate on.
        overlap: the data have regions, which may overlap.

    Returns:
        None where every class was labelled in every voxel of all cases.

    Raises:
        DataError: a case names a labelled class that the model has not, or the value of a class as the one to ignore.
        ConfigError: a component of the configuration can't leave voxels out.
    """
    chain = (*plan.train_chain.head, *plan.train_chain.tail)
    has_regions = bool(plan.regions)
    unlabelled = UnlabelledClasses.find(cases, plan.facts.class_names, has_regions=has_regions)
    if unlabelled is None:
        return None
    values = {value for members in plan.regions.values() for value in members}
    values = values or set(range(1, max(2, len(plan.facts.class_names))))
    wrong = [case for case in cases if case.ignore in values]
    if wrong:
        raise DataError(f"case {wrong[0].id}: ignore is {wrong[0].ignore}, which is the value of a class")
    if unlabelled.sets and overlap and not has_regions:
        message = "false, but in some cases only some classes were labelled, and classes overlap; learn regions"
        raise ConfigError(message, path=plan.workflow.path, where="train.regions")
    findings = FindingCollector(plan.workflow.path)
    note_losses(findings, plan.loss, plan.aux_ops)
    note_carriers(findings, "train.pre_transforms", chain)
    note_carriers(findings, "validate.pre_transforms", (*plan.valid_chain.head, *plan.valid_chain.tail))
    note_metrics(findings, "validate.metrics", plan.metrics)
    findings.raise_errors()
    return unlabelled


def note_losses(findings: FindingCollector, loss: Loss | None, aux_ops: Iterable[AuxiliaryOperation]) -> None:
    """Note a loss, and operations beside it, that would learn from voxels that nobody labelled."""
    if loss is not None and not loss.sums_over_voxels():
        message = f"{loss.component_name()} {CAN_NOT}; DiceCE, Dice and Focal can"
        findings.error("unlabelled", "train.loss", message)
    for operation in aux_ops:
        if not isinstance(operation, NegLoss):
            findings.error("unlabelled", "train.aux_ops", f"{operation.component_name()} {CAN_NOT}; NegLoss can")


def note_carriers(findings: FindingCollector, json_path: str, transforms: Iterable[Transform]) -> None:
    """Note transforms that would make background of voxels that nobody labelled."""
    for transform in transforms:
        if not carries_unlabelled(transform):
            message = f"{transform.component_name()} on the label {CAN_NOT}; ConvertToRegions, crops and flips can"
            findings.error("unlabelled", json_path, message)


def note_metrics(findings: FindingCollector, json_path: str, metrics: Iterable[Metric]) -> None:
    """Note metrics that would judge voxels that nobody labelled."""
    for metric in metrics:
        if not isinstance(metric, ComputeAverageDice | ComputeAverage):
            findings.error("unlabelled", json_path, f"{metric.name} {CAN_NOT}; ComputeAverageDice can")


def _find_absent(case: LabelledCase, names: tuple[str, ...]) -> tuple[int, ...]:
    if case.labelled is None:
        return ()
    unknown = sorted(set(case.labelled) - set(names))
    if unknown:
        raise DataError(f"case {case.id}: labelled names {join_names(unknown)}; the classes are {join_names(names)}")
    first = int(names[:1] == ("background",))
    return tuple(number for number, name in enumerate(names) if number >= first and name not in case.labelled)
