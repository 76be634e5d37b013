"""Parts that bundles of the model zoo are made of, small enough for tests, and the data that they learn from."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import yaml
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CASES = ("c0", "c1", "c2", "c3")  # two to train on, one to validate on, one to infer
PAIR = "$monai.handlers.from_engine(['pred', 'label'])"
LOSS = "$monai.handlers.from_engine(['loss'], first=True)"
DECATHLON = "$monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='{}', base_dir=@dataset_dir)"
Config = dict[str, Any]


def write_volumes(folder: Path) -> None:
    """Write four cubes on noise, in the Decathlon's folders, with its list and a table."""
    noise = np.random.default_rng(3)
    for name in CASES:
        label = np.zeros((12, 12, 12), np.uint8)
        label[3:9, 3:9, 3 : 6 + int(name[1])] = 1
        image = label * 100 + noise.normal(20, 10, label.shape)
        part = "Ts" if name == CASES[3] else "Tr"
        for kind, array in (
            ("images", image.astype(np.float32)),
            ("second", image.astype(np.float32) * 2),
            ("labels", label),
        ):
            path = folder / f"{kind}{part}/{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 1.5, 1])), path)
    table = [f"imagesTr/{name}.nii.gz,labelsTr/{name}.nii.gz" for name in CASES[:3]]
    (folder / "train.csv").write_text("\n".join(["image,label", *table]) + "\n")
    items = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in CASES[:3]]
    lists = {"training": items[:2], "validation": items[2:], "testing": [{"image": "imagesTs/c3.nii.gz"}]}
    (folder / "dataset.json").write_text(json.dumps(lists))
    paired = {
        part: [item | {"image": [item["image"], item["image"].replace("images", "second")]} for item in rows]
        for part, rows in lists.items()
    }
    (folder / "paired.json").write_text(json.dumps(paired))


def write_radiographs(folder: Path) -> None:
    """Write four colour images with a bright square or none, masks, and a class of each."""
    noise, samples = np.random.default_rng(4), {}
    for n, name in enumerate(CASES):
        mask = np.zeros((16, 16), np.uint8)
        mask[4:12, 4 : 12 * (n % 2) + 4] = 255
        image = np.clip(mask[..., None] * 0.6 + noise.normal(60, 10, (16, 16, 3)), 0, 255).astype(np.uint8)
        part = "train" if n < 2 else "val" if n == 2 else "test"
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{part}/{name}.png")
        Image.fromarray(mask).save(folder / f"{part}/{name}_seg.png")
        samples[name] = {"image": str(folder / f"{part}/{name}.png"), "label": n % 2}
    parts = {"train": CASES[:2], "val": CASES[2:3], "test": CASES[3:]}
    for part, names in parts.items():
        (folder / f"{part}_samples.json").write_text(json.dumps([samples[name] for name in names]))


def write_config(bundle: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write one configuration, as JSON or YAML by its name."""
    path = bundle / "configs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1) if name.endswith(".json") else yaml.safe_dump(dict(content), sort_keys=False)
    path.write_text(text)


def write_script(bundle: Path, name: str, text: str) -> None:
    """Write a module of the bundle's own."""
    path = bundle / "scripts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "__init__.py").write_text(f"from . import {path.stem}\n")
    path.write_text(textwrap.dedent(text))


def part(target: str, **arguments: Any) -> Config:
    """A component."""
    return {"_target_": target, **arguments}


def compose(transforms: Any) -> Config:
    return part("Compose", transforms=transforms)


def unet(channels: int = 1, classes: int = 2, dimensions: int = 3) -> Config:
    sizes = {"channels": [4, 8], "strides": [2], "norm": "batch"}
    return part("UNet", spatial_dims=dimensions, in_channels=channels, out_channels=classes, **sizes)


def load(*keys: str, reader: Mapping[str, Any] = {}) -> list[Config]:
    image = [key for key in keys if "label" not in key and "seg" not in key]
    return [
        part("LoadImaged", keys=list(keys), **reader),
        part("EnsureChannelFirstd", keys=list(keys)),
        part("Orientationd", keys=list(keys), axcodes="RAS"),
        part("ScaleIntensityRanged", keys=image, a_min=0, a_max=150, b_min=0, b_max=1, clip=True),
        part("EnsureTyped", keys=list(keys)),
    ]


def crop(*keys: str) -> Config:
    return part("RandSpatialCropd", keys=list(keys), roi_size=[8, 8, 8], random_size=False)


def classify(*keys: str, classes: int = 2) -> list[Config]:
    return [
        part("Activationsd", keys="pred", softmax=True),
        part("AsDiscreted", keys=list(keys), argmax=[True, False][: len(keys)], to_onehot=classes),
    ]


def loader(dataset: str, **arguments: Any) -> Config:
    return part("DataLoader", dataset=dataset, **{"batch_size": 1, "num_workers": 0, **arguments})


def saver(folder: str, network: str = "@network", **arguments: Any) -> Config:
    key = {"save_key_metric": True, "key_metric_filename": "model.pt"}
    return part("CheckpointSaver", save_dir=folder, save_dict={"model": network}, **(arguments or key))


def restore(path: str, network: str = "@network", **arguments: Any) -> Config:
    return part("CheckpointLoader", load_path=path, load_dict={"model": network}, **arguments)


def dice(name: str = "val_mean_dice", pair: str = PAIR) -> Config:
    return {name: part("MeanDice", include_background=False, output_transform=pair)}


def head(**values: Any) -> Config:
    return {
        "imports": ["$import glob", "$import os", "$import ignite", "$import torch"],
        "bundle_root": ".",
        "ckpt_dir": "$@bundle_root + '/models'",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data/Task09_Spleen",
        "device": "$torch.device('cpu')",
        **values,
    }


def network(definition: Any) -> Config:
    return {"network_def": definition, "network": "$@network_def.to(@device)"}


def trainer(data: str, network: str = "@network", **arguments: Any) -> Config:
    """An engine that trains, on the data loader of an id."""
    return part("SupervisedTrainer", device="@device", train_data_loader=data, network=network, **arguments)


def evaluator(data: str, network: str = "@network", **arguments: Any) -> Config:
    """An engine that evaluates or infers, on the data loader of an id."""
    return part("SupervisedEvaluator", device="@device", val_data_loader=data, network=network, **arguments)


def learn() -> Config:
    adam = part("torch.optim.Adam", params="$@network.parameters()", lr=0.01)
    return {"loss": part("DiceCELoss", to_onehot_y=True, softmax=True), "optimizer": adam}


def train_part(data: Any, **changes: Any) -> Config:
    """The section ``train`` as most of the zoo has it."""
    engine = trainer(
        "@train#dataloader",
        max_epochs=1,
        loss_function="@loss",
        optimizer="@optimizer",
        inferer="@train#inferer",
        postprocessing="@train#postprocessing",
        key_train_metric="@train#key_metric",
        train_handlers="@train#handlers",
    )
    return {
        "deterministic_transforms": load("image", "label"),
        "random_transforms": [crop("image", "label")],
        "preprocessing": compose("$@train#deterministic_transforms + @train#random_transforms"),
        "dataset": part("Dataset", data=data, transform="@train#preprocessing"),
        "dataloader": loader("@train#dataset", shuffle=True),
        "inferer": part("SimpleInferer"),
        "postprocessing": compose(classify("pred", "label")),
        "handlers": [
            part("ValidationHandler", validator="@validate#evaluator", epoch_level=True, interval=1),
            part("StatsHandler", tag_name="train_loss", output_transform=LOSS),
            part("TensorBoardStatsHandler", log_dir="@output_dir", tag_name="train_loss", output_transform=LOSS),
        ],
        "key_metric": {"train_accuracy": part("ignite.metrics.Accuracy", output_transform=PAIR)},
        "trainer": engine,
    } | changes


def validate_part(data: Any, **changes: Any) -> Config:
    """The section ``validate`` as most of the zoo has it."""
    engine = evaluator(
        "@validate#dataloader",
        inferer="@validate#inferer",
        postprocessing="@validate#postprocessing",
        key_val_metric="@validate#key_metric",
        val_handlers="@validate#handlers",
    )
    return {
        "preprocessing": compose("%train#deterministic_transforms"),
        "dataset": part("Dataset", data=data, transform="@validate#preprocessing"),
        "dataloader": loader("@validate#dataset"),
        "inferer": part("SlidingWindowInferer", roi_size=[8, 8, 8], sw_batch_size=2, overlap=0.5),
        "postprocessing": "%train#postprocessing",
        "handlers": [
            part("StatsHandler", iteration_log=False),
            part("TensorBoardStatsHandler", log_dir="@output_dir", iteration_log=False),
            saver("@ckpt_dir"),
        ],
        "key_metric": dice(),
        "evaluator": engine,
    } | changes


SEED = "$monai.utils.set_determinism(seed=123)"
RUNS: Config = {"initialize": [SEED], "run": ["$@train#trainer.run()"]}
OLD_RUNS: Config = {"training": [SEED, "$setattr(torch.backends.cudnn, 'benchmark', True)", "$@train#trainer.run()"]}
METRICS = part("MetricsSaver", save_dir="@output_dir", metrics=["val_mean_dice"], summary_ops="*")


def evaluate_changes(
    path: str = "$@ckpt_dir + '/model.pt'", entry: str = "run", changes: Mapping[str, Any] | None = None
) -> Config:
    handlers = [restore(path), part("StatsHandler", iteration_log=False), METRICS]
    return {"validate#handlers": handlers, entry: ["$@validate#evaluator.run()"]} | dict(changes or {})


def infer_config(
    data: Any, definition: Any, *, load_path: str = "$@bundle_root + '/models/model.pt'", **changes: Any
) -> Config:
    """An inference.json as most of the zoo has it."""
    engine = evaluator("@dataloader", inferer="@inferer", postprocessing="@postprocessing", val_handlers="@handlers")
    config = (
        head()
        | network(definition)
        | {
            "preprocessing": compose(load("image")),
            "dataset": part("Dataset", data=data, transform="@preprocessing"),
            "dataloader": loader("@dataset"),
            "inferer": part("SlidingWindowInferer", roi_size=[8, 8, 8], sw_batch_size=2, overlap=0.5),
            "postprocessing": compose(
                [
                    part("Activationsd", keys="pred", softmax=True),
                    invert("pred"),
                    part("AsDiscreted", keys="pred", argmax=True),
                    part("SaveImaged", keys="pred", output_dir="@output_dir"),
                ]
            ),
            "handlers": [restore(load_path), part("StatsHandler", iteration_log=False)],
            "evaluator": engine,
            "run": ["$@evaluator.run()"],
        }
    )
    del config["ckpt_dir"]
    return config | changes


def invert(keys: Any, preprocessing: str = "@preprocessing", **arguments: Any) -> Config:
    return part(
        "Invertd", keys=keys, transform=preprocessing, orig_keys="image", **{"nearest_interp": False, **arguments}
    )


IMAGES: Config = {
    "images": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
    "labels": "$list(sorted(glob.glob(@dataset_dir + '/labelsTr/*.nii.gz')))",
}
ZIPPED = "$[{'image': i, 'label': l} for i, l in zip(@images[%s], @labels[%s])]"
TRAINING, VALIDATION = ZIPPED % (":-1", ":-1"), ZIPPED % ("-1:", "-1:")
TEST_IMAGES: Config = {"datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))"}
LISTED = "$[{'image': i} for i in @datalist]"
