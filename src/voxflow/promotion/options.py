"""Defines what a user can choose about promotion: the key ``promote`` of a workspace in params.yaml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# Of a first champion, which is compared with no other model. Below a mean Dice of 0.5, more than two voxels are wrong
# for each that is right, and drawing anew is quicker than correcting. A mean AUC of 0.5 is what guessing reaches.
FLOORS = {"segmentation": 0.5, "classification": 0.6}


class PromoteOptions(BaseModel):
    """When a challenger becomes champion, and what a first champion needs.

    Attributes:
        margin: the least gain of the key metric (mean Dice, or mean AUC) that counts as better.
        alpha: the greatest p of the paired test, one-sided, that counts as proof.
        worst_class: how much the score of any class may fall.
        permutations: how many swaps the test draws; all of them where there are no more.
        seed: decides which swaps and cases are drawn.
        automatic: let the stage move the alias; otherwise it writes what it would do, and ``voxflow promote`` does.
        floor: the least key metric of a first champion; None: that of the task, see :data:`FLOORS`.
        allow_merged_labels: let a first champion learn from labels that were merged from several series.
        allow_failed_checks: let a first champion learn from data that failed a check of the stage validate.
        model: the registered model that this workspace's models are versions of: another workspace's, whose champion
            they challenge on the same test part; None: the workspace's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: float = Field(default=0.005, ge=0)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    worst_class: float = Field(default=0.02, ge=0)
    permutations: int = Field(default=9999, ge=99)
    seed: int = 0
    automatic: bool = True
    floor: float | None = Field(default=None, ge=0, le=1)
    allow_merged_labels: bool = False
    allow_failed_checks: bool = False
    model: str | None = Field(default=None, min_length=1)
