"""Bundles in the forms of those of the model zoo with ids and folders of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bundle.shape_parts import (
    IMAGES,
    LISTED,
    SEED,
    TEST_IMAGES,
    TRAINING,
    VALIDATION,
    classify,
    compose,
    dice,
    evaluator,
    head,
    infer_config,
    load,
    loader,
    network,
    part,
    restore,
    saver,
    trainer,
    unet,
    write_config,
)

if TYPE_CHECKING:
    from pathlib import Path


def write_template(bundle: Path, _data: Path) -> None:
    """segmentation_template: ids for keys and engines of its own, a dated folder, threads, loaders that look."""
    ids = {
        "imports": ["$import os", "$import datetime", "$import torch", "$import glob"],
        "image": "$monai.utils.CommonKeys.IMAGE",
        "label": "$monai.utils.CommonKeys.LABEL",
        "pred": "$monai.utils.CommonKeys.PRED",
        "both_keys": ["@image", "@label"],
        "num_workers": 0,
        "device": "$torch.device('cpu')",
        "bundle_root": ".",
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "dataset_dir": "$@bundle_root + '/train_data'",
        **network(unet()),
    }
    base = [part("LoadImaged", keys="@both_keys", image_only=True), part("EnsureChannelFirstd", keys="@both_keys")]
    scale = part("ScaleIntensityd", keys="@image")
    post = [
        part("Activationsd", keys="@pred", softmax=True),
        part("AsDiscreted", keys=["@pred", "@label"], argmax=[True, False], to_onehot=2),
    ]
    pair = "$monai.handlers.from_engine([@pred, @label])"
    disabled = {"_disabled_": "$not os.path.exists(@ckpt_path)"}
    train = ids | {
        "results_dir": "$@bundle_root + '/results'",
        "output_dir": "$datetime.datetime.now().strftime(@results_dir + '/output_%y%m%d_%H%M%S')",
        "imgs": "$sorted(glob.glob(@dataset_dir+'/imagesTr/*.nii.gz'))",
        "lbls": "$[i.replace('images','labels') for i in @imgs]",
        "all_pairs": "$[{@image: i, @label: l} for i, l in zip(@imgs, @lbls)]",
        "partitions": "$[@all_pairs[:-1], @all_pairs[-1:]]",
        "train_sub": "$@partitions[0]",
        "val_sub": "$@partitions[1]",
        "base_transforms": base,
        "train_transforms": [part("RandFlipd", keys="@both_keys", prob=0.5, spatial_axis=0), scale],
        "val_transforms": [scale],
        "preprocessing": compose("$@base_transforms + @train_transforms"),
        "val_preprocessing": compose("$@base_transforms + @val_transforms"),
        "train_dataset": part("Dataset", data="@train_sub", transform="@preprocessing"),
        "val_dataset": part("Dataset", data="@val_sub", transform="@val_preprocessing"),
        "train_dataloader": part(
            "ThreadDataLoader", dataset="@train_dataset", batch_size=2, repeats=1, num_workers="@num_workers"
        ),
        "val_dataloader": loader("@val_dataset", num_workers="@num_workers"),
        "lossfn": part("DiceLoss", include_background=True, to_onehot_y=True, softmax=True),
        "optimizer": part("torch.optim.Adam", params="$@network.parameters()", lr=0.01),
        "inferer": part("SimpleInferer"),
        "postprocessing": compose(post),
        "val_handlers": [
            part("StatsHandler", name=None, output_transform="$lambda x: None"),
            part("LogfileHandler", output_dir="@output_dir"),
            saver(
                "@output_dir", save_interval=0, save_final=False, save_key_metric=True, key_metric_name="val_mean_dice"
            ),
        ],
        "evaluator": evaluator(
            "@val_dataloader",
            postprocessing="@postprocessing",
            key_val_metric=dice(pair=pair),
            additional_metrics={"val_mae": part("MeanAbsoluteError", output_transform=pair)},
            val_handlers="@val_handlers",
        ),
        "metriclogger": part("MetricLogger", evaluator="@evaluator"),
        "handlers": [
            "@metriclogger",
            restore("@ckpt_path", **disabled),
            part("ValidationHandler", validator="@evaluator", epoch_level=True, interval=1),
            part(
                "CheckpointSaver",
                save_dir="@output_dir",
                save_dict={"model": "@network", "logger": "@metriclogger"},
                save_interval=1,
                save_final=True,
                epoch_level=True,
            ),
            part("LogfileHandler", output_dir="@output_dir"),
        ],
        "trainer": trainer(
            "@train_dataloader",
            max_epochs=1,
            inferer="@inferer",
            loss_function="@lossfn",
            optimizer="@optimizer",
            key_train_metric=None,
            train_handlers="@handlers",
        ),
        "initialize": [SEED],
        "run": ["$@trainer.run()"],
    }
    write_config(bundle, "train.yaml", train)
    save = {"resample": False, "separate_folder": True, "data_root_dir": "@dataset_dir", "output_dir": "@output_dir"}
    shared = ids | {
        "output_dir": "./outputs",
        "preprocessing": compose("$@transforms"),
        "dataset": part("Dataset", data="@data_dicts", transform="@preprocessing"),
        "dataloader": part("ThreadDataLoader", dataset="@dataset", batch_size=1, num_workers="@num_workers"),
        "inferer": part("SimpleInferer"),
        "handlers": [
            restore("@ckpt_path", **disabled),
            part("StatsHandler", name=None, output_transform="$lambda x: None"),
        ],
        "evaluator": evaluator(
            "@dataloader",
            inferer="@inferer",
            postprocessing="@postprocessing",
            val_handlers="@handlers",
        ),
        "run": ["$@evaluator.run()"],
    }
    mask = part("SaveImaged", keys="@pred", output_dtype="$None", output_postfix="", **save)
    test = shared | {
        "save_pred": False,
        "imgs": "$sorted(glob.glob(@dataset_dir+'/imagesTr/c2.nii.gz'))",
        "data_dicts": "$[{@image: i, @label: i.replace('images','labels')} for i in @imgs]",
        "transforms": [*base, scale],
        "postprocessing": compose([*post, mask | {"_disabled_": "$not @save_pred"}]),
        "run": [*shared["run"], "$print('Per-image Dice:', @evaluator.state.metric_details['val_mean_dice'].numpy())"],
    }
    test["evaluator"] = shared["evaluator"] | {"key_val_metric": dice(pair=pair)}
    write_config(bundle, "test.yaml", test)
    infer = shared | {
        "data_list": "$list(sorted(glob.glob(os.path.join(@dataset_dir, 'imagesTs', '*.nii*'))))",
        "data_dicts": "$[{@image:i} for i in @data_list]",
        "transforms": [base[0] | {"keys": "@image"}, base[1] | {"keys": "@image"}, scale],
        "postprocessing": compose([post[0], part("AsDiscreted", keys="@pred", argmax=True), mask]),
    }
    write_config(bundle, "inference.yaml", infer)


def write_bare(bundle: Path, _data: Path) -> None:
    """ventricular_short_axis, mednist_gan: no ids for folders, checkpoints beside the bundle's own, a sampler."""
    train = (
        head(**IMAGES)
        | network(unet())
        | {
            "both_keys": ["image", "label"],
            "train_sub": TRAINING,
            "eval_sub": VALIDATION,
            "eval_transforms": compose(load("image", "label")),
            "train_dataset": part("CacheDataset", data="@train_sub", transform="@eval_transforms"),
            "eval_dataset": part("CacheDataset", data="@eval_sub", transform="@eval_transforms"),
            "sampler": part(
                "torch.utils.data.WeightedRandomSampler", weights="$torch.ones(len(@train_dataset))", num_samples=2
            ),
            "train_dataloader": part("ThreadDataLoader", dataset="@train_dataset", batch_size=1, sampler="@sampler"),
            "eval_dataloader": loader("@eval_dataset"),
            "lossfn": part("DiceLoss", include_background=False, to_onehot_y=True, softmax=True),
            "optimizer": part("torch.optim.Adam", params="$@network.parameters()", lr=0.01),
            "post_transform": compose(classify("pred", "label")),
            "evaluator": evaluator(
                "@eval_dataloader",
                postprocessing="@post_transform",
                key_val_metric=dice(),
                val_handlers="@val_handlers",
            ),
            "val_handlers": [part("StatsHandler", output_transform="$lambda x: None")],
            "handlers": [
                part("ValidationHandler", validator="@evaluator", epoch_level=True, interval=1),
                saver("$@bundle_root + '/models'", save_interval=1, save_final=True, epoch_level=True),
            ],
            "trainer": trainer(
                "@train_dataloader",
                max_epochs=1,
                loss_function="@lossfn",
                optimizer="@optimizer",
                postprocessing="@post_transform",
                key_train_metric=None,
                train_handlers="@handlers",
            ),
            "training": [SEED, "$@trainer.run()"],
        }
    )
    del train["ckpt_dir"], train["output_dir"]
    write_config(bundle, "train.json", train)
    evaluate = {"val_handlers": [restore("$@bundle_root + '/models/model.pt'")], "evaluating": ["$@evaluator.run()"]}
    write_config(bundle, "evaluate.json", evaluate)
    config = infer_config(
        LISTED, unet(), **TEST_IMAGES, load_path="@ckpt_path", ckpt_path="$@bundle_root + '/models/model.pt'"
    )
    config["output_dir"] = "./output"
    config["evaluating"] = config.pop("run")
    write_config(bundle, "inference.json", config)
