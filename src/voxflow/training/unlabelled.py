"""What a training needs to leave out the voxels and the classes that nobody labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.components import (
    MARK,
    UNLABELLED_REGIONS,
    ComputeAverage,
    ComputeAverageDice,
    ConvertToRegions,
    NegLoss,
    carries_unlabelled,
    code_of_set,
)
from voxflow.errors import ConfigError, DataError, join_names
from voxflow.findings import FindingCollector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.datalist import Case
    from voxflow.training.plan import TrainingPlan


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

    def mark(self, case: Case) -> dict[str, Any]:
        """What the case's sample must hold so that its label is marked; empty where all of it is labelled."""
        absent = _find_absent(case, self.class_names)
        if case.ignore is None and not absent:
            return {}
        if self.has_regions:
            regions = tuple(self.class_names[number] for number in absent)
            return {MARK: (case.ignore, 0, ()), UNLABELLED_REGIONS: regions}
        return {MARK: (case.ignore, code_of_set(self.sets.index(absent)) if absent else 0, absent)}


def find_unlabelled(plan: TrainingPlan, cases: Iterable[Case], *, overlap: bool) -> UnlabelledClasses | None:
    """Find what some cases have no label for.

    Args:
        plan: of the training.
        cases: to learn from and to validate on.
        overlap: the data have regions, which may overlap.

    Returns:
        None where every class was labelled in every voxel of all cases.

    Raises:
        DataError: a case names a labelled class that the model has not.
        ConfigError: a component of the configuration can't leave voxels out.
    """
    cases = list(cases)
    if all(case.ignore is None and case.labelled is None for case in cases):
        return None
    names = plan.facts.class_names
    chain = (*plan.train_chain.head, *plan.train_chain.tail)
    has_regions = any(isinstance(transform, ConvertToRegions) for transform in chain)
    sets = {absent for case in cases if (absent := _find_absent(case, names))}
    if sets and overlap and not has_regions:
        message = "false, but in some cases only some classes were labelled, and classes overlap; learn regions"
        raise ConfigError(message, path=plan.workflow.path, where="train.regions")
    _check_components(plan)
    return UnlabelledClasses(names, tuple(sorted(sets)), has_regions)


def _find_absent(case: Case, names: tuple[str, ...]) -> tuple[int, ...]:
    if case.labelled is None:
        return ()
    unknown = sorted(set(case.labelled) - set(names))
    if unknown:
        raise DataError(f"case {case.id}: labelled names {join_names(unknown)}; the classes are {join_names(names)}")
    first = int(names[:1] == ("background",))
    return tuple(number for number, name in enumerate(names) if number >= first and name not in case.labelled)


def _check_components(plan: TrainingPlan) -> None:
    """Refuse what would learn or judge voxels that nobody labelled as if they were background."""
    findings = FindingCollector(plan.workflow.path)
    reason = "can't leave out voxels that nobody labelled"
    if not plan.loss.sums_over_voxels():
        findings.error("unlabelled", "train.loss", f"{plan.loss.component_name()} {reason}; DiceCE, Dice and Focal can")
    for section, chain in (("train", plan.train_chain), ("validate", plan.valid_chain)):
        for transform in (*chain.head, *chain.tail):
            if not carries_unlabelled(transform):
                message = f"{transform.component_name()} on the label {reason}; ConvertToRegions, crops and flips can"
                findings.error("unlabelled", f"{section}.pre_transforms", message)
    for metric in plan.metrics:
        if not isinstance(metric, ComputeAverageDice | ComputeAverage):
            findings.error("unlabelled", "validate.metrics", f"{metric.name} {reason}; ComputeAverageDice can")
    for operation in plan.aux_ops:
        if not isinstance(operation, NegLoss):
            findings.error("unlabelled", "train.aux_ops", f"{operation.component_name()} {reason}; NegLoss can")
    findings.raise_errors()
