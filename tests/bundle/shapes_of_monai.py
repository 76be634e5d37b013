"""Bundles in the forms of those of the model zoo that are made of MONAI's own parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tests.bundle.shape_parts import (
    DECATHLON,
    IMAGES,
    LISTED,
    METRICS,
    OLD_RUNS,
    PAIR,
    RUNS,
    SEED,
    TEST_IMAGES,
    TRAINING,
    VALIDATION,
    Config,
    classify,
    compose,
    dice,
    evaluate_changes,
    head,
    infer_config,
    invert,
    learn,
    load,
    loader,
    network,
    part,
    restore,
    saver,
    train_part,
    unet,
    validate_part,
    write_config,
)

if TYPE_CHECKING:
    from pathlib import Path


def write_globbed(bundle: Path, _data: Path) -> None:
    """spleen_ct_segmentation, swin_unetr: files by glob, cached, evaluate with Invertd, a disabled SaveImaged."""
    cached = part("CacheDataset", data=TRAINING, transform="@train#preprocessing", cache_rate=1.0, num_workers=2)
    train = head(**IMAGES) | network(unet()) | learn() | RUNS
    write_config(
        bundle, "train.json", train | {"train": train_part(None, dataset=cached), "validate": validate_part(VALIDATION)}
    )
    post = [
        part("Activationsd", keys="pred", softmax=True),
        invert(["pred", "label"], "@validate#preprocessing", nearest_interp=[False, True]),
        classify("pred", "label")[1],
        part("SaveImaged", _disabled_=True, keys="pred", output_dir="@output_dir", resample=False),
    ]
    write_config(bundle, "evaluate.json", evaluate_changes(changes={"validate#postprocessing": compose(post)}))
    write_config(bundle, "inference.json", infer_config(LISTED, unet(), **TEST_IMAGES))


def write_listed(bundle: Path, _data: Path) -> None:
    """brats_mri_segmentation: a Decathlon list behind ids, two channels, masks in evaluate, training and evaluating."""
    lists = {
        "data_list_file_path": "$@bundle_root + '/configs/datalist.json'",
        "train_datalist": DECATHLON.format("training"),
        "val_datalist": DECATHLON.format("validation"),
        "val_interval": "$len(@val_datalist)",
    }
    train = head(**lists) | network(unet(2, 1)) | learn() | OLD_RUNS
    train["loss"] = part("DiceLoss", sigmoid=True, squared_pred=True)
    train["lr_scheduler"] = part("torch.optim.lr_scheduler.CosineAnnealingLR", optimizer="@optimizer", T_max=1)
    sigmoid = [part("Activationsd", keys="pred", sigmoid=True), part("AsDiscreted", keys="pred", threshold=0.5)]
    pair = "$monai.handlers.from_engine(['pred', 'label'])"
    metric = {"val_mean_dice": part("MeanDice", include_background=True, output_transform=pair)}
    train["train"] = train_part("@train_datalist", postprocessing=compose(sigmoid))
    train["train"]["handlers"].append(part("LrScheduleHandler", lr_scheduler="@lr_scheduler", print_lr=True))
    train["train"]["handlers"][0]["interval"] = "@val_interval"
    train["validate"] = validate_part("@val_datalist", postprocessing=compose(sigmoid), key_metric=metric)
    write_config(bundle, "train.json", train)
    post = [
        sigmoid[0],
        invert("pred", "@validate#preprocessing"),
        sigmoid[1],
        part("CopyItemsd", keys="pred", names="pred_combined", times=1),
        part("Lambdad", keys="pred_combined", func="$lambda x: torch.where(x > 0, 4, 0)"),
        part("SaveImaged", keys="pred_combined", output_dir="@output_dir", output_postfix="seg", output_dtype="uint8"),
    ]
    changes = {"validate#postprocessing": compose(post)}
    write_config(bundle, "evaluate.json", evaluate_changes(entry="evaluating", changes=changes))
    listed = {"data_list_file_path": lists["data_list_file_path"], "test_datalist": DECATHLON.format("testing")}
    mask = [
        *sigmoid,
        part("SaveImaged", keys="pred", output_dir="@output_dir", output_postfix="seg", output_dtype="uint8"),
    ]
    config = infer_config("@test_datalist", unet(2, 1), **listed, postprocessing=compose(mask))
    config["evaluating"] = config.pop("run")
    write_config(bundle, "inference.json", config)


def write_displayed(bundle: Path, _data: Path) -> None:
    """wholeBody_ct_segmentation: the checkpoint's name is computed, its loader is called in initialize, output ids."""
    train = head(**IMAGES) | network(unet()) | learn() | RUNS
    write_config(bundle, "train.json", train | {"train": train_part(TRAINING), "validate": validate_part(VALIDATION)})
    write_config(bundle, "evaluate.json", evaluate_changes())
    ids: Config = {
        "displayable_configs": {"highres": True, "sw_overlap": 0.25},
        "image_key": "image",
        "output_ext": ".nii.gz",
        "output_dtype": "$numpy.float32",
        "output_postfix": "trans",
        "separate_folder": False,
        "modelname": "$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
        "checkpointloader": restore("$@bundle_root + '/models/' + @modelname"),
        "initialize": ["$setattr(torch.backends.cudnn, 'benchmark', True)", "$@checkpointloader(@evaluator)"],
        "handlers": [part("StatsHandler", iteration_log=False)],
    }
    config = infer_config(LISTED, unet(), **TEST_IMAGES, **ids)
    config["imports"] = ["$import glob", "$import numpy", "$import os", "$import torch"]
    config["preprocessing"] = compose(load("@image_key"))
    config["inferer"]["overlap"] = "@displayable_configs#sw_overlap"
    names = ("output_ext", "output_dtype", "output_postfix", "separate_folder")
    save = part("SaveImaged", keys="pred", output_dir="@output_dir", **{name: f"@{name}" for name in names})
    config["postprocessing"]["transforms"] = [
        *classify("pred")[:1],
        part("AsDiscreted", keys="pred", argmax=True),
        save,
    ]
    write_config(bundle, "inference.json", config)


def write_searched(bundle: Path, _data: Path) -> None:
    """pancreas_ct_dints_segmentation: YAML, and a searched architecture in a second file of torch."""
    (bundle / "models").mkdir(parents=True)
    torch.save({"channels": torch.tensor([4, 8])}, bundle / "models/search_code_18590.pt")
    arch = {
        "arch_ckpt_path": "$@bundle_root + '/models/search_code_18590.pt'",
        "arch_ckpt": "$torch.load(@arch_ckpt_path, map_location=torch.device('cpu'), weights_only=True)",
        "data_list_file_path": "$@bundle_root + '/configs/datalist.json'",
        "image_key": "image",
        "label_key": "label",
    }
    lists = {"train_datalist": DECATHLON.format("training"), "val_datalist": DECATHLON.format("validation")}
    definition = unet() | {"channels": "$@arch_ckpt['channels'].tolist()"}
    train = head(**arch, **lists) | network(definition) | learn() | OLD_RUNS
    transforms = load("@image_key", "@label_key")
    transforms[3]["keys"] = "@image_key"
    cached = part("CacheDataset", data="@train_datalist", transform="@train#preprocessing", cache_rate=0.5)
    train["train"] = train_part(None, dataset=cached, deterministic_transforms=transforms)
    train["validate"] = validate_part("@val_datalist")
    write_config(bundle, "train.yaml", train)
    write_config(bundle, "evaluate.yaml", evaluate_changes(entry="evaluating"))
    config = infer_config("@datalist", definition, **arch, datalist=DECATHLON.format("testing"))
    config["evaluating"] = config.pop("run")
    write_config(bundle, "inference.yaml", config)


def write_persistent(bundle: Path, _data: Path) -> None:
    """prostate_mri_anatomy, pediatric_abdominal: a table, caches in the bundle, a checkpoint of another name."""
    table = {
        "images": "$[@dataset_dir + '/' + name for name in pd.read_csv(@dataset_dir + '/train.csv').image]",
        "labels": "$[@dataset_dir + '/' + name for name in pd.read_csv(@dataset_dir + '/train.csv').label]",
    }
    train = head(**table) | network(unet()) | learn() | OLD_RUNS
    train["imports"] = ["$import pandas as pd", "$import os", "$import ignite", "$import torch"]
    cache = {"cache_dir": "$@bundle_root + '/cache'"}
    train["train"] = train_part(
        None, dataset=part("PersistentDataset", data=TRAINING, transform="@train#preprocessing", **cache)
    )
    handlers = [
        part("StatsHandler", iteration_log=False),
        saver("@ckpt_dir", save_key_metric=True, key_metric_filename="model_latest.pt"),
    ]
    train["validate"] = validate_part(
        None,
        dataset=part("PersistentDataset", data=VALIDATION, transform="@validate#preprocessing", **cache),
        handlers=handlers,
        dataloader=loader("@validate#dataset", num_workers=1),
    )
    write_config(bundle, "train.json", train)
    write_config(bundle, "evaluate.json", evaluate_changes("$@ckpt_dir + '/model_latest.pt'", entry="evaluating"))
    config = infer_config(LISTED, unet(), **TEST_IMAGES)
    device = part("torch.device", type="cpu")
    config["handlers"][0] = restore("$@bundle_root + '/models/model_latest.pt'", map_location=device)
    config["postprocessing"]["transforms"].insert(3, part("FillHolesd", keys="pred", applied_labels=[1]))
    config["initialize"] = ["$setattr(torch.backends.cudnn, 'benchmark', True)"]
    write_config(bundle, "inference.json", config)


def write_endoscopic(bundle: Path, _data: Path) -> None:
    """endoscopic_tool_segmentation: colour images of two axes, PNG masks, the trainer's metric, a scheduler."""
    files = {
        "images": "$list(sorted(glob.glob(os.path.join(@dataset_dir, 'train', '*[0-9].png'))))",
        "labels": "$[x.replace('.png', '_seg.png') for x in @images]",
        "val_images": "$list(sorted(glob.glob(os.path.join(@dataset_dir, 'val', '*[0-9].png'))))",
        "val_labels": "$[x.replace('.png', '_seg.png') for x in @val_images]",
    }
    transforms = [
        part("LoadImaged", keys=["image", "label"]),
        part("EnsureChannelFirstd", keys="image", channel_dim=-1),
        part("EnsureChannelFirstd", keys="label", channel_dim="no_channel"),
        part("Resized", keys=["image", "label"], spatial_size=[8, 8], mode=["bilinear", "nearest"]),
        part("ScaleIntensityd", keys=["image", "label"]),
    ]
    post = compose([part("AsDiscreted", keys=["pred", "label"], argmax=[True, False], to_onehot=[2, 2])])
    flips = [part("RandFlipd", keys=["image", "label"], prob=0.5, spatial_axis=0)]
    train = head(**files) | network(unet(3, 2, 2)) | learn() | RUNS
    train["train"] = train_part(
        "$[{'image': i, 'label': l} for i, l in zip(@images, @labels)]",
        deterministic_transforms=transforms,
        random_transforms=flips,
        postprocessing=post,
        dataloader=loader("@train#dataset", batch_size=2, shuffle=True),
    )
    iou = {"val_iou": part("MeanIoUHandler", include_background=False, output_transform=PAIR)}
    train["validate"] = validate_part(
        "$[{'image': i, 'label': l} for i, l in zip(@val_images, @val_labels)]",
        inferer=part("SimpleInferer"),
        key_metric=iou,
    )
    train["validate"]["evaluator"]["additional_metrics"] = dice()
    write_config(bundle, "train.json", train)
    write_config(bundle, "evaluate.json", evaluate_changes())
    images = {"datalist": "$list(sorted(glob.glob(os.path.join(@dataset_dir, 'test', '*[0-9].png'))))"}
    config = infer_config(LISTED, unet(3, 2, 2), **images, inferer=part("SimpleInferer"), initialize=[SEED])
    one = [transforms[0] | {"keys": "image"}, transforms[1], transforms[3] | {"keys": ["image"], "mode": ["bilinear"]}]
    config["preprocessing"] = compose([*one, part("ScaleIntensityd", keys=["image"])])
    save = part(
        "SaveImaged", keys="pred", output_dir="@output_dir", output_ext=".png", scale=255, squeeze_end_dims=True
    )
    discrete = part("AsDiscreted", keys=["pred"], argmax=True, to_onehot=2)
    config["postprocessing"] = compose(
        [invert("pred"), discrete, part("Lambdad", keys=["pred"], func="$lambda x: x[1:]"), save]
    )
    config["handlers"][0]["map_location"] = "@device"
    write_config(bundle, "inference.json", config)


def write_classifier(bundle: Path, data: Path) -> None:
    """endoscopic_inbody_classification: lists in open files, classes, ClassificationSaver, finalize."""
    (bundle / "label").mkdir(parents=True)
    for name in ("train", "val", "test"):
        (bundle / f"label/{name}_samples.json").write_bytes((data / f"{name}_samples.json").read_bytes())
    files = {
        "train_json": "$@bundle_root+'/label/train_samples.json'",
        "val_json": "$@bundle_root+'/label/val_samples.json'",
        "train_fp": "$open(@train_json,'r', encoding='utf8')",
        "train_dict": "$json.load(@train_fp)",
        "val_fp": "$open(@val_json,'r', encoding='utf8')",
        "val_dict": "$json.load(@val_fp)",
    }
    definition = part(
        "DenseNet", spatial_dims=2, in_channels=3, out_channels=2, init_features=4, growth_rate=2, block_config=[1, 1]
    )
    transforms = [
        part("LoadImaged", keys="image"),
        part("ToTensord", keys="label"),
        part("EnsureChannelFirstd", keys="image", channel_dim=-1),
        part("CastToTyped", keys="image", dtype="$torch.float32"),
        part("NormalizeIntensityd", keys="image", nonzero=True, channel_wise=True),
        part("EnsureTyped", keys="image"),
    ]
    post = compose([part("AsDiscreted", keys=["pred", "label"], argmax=[True, False], to_onehot=[2, 2])])
    train = (
        head(**files) | network(definition) | learn() | RUNS | {"finalize": ["$@train_fp.close()", "$@val_fp.close()"]}
    )
    train["imports"] = ["$import torch", "$import json", "$import ignite", "$import os"]
    train["loss"] = part("torch.nn.CrossEntropyLoss", reduction="sum")
    train["train"] = train_part(
        "@train_dict",
        deterministic_transforms=transforms,
        random_transforms=[part("RandFlipd", keys="image", prob=0.5, spatial_axis=0)],
        postprocessing=post,
        dataloader=loader("@train#dataset", batch_size=2, shuffle=True),
    )
    accuracy = {"val_accu": part("ignite.metrics.Accuracy", output_transform=PAIR)}
    train["validate"] = validate_part("@val_dict", inferer=part("SimpleInferer"), key_metric=accuracy)
    write_config(bundle, "train.json", train)
    metrics = METRICS | {"metrics": ["val_accu"], "metric_details": ["val_accu"]}
    handlers = [restore("$@ckpt_dir + '/model.pt'"), metrics]
    write_config(bundle, "evaluate.json", evaluate_changes(changes={"validate#handlers": handlers}))
    test = {
        "test_json": "$@bundle_root+'/label/test_samples.json'",
        "test_fp": "$open(@test_json,'r', encoding='utf8')",
    }
    config = infer_config(
        "@test_dict", definition, **test, test_dict="$json.load(@test_fp)", inferer=part("SimpleInferer")
    )
    config["imports"] = train["imports"]
    config["preprocessing"] = compose([transform for transform in transforms if transform["keys"] == "image"])
    config["postprocessing"] = compose([part("Activationsd", keys="pred", sigmoid=True)])
    classes = part(
        "ClassificationSaver",
        output_dir="@output_dir",
        batch_transform="$lambda batch: batch[0]['image'].meta",
        output_transform="$monai.handlers.from_engine(['pred'])",
    )
    config["handlers"].append(classes)
    config["finalize"] = ["$@test_fp.close()"]
    write_config(bundle, "inference.json", config)
