"""Defines what a user can choose about corrections: the key ``corrections`` of a workspace in params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CorrectionOptions(BaseModel):
    """Where corrections come from, and when they start a training.

    Attributes:
        pacs, folder: where they come from; both None: where the studies of ``ingest`` come from.
        days: the study is at most so many days old; None: of any age. It counts for a PACS alone.
        role: of the people who correct, as the tables name it.
        retrain_after: a training starts when so many corrected labels are there that none has seen; 0: never.
        absent: what becomes of a correction that lacks a class which our mask has: ``hold``: it is no label; ``empty``:
            the person took the class out. It counts where ``convert.absent_labels`` is ``empty``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pacs: str | None = None
    folder: Path | None = None
    days: int | None = Field(default=90, ge=0)
    role: str = Field(default="person", min_length=1, max_length=40)
    retrain_after: int = Field(default=0, ge=0)
    absent: Literal["hold", "empty"] = "hold"
