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

# Voxels of patches a second: measured on two cores with 16 filters in bfloat16; on a GPU with 32 an estimate.
VOXELS_A_CORE, VOXELS_A_GPU = 0.6e6, 40e6
# Passes through the cases up to which images are varied least, and from which on they are varied most. After 125 the
# most was measured to be worse (docs/accuracy.md); the two ends themselves are not measured.
FEW_PASSES, MANY_PASSES = 300.0, 1500.0
DEGREES, SCALE = (10.0, 30.0), (0.1, 0.3)


class BudgetPlan(BaseModel):
    """A training's time in terms of the data.

    Attributes:
        minutes: that the training takes.
        passes: how often it will have seen each case, about.
        strength: of the random changes of images, from 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes: float
    passes: float
    strength: float

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
        fingerprint: number and size of the cases.
        machine: that trains.
    """
    rate = VOXELS_A_GPU if machine.gpu else VOXELS_A_CORE * machine.cores
    # A patch that covers a part of the image sees a part of the case.
    share_of_case = min(1.0, prod(layout.patch) / fingerprint.voxels)
    passes = rate * 60 * minutes / prod(layout.patch) / max(1, fingerprint.labelled) * share_of_case
    share = log(max(passes, FEW_PASSES) / FEW_PASSES) / log(MANY_PASSES / FEW_PASSES)
    return BudgetPlan(minutes=minutes, passes=float(f"{passes:.3g}"), strength=round(min(1.0, share), 2))
