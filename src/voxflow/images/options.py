"""The options of conversion that hold for images of any format; those of DICOM alone stand in ``voxflow.dicom``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    field_validator,
    model_validator,
)

from voxflow.images.label_values import number_names
from voxflow.layouts import IGNORE, LayoutName

LabelValue = Annotated[int, Field(ge=1, le=255)]


class ImageOptions(BaseModel):
    """How a folder of images of any format becomes cases.

    Attributes:
        findings: a CSV below the source folder: one column names the image (``sop_instance_uid``, or ``file``),
            one the patient (``patient_id``), each other one a finding with 0, 1 or nothing.
        labels: the segments or ROIs to read, by name (upper and lower case alike), and the value that each gets;
            several names may share one value. None reads all, numbered from 1 in the order of their names over
            all cases. For NIfTI labels, the names of the values that the files hold. The name ``ignore`` is of no
            class: it marks voxels that nobody labelled, which training and scores leave out.
            ``{255: tumour}``, names by the values of the files, numbers the names from 1 and writes these numbers.
        label_threshold: from which value on a voxel of a label file that holds probabilities (0 to 1) is of the class;
            None refuses such a file. Other label files stay as they are.
        pseudonym_key: the secret that pseudonyms are made with. None takes ``VOXFLOW_PSEUDONYM_KEY``, else
            ``.voxflow/pseudonym.key``, which is made when it is not there.
        patient_pattern: for NIfTI and PNG, a regular expression whose first group, found in the file's path
            without suffix, names the patient. None: a PNG named ``NUMBER_NUMBER`` belongs to patient NUMBER, any
            other file to a patient of its own.
        absent_labels: what it means that a case has labels, but none of some class (no mask, segment or ROI): "empty":
            the class is not there; "unlabelled": nobody looked for it, so that training and scores leave it out.
        layout: read the folder as a data set of this known layout; None pairs images and labels by their names.
        keep_names: for NIfTI and PNG, use file names as case ids in place of pseudonyms.
        volume_format: the suffix of the volumes and labels that are written.
        workers: processes; None takes the number of cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: str | None = None
    labels: dict[str, LabelValue] | None = Field(default=None, min_length=1)
    label_threshold: float | None = Field(default=None, gt=0, le=1)
    pseudonym_key: str | None = Field(default=None, min_length=1)
    patient_pattern: str | None = None
    absent_labels: Literal["empty", "unlabelled"] = "empty"
    layout: LayoutName | None = None
    keep_names: bool = False
    volume_format: Literal[".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"] = ".nii.gz"
    workers: int | None = Field(default=None, ge=1)

    _remap: dict[int, int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _number_names(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Turn names by the values of the files into values by name, and note which becomes which."""
        labels = data.get("labels") if isinstance(data, dict) else None
        if not isinstance(labels, dict) or all(str(value).isdigit() for value in labels.values()):
            return validate(data)
        if not all(isinstance(name, str) and str(value).isdigit() and int(value) for value, name in labels.items()):
            raise ValueError("labels: write values by name, {tumour: 1}, or names by the files' values, {255: tumour}")
        numbers, remap = number_names({int(value): name for value, name in labels.items()})
        options = validate({**data, "labels": numbers})
        options._remap.update(remap)
        return options

    @property
    def remap(self) -> dict[int, int]:
        """The value to write by that of a label file, where ``labels`` has names by values; else empty."""
        return self._remap

    @property
    def class_labels(self) -> dict[str, int] | None:
        """The labels without the name ``ignore``; None where ``labels`` is None."""
        return None if self.labels is None else {n: v for n, v in self.labels.items() if n.casefold() != IGNORE}

    @property
    def ignore(self) -> int | None:
        """The value of voxels that nobody labelled; None where ``labels`` names none."""
        return next((value for name, value in (self.labels or {}).items() if name.casefold() == IGNORE), None)

    @field_validator("labels", mode="before")
    @classmethod
    def _no_background(cls, value: Any) -> Any:
        if isinstance(value, dict) and 0 in (value.get(IGNORE), value.get(IGNORE.title())):
            raise ValueError("ignore: 0 is the background; give voxels that nobody labelled a value of their own")
        return value

    @field_validator("labels")
    @classmethod
    def _ignore_above_classes(cls, value: dict[str, int] | None) -> dict[str, int] | None:
        ignore = [number for name, number in (value or {}).items() if name.casefold() == IGNORE]
        classes = [number for name, number in (value or {}).items() if name.casefold() != IGNORE]
        if ignore and not classes:
            raise ValueError("labels names no class but ignore")
        if ignore and ignore[0] <= max(classes):
            raise ValueError(f"ignore is {ignore[0]}; it must lie above the values of all classes, {max(classes)} here")
        return value

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
