"""The options of conversion that hold for images of any format; those of DICOM alone stand in ``voxflow.dicom``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from voxflow.layouts import LayoutName

LabelValue = Annotated[int, Field(ge=1, le=255)]


class ImageOptions(BaseModel):
    """How a folder of images of any format becomes cases.

    Attributes:
        findings: a CSV below the source folder: one column names the image (``sop_instance_uid``, or ``file``),
            one the patient (``patient_id``), each other one a finding with 0, 1 or nothing.
        labels: the segments or ROIs to read, by name (upper and lower case alike), and the value that each gets;
            several names may share one value. None reads all, numbered from 1 in the order of their names over
            all cases. For NIfTI labels, the names of the values that the files hold.
        pseudonym_key: the secret that pseudonyms are made with. None takes ``VOXFLOW_PSEUDONYM_KEY``, else
            ``.voxflow/pseudonym.key``, which is made when it is not there.
        patient_pattern: for NIfTI and PNG, a regular expression whose first group, found in the file's path
            without suffix, names the patient. None: a PNG named ``NUMBER_NUMBER`` belongs to patient NUMBER, any
            other file to a patient of its own.
        layout: read the folder as a data set of this known layout; None pairs images and labels by their names.
        keep_names: for NIfTI and PNG, use file names as case ids in place of pseudonyms.
        volume_format: the suffix of the volumes and labels that are written.
        workers: processes; None takes the number of cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: str | None = None
    labels: dict[str, LabelValue] | None = Field(default=None, min_length=1)
    pseudonym_key: str | None = Field(default=None, min_length=1)
    patient_pattern: str | None = None
    layout: LayoutName | None = None
    keep_names: bool = False
    volume_format: Literal[".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"] = ".nii.gz"
    workers: int | None = Field(default=None, ge=1)

    @field_validator("labels")
    @classmethod
    def _distinct_names(cls, value: dict[str, int] | None) -> dict[str, int] | None:
        spellings: dict[str, str] = {}
        for name, number in (value or {}).items():
            other = spellings.setdefault(name.casefold(), name)
            if value and value[other] != number:
                raise ValueError(f"{other!r} and {name!r} differ in upper and lower case alone, and have two values")
        return value

    @field_validator("patient_pattern")
    @classmethod
    def _pattern_with_group(cls, value: str | None) -> str | None:
        try:
            groups = re.compile(value or "()").groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups < 1:
            raise ValueError("the pattern needs a group, such as '^([^_]+)_', that names the patient")
        return value
