"""Writers under TLT 2's names."""

from __future__ import annotations

from pydantic import Field

from voxflow.components.registry import register
from voxflow.components.writers import WriteClassificationResults, WriteNifti


@register("writer", dialect="tlt2")
class WriteNiftyResults(WriteNifti):
    """TLT's name for WriteNifti."""

    field: str = Field(alias="applied_key")


@register("writer", dialect="tlt2", name="WriteClassificationResults")
class TltWriteClassificationResults(WriteClassificationResults):
    """The same under TLT's arguments."""

    field: str = Field(alias="applied_key")
