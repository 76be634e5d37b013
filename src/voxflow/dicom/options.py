"""The options of conversion that a user can choose: the keys of ``workspaces.WS.convert`` in params.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from voxflow.dicom.channels import ChannelRules  # noqa: TC001  pydantic reads it
from voxflow.errors import ConfigError
from voxflow.findings import suggest
from voxflow.images import ImageOptions

VOLUME_MODALITIES = ("CT", "MR", "PT")
RADIOGRAPH_MODALITIES = ("CR", "DX")
# The options that decide which images a study gives, and their values.
IMAGE_KEYS = (
    *("channels_of", "frame_of_reference", "pet", "window", "radiograph_bits", "several_volumes"),
    *("gantry_tilt", "irregular_spacing", "spacing_tolerance_mm", "min_slices"),
)


class ConvertOptions(ImageOptions):
    """How a folder of images becomes volumes, labels and a case table.

    Attributes:
        modalities: Modality (0008,0060) of the series to convert, the others are skipped; of CT, MR, PT (volumes)
            and CR, DX (radiographs). None converts all five.
        mapping: write the file that leads from pseudonyms back to patients, to the folder ``VOXFLOW_MAPPING_FOLDER``,
            else ``.voxflow/mapping``.
        spacing_tolerance_mm: how far a slice may lie from where the regular grid has it, mm.
        min_slices: volumes of fewer slices are quarantined.
        several_volumes: "each" makes a case of each time point, echo or acquisition of a series; "first" of the first.
        gantry_tilt: "shear" resamples the slices of a tilted CT onto a straight grid; "quarantine" refuses them.
        irregular_spacing: "resample" brings slices whose spacing changes onto a regular grid; "quarantine" refuses.
        label_grid: "resample" takes the nearest pixel of a segmentation on another grid than its image; "quarantine"
            refuses it.
        overlap: which segment counts where several lie: the "last" or the "first" by its number, or by "listed" the
            one that ``labels`` names last. "channels" writes each label whole, a mask file of its own, beside the label
            volume, in which the last counts. "regions" keeps all in the label volume: a voxel of several classes has a
            value of its own, and regions.json says which values each class has.
        pet: "suv" turns PET into standardised uptake values (body weight) where the attributes allow; "stated" keeps
            what the series states.
        window: radiographs: the part of the values that is spread over all of the grey: (centre, width) in the values
            after the modality's rescale, or what each has "stated" (VOI LUT, else its first window). None keeps all.
        radiograph_bits: of the PNG files, 16 or 8.
        channels: the rules by which series become the channels of a case, by the channel's name in the model's order;
            None makes a case of each series. With a layout, which of its channels to take, by name, in this order.
        cases: a table below the source that names the series of each case, in place of rules: a CSV with the columns
            ``case``, one for each channel, and perhaps ``label``.
        channels_of: where the series of a case are looked for: in one "study", or in all that a "patient" has.
        frame_of_reference: "same" refuses channels whose frames of reference differ; "any" takes them as they lie.
        labels_on: the channel whose labels count, where labels are drawn on several, or do not say on which.
    """

    modalities: tuple[str, ...] | None = Field(default=None, min_length=1)
    mapping: bool = True
    spacing_tolerance_mm: float = Field(default=0.1, gt=0)
    min_slices: int = Field(default=3, ge=2)
    several_volumes: Literal["each", "first"] = "each"
    gantry_tilt: Literal["shear", "quarantine"] = "shear"
    irregular_spacing: Literal["resample", "quarantine"] = "quarantine"
    label_grid: Literal["resample", "quarantine"] = "resample"
    overlap: Literal["last", "first", "listed", "channels", "regions"] = "last"
    pet: Literal["suv", "stated"] = "suv"
    window: Literal["stated"] | tuple[float, Annotated[float, Field(ge=1)]] | None = None
    radiograph_bits: Literal[8, 16] = 16
    channels: ChannelRules | None = None
    cases: str | None = None
    channels_of: Literal["study", "patient"] = "study"
    frame_of_reference: Literal["same", "any"] = "same"
    labels_on: str | None = None

    @field_validator("modalities")
    @classmethod
    def _known_modalities(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        supported = VOLUME_MODALITIES + RADIOGRAPH_MODALITIES
        unknown = [modality for modality in value or () if modality not in supported]
        if unknown:
            raise ValueError(f"unknown modality {', '.join(unknown)}; known: {', '.join(supported)}")
        return value

    def list_for_model(self) -> dict[str, Any]:
        """List what a model must know to make the same images of new DICOM, as far as it differs from the defaults.

        Returns:
            Options as params.yaml has them. The rules of several channels have a place of their own in a model; that of
            a single one is among these.

        Example:
            >>> ConvertOptions(pet="stated", workers=2).list_for_model()
            {'pet': 'stated'}
        """
        values = self.model_dump(mode="json", include=set(IMAGE_KEYS), exclude_defaults=True)
        if self.channels and len(self.channels) == 1:
            ((name, rule),) = self.channels.items()
            values["channels"] = {name: rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)}
        return values

    @property
    def suffixes(self) -> dict[str, str]:
        """What the names of the channels' files end in, by channel; none where the rules say nothing of files."""
        return {name: rule.suffix for name, rule in (self.channels or {}).items() if rule.suffix}

    def without_table(self) -> ConvertOptions:
        """Options for images that have no row in the table of cases, such as new studies: the rules find them.

        Raises:
            ConfigError: there are no rules.
        """
        if self.cases and not self.channels:
            raise ConfigError(
                "new studies have no row in the table of `cases`: state rules for their series, too, by `channels`",
                where="convert.channels",
            )
        return self.model_copy(update={"cases": None})

    @model_validator(mode="after")
    def _channels_that_can_be(self) -> ConvertOptions:
        for name, rule in (self.channels or {}).items():
            if rule.modality and self.modalities and rule.modality not in self.modalities:
                raise ValueError(f"the channel {name} is of {rule.modality}, which is not among `modalities`")
        if self.labels_on and self.channels and self.labels_on not in self.channels:
            raise ValueError(
                f"`labels_on` names no channel: {self.labels_on!r}{suggest(self.labels_on, self.channels)}"
            )
        return self
