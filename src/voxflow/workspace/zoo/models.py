"""Holds the facts of the published models: names, data, classes, scores, and what each was trained with."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

FOLDER = Path(__file__).parents[1] / "templates" / "_zoo"
Family = Literal["volume", "brain", "chestxray"]
Json = dict[str, Any]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recipe(_Facts):
    """The components and numbers that a network is trained with; the components stand as configurations write them.

    Attributes:
        network, loss, optimizer, lr_policy: components; ``"@NAME@"`` is a hole (see :mod:`.files`).
        epochs: of the whole training.
        epochs_per_validation: epochs between validations.
        learning_rate: at the start.
        use_amp: mixed precision.
        patch: what is learnt from, voxels (i, j, k) or pixels (rows, columns).
        window: what validation and inference bring through the network at once.
        batch_size: patches a step.
        patches: patches of one case; more than one: they make the batch.
        crop: the random transforms that cut patches.
        intensity: brings intensities to the network's range; None: by modality.
    """

    network: Json
    loss: Json
    optimizer: Json
    lr_policy: Json | None
    epochs: PositiveInt
    epochs_per_validation: PositiveInt
    learning_rate: PositiveFloat
    use_amp: bool
    patch: tuple[PositiveInt, ...]
    window: tuple[PositiveInt, ...]
    batch_size: PositiveInt
    patches: PositiveInt
    crop: tuple[Json, ...]
    intensity: Json | None = None


class DataSet(_Facts):
    """The images that a model was published for.

    Attributes:
        name: of the data set.
        folder: what it unpacks to.
        licence: its terms.
        reference: who made it, or where to ask.
        training: labelled cases that it has; None where that is not said.
        test: cases without a label.
        cases: four of its cases, for the example datalist.
        images: the files of one case, one a channel.
        label: the label file of one case.
        note: what else to know of its files; begins with a blank.
    """

    name: str
    folder: str
    licence: str
    reference: str
    training: int | None
    test: int | None
    cases: tuple[str, ...]
    images: tuple[str, ...] = ("imagesTr/{case}.nii.gz",)
    label: str = "labelsTr/{case}.nii.gz"
    note: str = ""


class ZooModel(_Facts):
    """One published model.

    Attributes:
        name: what NVIDIA called it in Clara Train 3.1.
        aliases: the name of Transfer Learning Toolkit 2.0 and short ones.
        family: which base configuration it has.
        summary: what it does, one line.
        modality: DICOM's word.
        channels: the images of one case.
        rules: which series of a DICOM study each channel is, as the option ``convert.channels`` has it; none where any
            series of the modality will do.
        labels: the values of a label file.
        outputs: the classes that are scored, in the order of the network's channels.
        hounsfield: CT: the window that becomes 0 to 1.
        data: the data set.
        published_cases: how many cases it was trained and validated on.
        scores: what was published: mean Dice by class, or AUC.
        published: the published recipe.
        cpu: a small recipe for machines without a GPU.
    """

    name: str
    aliases: tuple[str, ...]
    family: Family
    summary: str
    modality: str
    channels: tuple[str, ...]
    rules: dict[str, Json] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    outputs: tuple[str, ...]
    hounsfield: tuple[int, int] | None = None
    data: DataSet
    published_cases: dict[str, int] = Field(default_factory=dict)
    scores: dict[str, float]
    published: Recipe
    cpu: Recipe

    @property
    def line(self) -> str:
        """One line for a list of templates: what the model does, what was published, its shortest name."""
        metric = "" if self.task == "classification" else "Dice "
        scores = ", ".join(f"{name} {score:.3f}" for name, score in self.scores.items())
        return f"{self.summary}; published {metric}{scores}; in short {min(self.aliases, key=len)}"

    @property
    def task(self) -> Literal["segmentation", "classification"]:
        """The model's task: "segmentation" or "classification"."""
        return "classification" if self.family == "chestxray" else "segmentation"

    @property
    def classes(self) -> int:
        """Channels of the network's answer: softmax has one for the background, sigmoid none."""
        return len(self.outputs) + (self.family == "volume")

    @property
    def datalist_name(self) -> str:
        """The example datalist's file name."""
        return "plco.json" if self.task == "classification" else "dataset_0.json"


@functools.cache
def read_zoo() -> dict[str, ZooModel]:
    """Every model by name, in alphabetical order."""
    content = json.loads((FOLDER / "models.json").read_text(encoding="utf-8"))
    models = [_model(entry, content["families"][entry["family"]]) for entry in content["models"]]
    return {model.name: model for model in sorted(models, key=lambda model: model.name)}


def find_model(name: str) -> ZooModel | None:
    """The model of this name or alias; None when there is none."""
    return next((model for model in read_zoo().values() if name in (model.name, *model.aliases)), None)


def _model(entry: Json, family: Json) -> ZooModel:
    recipes = {variant: {**recipe, **entry.get(variant, {})} for variant, recipe in family.items()}
    return ZooModel.model_validate({**entry, **recipes})
