"""Defines what a user can choose about monitoring: the key ``monitor`` of a workspace in params.yaml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RetrainOptions(BaseModel):
    """When the flow monitor starts a training.

    Attributes:
        on_drift: when drift is found.
        new_labelled: when so many labelled cases are there that no training has seen; 0: never for that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_drift: bool = False
    new_labelled: int = Field(default=20, ge=0)


class MonitorOptions(BaseModel):
    """When incoming studies count as drifted.

    Attributes:
        inbox: the folder of incoming studies that the flow monitor looks at; None: only new labels are counted.
        psi: the least population stability index that matters; 0.2 is the usual border of a large shift.
        alpha: how often, at most, a check of undrifted studies may raise the alert, all features taken together.
        tolerance: numbers nearer than this share of their usual size are equal, such as 3.0 and 3.0001 mm.
        ignore: features that are not looked at.
        viewer: so many incoming studies are shown in a case viewer beside the page, which holds their images.
        retrain: when a training starts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inbox: str | None = None
    psi: float = Field(default=0.2, gt=0)
    alpha: float = Field(default=0.001, gt=0, lt=1)
    tolerance: float = Field(default=0.01, ge=0)
    ignore: tuple[str, ...] = ()
    viewer: int = Field(default=0, ge=0, le=24)
    retrain: RetrainOptions = RetrainOptions()
