"""What a training's minutes decide: how often it will see each case, and how strongly images are varied for that.

A training that sees a case a few times learns most from images as they are. One that sees it hundreds of times learns
it by heart unless it looks different each time.
"""

from __future__ import annotations

from math import log, prod
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from voxflow.machine import Machine
    from voxflow.planning.layout import TrainingLayout
    from voxflow.volumes import Fingerprint

# Voxels of patches a second: measured on two idle cores with 16 filters in bfloat16 (7597 steps of two patches of
# 40 x 56 x 40 in 900 s); on a GPU with 32 an estimate.
VOXELS_A_CORE, VOXELS_A_GPU = 0.75e6, 40e6
LEARNT_SHARE = 0.7  # of the labelled cases: the template's split keeps a fifth and a tenth from learning
# Passes through the cases up to which images are varied least, and from which on they are varied most. Measured
# (docs/accuracy.md): 1 is worse than 0 after 125, 0.3 no better than 0 after 212, and better after 424; the rest is an
# estimate.
FEW_PASSES, MANY_PASSES = 220.0, 2500.0
# Passes up to which patches are not bent, and from which on they are bent in full, by a share of the distance between
# the crop's control points: measured at 212, where it made validation end at its best. Between the two an estimate.
UNBENT_PASSES, BENT_PASSES = 100.0, 200.0
BEND, CONTROL_INTERVALS = 0.1, 4
MEASURED_PASSES = 450.0  # beyond, no training was compared
DEGREES, SCALE = (10.0, 30.0), (0.1, 0.3)


class BudgetPlan(BaseModel):
    """A training's time in terms of the data.

    Attributes:
        minutes: that the training takes.
        passes: how often it will have seen each case, about.
        strength: of the random changes of images, from 0 to 1.
        bend_mm: standard deviation of the bending at the crop's control points; 0: patches are not bent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes: float
    passes: float
    strength: float
    bend_mm: float = 0.0

    @property
    def is_estimate(self) -> bool:
        """Whether no measurement stands behind it: no training was compared that saw its cases so often."""
        return self.passes > MEASURED_PASSES

    @property
    def rotation_degree(self) -> float:
        """The largest angle that patches are turned by."""
        return round(DEGREES[0] + self.strength * (DEGREES[1] - DEGREES[0]), 1)

    @property
    def scale_factor(self) -> float:
        """The largest share that patches are magnified or shrunk by."""
        return round(SCALE[0] + self.strength * (SCALE[1] - SCALE[0]), 3)


def plan_budget(minutes: float, layout: TrainingLayout, fingerprint: Fingerprint, machine: Machine) -> BudgetPlan:
    """Estimate how often a training sees each case, and choose how strongly its images are varied.

    Args:
        minutes: that it takes.
        layout: patch and batch.
        fingerprint: number and size of the cases, of which the usual share is learnt from.
        machine: that trains.
    """
    voxels = _measure_rate(machine) * 60 * minutes
    # A patch that covers a part of the image sees a part of the case.
    share_of_case = min(1.0, prod(layout.patch) / fingerprint.voxels)
    passes = voxels / prod(layout.patch) / _count_learnt(fingerprint) * share_of_case
    share = log(max(passes, FEW_PASSES) / FEW_PASSES) / log(MANY_PASSES / FEW_PASSES)
    edges_mm = [n * mm for n, mm in zip(layout.patch, fingerprint.spacing_mm.median, strict=True)]
    shortest_mm = min(mm for axis, mm in enumerate(edges_mm) if axis not in layout.flat_axes)
    bent = min(1.0, max(0.0, (passes - UNBENT_PASSES) / (BENT_PASSES - UNBENT_PASSES)))
    return BudgetPlan(
        minutes=minutes,
        passes=float(f"{passes:.3g}"),
        strength=round(min(1.0, share), 2),
        bend_mm=float(f"{bent * BEND * shortest_mm / CONTROL_INTERVALS:.3g}"),
    )


def estimate_minutes(epochs: float, layout: TrainingLayout, fingerprint: Fingerprint, machine: Machine) -> float:
    """Estimate how long a training takes whose length is given in epochs: each of them takes a patch of each case.

    Args:
        epochs: of the training.
        layout: patch and batch.
        fingerprint: number and size of the cases, of which the usual share is learnt from.
        machine: that trains.
    """
    return epochs * _count_learnt(fingerprint) * prod(layout.patch) / _measure_rate(machine) / 60


def _measure_rate(machine: Machine) -> float:
    """Voxels of patches a second."""
    return VOXELS_A_GPU if machine.gpu else VOXELS_A_CORE * machine.cores


def _count_learnt(fingerprint: Fingerprint) -> float:
    return max(1.0, LEARNT_SHARE * fingerprint.labelled)
