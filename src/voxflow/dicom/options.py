"""Owns what a user can choose about conversion: the keys of ``workspaces.WS.convert`` in params.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

VOLUME_MODALITIES = ("CT", "MR", "PT")
RADIOGRAPH_MODALITIES = ("CR", "DX")

LabelValue = Annotated[int, Field(ge=1, le=255)]


class ConvertOptions(BaseModel):
    """How a folder of images becomes volumes, labels and a case table.

    Attributes:
        modalities: Modality (0008,0060) of the series to convert, the others are skipped; of CT, MR, PT (volumes)
            and CR, DX (radiographs). None converts all five.
        findings: a CSV below the source folder: one column names the image (``sop_instance_uid``, or ``file``),
            one the patient (``patient_id``), each other one a finding with 0, 1 or nothing.
        labels: the segments or ROIs to read, by name (upper and lower case alike), and the value that each gets;
            several names may share one value. None reads all, numbered from 1 in the order of their names over
            all cases. For NIfTI labels, the names of the values that the files hold.
        pseudonym_key: the secret that pseudonyms are made with. None takes ``VOXFLOW_PSEUDONYM_KEY``, else
            ``.voxflow/pseudonym.key``, which is made when it is not there.
        mapping: write the file that leads from pseudonyms back to patients, to the folder ``VOXFLOW_MAPPING_FOLDER``,
            else ``.voxflow/mapping``.
        patient_pattern: for NIfTI and PNG, a regular expression whose first group, found in the file's path
            without suffix, names the patient. None: a PNG named ``NUMBER_NUMBER`` belongs to patient NUMBER, any
            other file to a patient of its own.
        keep_names: for NIfTI and PNG, use file names as case ids in place of pseudonyms.
        spacing_tolerance_mm: how far a slice may lie from where the regular grid has it, mm.
        min_slices: volumes of fewer slices are quarantined.
        several_volumes: "each" makes a case of each time point, echo or acquisition of a series; "first" of the first.
        gantry_tilt: "shear" resamples the slices of a tilted CT onto a straight grid; "quarantine" refuses them.
        irregular_spacing: "resample" brings slices whose spacing changes onto a regular grid; "quarantine" refuses.
        label_grid: "resample" takes the nearest pixel of a segmentation on another grid than its image; "quarantine"
            refuses it.
        overlap: which segment counts where several lie: the "last" or the "first" by its number, or by "listed" the
            one that ``labels`` names last. "channels" writes each label whole, a mask file of its own, beside the label
            volume, in which the last counts.
        pet: "suv" turns PET into standardised uptake values (body weight) where the attributes allow; "stated" keeps
            what the series states.
        volume_format: the suffix of the volumes and labels that are written.
        window: radiographs: the part of the values that is spread over all of the grey: (centre, width) in the values
            after the modality's rescale, or what each has "stated" (VOI LUT, else its first window). None keeps all.
        radiograph_bits: of the PNG files, 16 or 8.
        workers: processes; None takes the number of cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modalities: tuple[str, ...] | None = Field(default=None, min_length=1)
    findings: str | None = None
    labels: dict[str, LabelValue] | None = Field(default=None, min_length=1)
    pseudonym_key: str | None = Field(default=None, min_length=1)
    mapping: bool = True
    patient_pattern: str | None = None
    keep_names: bool = False
    spacing_tolerance_mm: float = Field(default=0.1, gt=0)
    min_slices: int = Field(default=3, ge=2)
    several_volumes: Literal["each", "first"] = "each"
    gantry_tilt: Literal["shear", "quarantine"] = "shear"
    irregular_spacing: Literal["resample", "quarantine"] = "quarantine"
    label_grid: Literal["resample", "quarantine"] = "resample"
    overlap: Literal["last", "first", "listed", "channels"] = "last"
    pet: Literal["suv", "stated"] = "suv"
    volume_format: Literal[".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"] = ".nii.gz"
    window: Literal["stated"] | tuple[float, Annotated[float, Field(ge=1)]] | None = None
    radiograph_bits: Literal[8, 16] = 16
    workers: int | None = Field(default=None, ge=1)

    @field_validator("modalities")
    @classmethod
    def _known_modalities(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = VOLUME_MODALITIES + RADIOGRAPH_MODALITIES
        unknown = [modality for modality in value or () if modality not in known]
        if unknown:
            raise ValueError(f"unknown modality {', '.join(unknown)}; known: {', '.join(known)}")
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
