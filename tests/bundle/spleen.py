"""The configurations of a bundle in the form of the model zoo's spleen_ct_segmentation, for cubes and a CPU."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tests.bundle.shape_parts import (
    LOSS,
    METRICS,
    SEED,
    Config,
    classify,
    compose,
    dice,
    evaluator,
    head,
    learn,
    network,
    part,
    restore,
    saver,
    trainer,
    unet,
)

CUBE = (16, 16, 16)


def load(keys: Any) -> list[Config]:
    return [
        part("LoadImaged", keys=keys),
        part("EnsureChannelFirstd", keys=keys),
        part("ScaleIntensityRanged", keys="image", a_min=0, a_max=200, b_min=0, b_max=1),
        part("EnsureTyped", keys=keys),
    ]


def train_config() -> Config:
    keys = ["image", "label"]
    crop = part("RandCropByPosNegLabeld", keys=keys, label_key="label", spatial_size=list(CUBE), num_samples=2)
    return (
        head(imports=["$import glob", "$import ignite"])
        | {"images": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))", "val_interval": 1}
        | network(unet() | {"num_res_units": 1})
        | learn()
        | {
            "optimizer": part("Novograd", params="$@network.parameters()", lr=0.02),
            "train": {
                "preprocessing": compose([*load(keys), crop]),
                "dataset": part(
                    "CacheDataset", data="$[{'image': i} for i in @images]", transform="@train#preprocessing"
                ),
                "dataloader": part("DataLoader", dataset="@train#dataset", batch_size=2, shuffle=True),
                "inferer": part("SimpleInferer"),
                "handlers": [
                    part("ValidationHandler", validator="@validate#evaluator", interval="@val_interval"),
                    part("StatsHandler", tag_name="train_loss", output_transform=LOSS),
                ],
                "trainer": trainer(
                    "@train#dataloader",
                    max_epochs=300,
                    loss_function="@loss",
                    optimizer="@optimizer",
                    inferer="@train#inferer",
                    train_handlers="@train#handlers",
                ),
            },
            "validate": {
                "preprocessing": compose(load(keys)),
                "dataset": part("Dataset", data="$[]", transform="@validate#preprocessing"),
                "dataloader": part("DataLoader", dataset="@validate#dataset", batch_size=1),
                "inferer": part("SlidingWindowInferer", roi_size=list(CUBE), overlap=0.25),
                "postprocessing": compose(classify("pred", "label")),
                "handlers": [saver("@ckpt_dir")],
                "key_metric": dice(),
                "evaluator": evaluator(
                    "@validate#dataloader",
                    inferer="@validate#inferer",
                    postprocessing="@validate#postprocessing",
                    key_val_metric="@validate#key_metric",
                    val_handlers="@validate#handlers",
                ),
            },
            "initialize": [SEED],
            "run": ["$@train#trainer.run()"],
        }
    )


def evaluate_config() -> Config:
    handlers = [restore("$@ckpt_dir + '/model.pt'"), deepcopy(METRICS)]
    return {"validate#handlers": handlers, "run": ["$@validate#evaluator.run()"]}


def inference_config() -> Config:
    shared = {key: value for key, value in head().items() if key in ("bundle_root", "output_dir", "device")}
    save = part("SaveImaged", keys="pred", output_dir="@output_dir", output_postfix="trans")
    return (
        shared
        | network(unet() | {"num_res_units": 1})
        | {
            "preprocessing": compose(load("image")),
            "dataset": part("Dataset", data="$[]", transform="@preprocessing"),
            "dataloader": part("DataLoader", dataset="@dataset", batch_size=1),
            "inferer": part("SlidingWindowInferer", roi_size=list(CUBE)),
            "postprocessing": compose([part("AsDiscreted", keys="pred", argmax=True), save]),
            "evaluator": evaluator("@dataloader", inferer="@inferer", postprocessing="@postprocessing"),
            "checkpointloader": restore("$@bundle_root + '/models/model.pt'"),
            "initialize": ["$@checkpointloader(@evaluator)"],
            "run": ["$@evaluator.run()"],
        }
    )
