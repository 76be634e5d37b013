"""The options of a bundle's stages: which of its configurations are read, and which values replace theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from pathlib import Path


class BundleOptions(BaseModel):
    """The keys ``train``, ``evaluate`` and ``infer`` of a workspace of ``kind: bundle``.

    Attributes:
        config: configurations relative to the bundle, read one over the other.
        set: values that win over them, by MONAI's ids: ``train#trainer#max_epochs: 20``.
        data: "split" puts the cases of Voxflow's split in the place of the configuration's own data; "own" leaves the
            configuration's.
        train_data, validate_data, infer_data: ids of the cases to train on, to validate and evaluate on, and to infer.
            An empty id says that the bundle has no such part.
        image_key, label_key: the fields in which the bundle's data sets hold images and labels; without ``image_key``,
            a case is its image's path.
        key: the datalist's key whose cases are evaluated or inferred.
        trainer: id of the trainer.
        evaluator: id of what validates, evaluates or infers.
        checkpoints: id of the folder that checkpoints are written to and read from.
        outputs: id of the folder that everything else is written to.
        load_path: id of the path that weights are read from, for configurations that state it by itself.
        network: id of the network, for the export.
        init_id, run_id, final_id: ids of what is done before, in and after the run, as ``monai.bundle run`` names them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    # MONAI writes both; one form lets ids be compared.
    _fold_separators = field_validator("set")(lambda values: {k.replace("::", "#"): v for k, v in values.items()})

    config: tuple[str, ...] = ()
    set: dict[str, Any] = Field(default_factory=dict)
    data: Literal["split", "own"] = "split"
    train_data: str = "train#dataset#data"
    validate_data: str = "validate#dataset#data"
    infer_data: str = "dataset#data"
    image_key: str = "image"
    label_key: str = "label"
    key: str = ""
    trainer: str = "train#trainer"
    evaluator: str = ""
    checkpoints: str = "ckpt_dir"
    outputs: str = "output_dir"
    load_path: str = "checkpointloader#load_path"
    network: str = "network_def"
    init_id: str = "initialize"
    run_id: str = "run"
    final_id: str = "finalize"


DEFAULT_CONFIG = {
    "train": ("configs/train.json",),
    "evaluate": ("configs/train.json", "configs/evaluate.json"),
    "infer": ("configs/inference.json",),
}
DEFAULT_EVALUATOR = {"train": "validate#evaluator", "evaluate": "validate#evaluator", "infer": "evaluator"}


def list_config_files(bundle: Path, stage: str, options: BundleOptions) -> list[Path]:
    """List the configurations of a stage: those of the options, else the zoo's, as YAML where there is no JSON.

    Args:
        bundle: its folder.
        stage: "train", "evaluate" or "infer".
        options: of the stage.
    """
    if options.config:
        return [bundle / name for name in options.config]
    files = [bundle / name for name in DEFAULT_CONFIG[stage]]
    yaml_files = [file.with_suffix(suffix) for file in files for suffix in (".yaml", ".yml")]
    by_stem = {file.stem: file for file in reversed(yaml_files) if file.is_file()}
    return [file if file.is_file() else by_stem.get(file.stem, file) for file in files]
