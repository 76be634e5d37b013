"""MMARs in the form of NVIDIA's published courses, written anew: configurations, commands and data of a few voxels.

Each family is a folder with ``commands/``, ``config/`` and the course's sample data, whose datalist lists one image
many times. Networks and volumes are tiny; keys, forms and flags are those of the published files.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.files import write_json, write_text
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SIDE, PATCH = 20, [16, 16, 16]
DATA = {"data_list_file_path": "{DATASET_JSON}", "data_file_base_dir": "{DATA_ROOT}"}
BOTH = ["image", "label"]


def step(name: str, /, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


def write_family(root: Path, configs: Mapping[str, Any], commands: Mapping[str, str], **environment: Any) -> Path:
    """Write an MMAR beside its sample data."""
    data = root.parent / "sampleData"
    if not data.is_dir():
        for n in range(3):
            label = np.zeros((SIDE,) * 3, np.uint8)
            label[2:11, 2 + n : 11, 3:12] = 1
            image = label * 150 - 50 + np.random.default_rng(n).normal(0, 8, label.shape)
            grid = Geometry.from_parts(label.shape, (1, 1, 1), (4, -3, 2 * n))
            write_volume(data / f"imagesTr/spleen_{n}.nii.gz", Volume(image.astype(np.float32), grid))
            write_volume(data / f"labelsTr/spleen_{n}.nii.gz", Volume(label, grid))
        items = [{"image": f"imagesTr/spleen_{n}.nii.gz", "label": f"labelsTr/spleen_{n}.nii.gz"} for n in range(3)]
        datalist = {"training": [items[0], items[0], items[1]], "validation": [items[0], items[2]]}
        write_json(data / "dataset.json", datalist | {"test": [{"image": items[2]["image"]}]})
    places = {"DATA_ROOT": str(data), "DATASET_JSON": str(data / "dataset.json"), "PROCESSING_TASK": "segmentation"}
    folders = {"MMAR_EVAL_OUTPUT_PATH": "eval", "MMAR_CKPT_DIR": "models"}
    write_json(root / "config/environment.json", places | folders | environment)
    for name, content in configs.items():
        write_json(root / "config" / name, content)
    for name, text in {"set_env.sh": SET_ENV, **commands}.items():
        write_text(root / "commands" / name, f"#!/usr/bin/env bash\n{text}")
    (root / "models").mkdir()
    return root


SET_ENV = """
export PYTHONPATH="$PYTHONPATH:/opt/nvidia"
DIR="$( cd "$( dirname "${BASH_SOURCE[0]}" )" >/dev/null 2>&1 && pwd )"
export MMAR_ROOT=${DIR}/..
"""
HEAD = """
my_dir="$(dirname "$0")"
. $my_dir/set_env.sh
echo "MMAR_ROOT set to $MMAR_ROOT"
additional_options="$*"
"""
# ------------------------------------------------------------------------------------------------------- Clara 3
TRAIN_W_CONFIG3 = """
CONFIG_FILE_NAME=$1
GPU2USE=$2
my_dir="$(dirname "$0")"
. $my_dir/set_env.sh
CONFIG_FILE=config/$CONFIG_FILE_NAME
MMAR_CKPT_DIR=models/${CONFIG_FILE_NAME::-5}
if [ -d "$MMAR_ROOT/$MMAR_CKPT_DIR" ]; then rm -r "$MMAR_ROOT/$MMAR_CKPT_DIR"; fi
mkdir "$MMAR_ROOT/$MMAR_CKPT_DIR"
cp ${MMAR_ROOT}/${CONFIG_FILE} ${MMAR_ROOT}/${MMAR_CKPT_DIR}/
python3 -u -m nvmidl.apps.train -m $MMAR_ROOT -c $CONFIG_FILE -e config/environment.json \\
    --set MMAR_CKPT_DIR=$MMAR_CKPT_DIR
"""
EXPORT3 = """
CKPT_DIR=$MMAR_ROOT/models/trn_base
python3 -u -m nvmidl.apps.export --model_file_format CKPT --model_file_path $CKPT_DIR --model_name model \\
    --input_node_names "NV_MODEL_INPUT" --output_node_names NV_MODEL_OUTPUT --trt_min_seg_size 50
"""
EVALUATE3 = """
python -u -m nvmidl.apps.evaluate -m $MMAR_ROOT -c config/config_validation_chpt.json -e config/environment.json \\
    --set output_infer_result=%s do_validation=%s MMAR_CKPT_DIR=$MMAR_ROOT/models/trn_base
"""
COMMANDS3 = {
    "train_W_Config.sh": TRAIN_W_CONFIG3,
    "train_finetune.sh": HEAD
    + """
python -u -m nvmidl.apps.train -m $MMAR_ROOT -c config/trn_base.json -e config/environment.json \\
    --set MMAR_CKPT_DIR=models/finetuned epochs=1 MMAR_CKPT=$MMAR_ROOT/models/trn_base/model.ckpt ${additional_options}
""",
    "train_2gpu.sh": HEAD
    + """
mpirun -np 2 -H localhost:2 -bind-to none -map-by slot -x NCCL_DEBUG=INFO -x PATH -mca pml ob1 --allow-run-as-root \\
    python -u -m nvmidl.apps.train -m $MMAR_ROOT -c config/trn_base.json -e config/environment.json \\
    --set multi_gpu=true learning_rate=0.0003 MMAR_CKPT_DIR=models/two
""",
    "export.sh": HEAD + EXPORT3,
    "export2Triton.sh": HEAD
    + 'TRTIS_INPUT_SHAPE="1 16 16 16"\n'
    + EXPORT3.rstrip()
    + " \\\n    --trtis_export --trtis_model_name trn_base --trtis_input_shape ${TRTIS_INPUT_SHAPE}\n",
    "validate.sh": HEAD + EVALUATE3 % ("false", "true"),
    "infer.sh": HEAD + EVALUATE3 % ("true", "false"),
    "automl.sh": HEAD
    + "python -u -m nvmidl.apps.automl.train -m $MMAR_ROOT --set run_id=a trainconf=trn_autoML.json workers=0:0\n",
    "start_client.sh": HEAD + "python3 -u -m nvmidl.apps.fed_learn.client.fed_local_train -m $MMAR_ROOT\n",
}


def train3(**top: Any) -> dict[str, Any]:
    """``trn_base.json``: aliases, references, and validation that names a crop as large as its windows."""
    load = [
        step("LoadNifti", fields=BOTH),
        step("ConvertToChannelsFirst", fields=BOTH),
        step("ScaleByResolution#ScaleImg", fields=["image"], target_resolution=[1.0, 1.0, 1.0]),
        step("ScaleByResolution#ScaleLb", fields=["label"], is_label=True, target_resolution=[1.0, 1.0, 1.0]),
        step("ScaleIntensityRange", fields="image", a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True),
    ]
    crop = {"image_field": "image", "label_field": "label", "size": PATCH, "pos": 1, "neg": 1, "fast_crop": True}
    spare = {"deform": False, "rotation": False, "rotation_degree": 20, "scale": False, "scale_factor": 0.1}
    batch = {"output_batch_size": 2, "batched_by_transforms": False, "num_workers": 1, "prefetch_size": 4}
    pipeline = step("SegmentationImagePipeline", **DATA, data_list_key="training", output_crop_size=PATCH, **batch)
    validation = {"data_list_key": "validation", "output_crop_size": PATCH, "output_batch_size": 1, "num_workers": 1}
    metric = {"name": "mean_dice", "is_key_metric": True, "field": "model", "label_field": "label"}
    refs = ["LoadNifti", "ConvertToChannelsFirst", "ScaleImg", "ScaleLb", "ScaleIntensityRange"]
    return {
        "epochs": 1,
        "num_training_epoch_per_valid": 1,
        "train_summary_recording_interval": 10,
        "learning_rate": 1e-3,
        "multi_gpu": False,
        "dynamic_input_shape": False,
        "use_amp": False,
        **top,
        "train": {
            "loss": {"name": "Dice"},
            "optimizer": {"name": "Adam"},
            "model": step("Unet", num_classes=2, nf_enc="4,8", nf_dec="8,4,4,4"),
            "pre_transforms": [*load, step("FastPosNegRatioCropROI", **crop, **spare)],
            "image_pipeline": pipeline,
        },
        "validate": {
            "metrics": [step("ComputeAverageDice", **metric)],
            "pre_transforms": [{"ref": name} for name in refs],
            "image_pipeline": step("SegmentationImagePipeline", **DATA, **validation, prefetch_size=1),
            "inferer": step("TFScanWindowInferer", roi_size=PATCH),
        },
    }


def validation3() -> dict[str, Any]:
    """``config_validation_chpt.json``, with the key that every published one begins with."""
    spacing = {"target_resolution": [1.0, 1.0, 1.0]}
    window = {"a_min": -57, "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True}
    classes = ["pred_class0", "pred_class1"]
    output = {"dtype": "uint8", "write_path": "{MMAR_EVAL_OUTPUT_PATH}"}
    judged = {"field": "pred_class1", "label_field": "label_class1", "report_path": "{MMAR_EVAL_OUTPUT_PATH}"}
    return {
        "use_scanning_window": True,
        "multi_gpu": False,
        "batch_size": 1,
        "DATA_LIST_KEY": "validation",
        "inferer": step("TFScanWindowInferer", roi_size=PATCH, batch_size=1),
        "model_loader": step("CheckpointLoader", checkpoint_dir="{MMAR_CKPT_DIR}"),
        "pre_transforms": [
            step("LoadNifti", fields=["image"]),
            step("ConvertToChannelsFirst", fields=["image"]),
            step("ScaleByResolution", fields=["image"], **spacing),
            step("ScaleIntensityRange", fields="image", **window),
        ],
        "post_transforms": [
            step("ArgmaxAcrossChannels", fields="model"),
            step("SplitBasedOnLabel", field="model", label_names=classes),
            step("CopyProperties", fields=[*classes, "model"], from_field="image", properties=["affine"]),
        ],
        "label_transforms": [
            step("LoadNifti", fields="label"),
            step("ConvertToChannelsFirst", fields=["label"]),
            step("ScaleByResolution", fields=["label"], is_label=True, **spacing),
            step("SplitBasedOnLabel", field="label", label_names=["label_class0", "label_class1"]),
        ],
        "val_metrics": [step("ComputeAverageDice", name="mean_dice_class1", **judged)],
        "writers": [step("WriteNifti", field="model", **output), step("WriteNifti", field="pred_class1", **output)],
    }


def getting_started3(root: Path) -> Path:
    configs = {"trn_base.json": train3(), "config_validation_chpt.json": validation3()}
    return write_family(root, configs, COMMANDS3)


def performance3(root: Path) -> Path:
    """The fast variants: NovoGrad, a cache by Keras, several batches from one crop, mixed precision."""
    config = train3(use_amp=True, multi_gpu=True)
    train, validate = config["train"], config["validate"]
    train["optimizer"] = {"name": "NovoGrad"}
    crop = {"fields": "image", "label_field": "label", "size": PATCH, "pos": 1, "neg": 1, "batch_size": 2}
    oscillation = step("ScaleIntensityOscillation", fields="image", magnitude=0.10)
    train["pre_transforms"][-1:] = [step("FastCropByPosNegRatio", **crop, batches_to_gen_at_once=4), oscillation]
    train["batch_transforms"] = [step("MergeBatchDims", fields=BOTH)]
    for section, count in ((train, 2), (validate, 1)):
        section["image_pipeline"]["name"] = "SegmentationKerasImagePipelineWithCache"
        cache = {"num_cache_objects": count, "replace_percent": 0, "multiprocessing": True}
        section["image_pipeline"]["args"] |= cache
    validate["metrics"][0]["args"]["report_path"] = "{MMAR_EVAL_OUTPUT_PATH}"
    return write_family(root, {"trn_base.json": config}, COMMANDS3)


def automl3(root: Path) -> Path:
    """A training whose components and values are searched for, and the file of the search itself."""
    config = train3(search=[{"domain": "lr", "args": ["learning_rate"], "type": "float", "targets": [1e-4, 1e-3]}])
    train, validate = config["train"], config["validate"]
    train["loss"] = step("Dice", squared_pred=True, is_onehot_targets=False, skip_background=True)
    train["aux_ops"] = [step("DiceMaskedOutput", skip_background=True, tags=["dice_tc"])]
    policy = {"type": "float", "args": ["poly_power"], "targets": [0.9, 0.99], "domain": "lr"}
    train["lr_policy"] = step("ReducePoly", poly_power=0.99) | {"search": [policy]}
    network = {"use_vae": False, "blocks_down": "1,1", "blocks_up": "1", "init_filters": 4, "dropout_prob": 0.2}
    groups = {"use_group_norm": True, "use_group_normG": 4, "reg_weight": 1e-5, "final_activation": "softmax"}
    train["model"] = step("SegResnet", num_classes=2, **network, **groups)
    noise = {"type": "float", "args": ["probability#myProb"], "targets": [0.0, 0.2], "domain": "transform"}
    oscillation = step("ScaleIntensityOscillation", fields="image", magnitude=0.10, probability=0.1)
    train["pre_transforms"][-1:] = [
        step("CropFixedSizeRandomCenter", size=PATCH, fields=BOTH),
        step("RandomSpatialFlip", fields=BOTH) | {"disabled": False},
        oscillation | {"search": [noise]},
        step("AddGaussianNoise", fields="image", probability=0.10) | {"apply": {"probability": "myProb"}},
    ]
    train["image_pipeline"]["args"] |= {"output_image_channels": 1, "output_label_channels": 1}
    validate["metrics"] = [
        {"name": "ComputeAverage", "is_key_metric": True, "args": {"name": "mean_dice_tc", "field": "dice_tc"}}
    ]
    validate["pre_transforms"].append({"ref": "CropFixedSizeRandomCenter"})
    validate["inferer"] = {"name": "TFSimpleInferer"}
    search = {
        "handlers": [step("MMARHandler", train_config_file="{trainconf}"), {"name": "StatsHandler"}],
        "executor": step("MMARExecutor", msg_destination="file"),
        "controller": step("ReinforcementController", max_rounds=8),
    }
    return write_family(root, {"trn_base.json": config, "config_automl.json": search}, COMMANDS3)


def federated3(root: Path) -> Path:
    server = {"servers": [{"name": "spleen_segmentation", "num_rounds": 2}], "aggregator": {"name": "ModelAggregator"}}
    configs = {"trn_base.json": train3(), "config_validation_chpt.json": validation3()}
    return write_family(root, configs | {"config_fed_server.json": server}, COMMANDS3)


def custom3(root: Path) -> Path:
    """BYOC: a loss and a network of one's own, as torch has them."""
    config = train3()
    config["train"]["loss"] = {"path": "myLoss.MyDiceLoss", "args": {"smooth": 1e-5}}
    config["train"]["model"] = {"path": "myNetworkArch.CustomNetwork", "args": {"num_classes": 2}}
    root = write_family(root, {"trn_base.json": config, "config_validation_chpt.json": validation3()}, COMMANDS3)
    write_text(root / "custom/myLoss.py", CUSTOM_LOSS)
    write_text(root / "custom/myNetworkArch.py", CUSTOM_NETWORK)
    return root


CUSTOM_LOSS = """
class MyDiceLoss:
    def __init__(self, smooth=1e-5):
        self.smooth = smooth

    def __call__(self, logits, label):
        chances = logits.softmax(1)[:, 1:]
        both = (chances * label).sum()
        return 1 - (2 * both + self.smooth) / (chances.sum() + label.sum() + self.smooth)
"""
CUSTOM_NETWORK = """
import torch


class CustomNetwork(torch.nn.Module):
    def __init__(self, num_classes=2, in_channels=1):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv3d(in_channels, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, num_classes, 1)
        )

    def forward(self, image):
        return self.layers(image)
"""
# ------------------------------------------------------------------------------------------------------- Clara 4
TRAIN_W_CONFIG4 = TRAIN_W_CONFIG3.replace("nvmidl", "medl").replace(
    "    --set", "    --write_train_stats --set print_conf=True"
)
LAUNCH = """
python -m torch.distributed.launch --nproc_per_node=2 --nnodes=1 --node_rank=0 \\
    --master_addr="localhost" --master_port=1234 \\
    -m """
TRAIN4 = (
    "medl.apps.train -m $MMAR_ROOT -c config/%s -e config/environment.json --write_train_stats --set print_conf=True "
)
EVALUATE4 = "medl.apps.evaluate -m $MMAR_ROOT -c config/%s -e config/environment.json --set print_conf=True "
MODEL4 = "MMAR_CKPT=models/config_train_Unet/model.pt MMAR_TORCHSCRIPT=models/config_train_Unet/model.ts "
CKPT = "dont_load_ts_model=True dont_load_ckpt_model=False"
COMMANDS4 = {
    "train_W_Config.sh": TRAIN_W_CONFIG4,
    "finetune.sh": HEAD
    + "python3 -u -m "
    + TRAIN4 % "config_finetune.json"
    + "epochs=1 use_gpu=True multi_gpu=False MMAR_CKPT_DIR=models/finetuned ${additional_options}\n",
    "train_multi_gpu.sh": HEAD
    + LAUNCH
    + TRAIN4 % "config_train_Unet.json"
    + "use_gpu=True multi_gpu=True MMAR_CKPT_DIR=models/two ${additional_options}\n",
    "export.sh": HEAD
    + """
python3 -u -m medl.apps.export -m $MMAR_ROOT -c config/config_train_Unet.json -e config/environment.json \\
    --model_path "${MMAR_ROOT}/models/config_train_Unet/model.pt" \\
    --output_path "${MMAR_ROOT}/models/config_train_Unet/model.ts" --input_shape "[1, 1, 16, 16, 16]" \\
    ${additional_options}
""",
    "validate.sh": HEAD
    + "python3 -u -m "
    + EVALUATE4 % "config_validation.json"
    + MODEL4
    + "use_gpu=True multi_gpu=False dont_load_ts_model=False dont_load_ckpt_model=True\n",
    "validate_ckpt.sh": HEAD + "python3 -u -m " + EVALUATE4 % "config_validation.json" + MODEL4 + CKPT + "\n",
    "validate_multi_gpu_ckpt.sh": HEAD
    + LAUNCH
    + EVALUATE4 % "config_validation.json"
    + MODEL4
    + f"multi_gpu=True {CKPT}\n",
    "infer.sh": HEAD
    + "python3 -u -m "
    + EVALUATE4 % "config_inference.json"
    + MODEL4
    + "use_gpu=True multi_gpu=False\n",
    "automl.sh": COMMANDS3["automl.sh"].replace("nvmidl", "medl"),
    "train.sh": HEAD + "python3 -u -m " + TRAIN4 % "config_train.json" + "${additional_options}\n",
}
UNET = {"dimensions": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2], "norm": "batch"}
WINDOW = {"a_min": -57, "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True}
PAIR = "lambda x: (x['pred'], x['label'])"


def load4(keys: list[str]) -> list[dict[str, Any]]:
    modes = ["bilinear", "nearest"][: len(keys)]
    return [
        step("LoadImaged", keys=keys),
        step("EnsureChannelFirstd", keys=keys),
        step("Spacingd", keys=keys, pixdim=[1.0, 1.0, 1.0], mode=modes),
        step("ScaleIntensityRanged", keys="image", **WINDOW),
        step("CropForegroundd", keys=keys, source_key="image"),
    ]


def dataset4(name: str, key: str, **args: Any) -> dict[str, Any]:
    return {"name": name, **DATA, "data_list_key": key, **({"args": args} if args else {})}


def train4(*, loads: bool = False, **top: Any) -> dict[str, Any]:
    """``config_train_Unet.json`` in the form of 4.0: lists of metrics, no references, a loader that can be disabled."""
    sampled = {"label_key": "label", "spatial_size": PATCH, "pos": 1, "neg": 1, "num_samples": 2}
    post = [
        step("Activationsd", keys="pred", softmax=True),
        step("AsDiscreted", keys=["pred", "label"], argmax=[True, False], to_onehot=True, n_classes=2),
    ]
    cache = {"cache_num": 4, "cache_rate": 1.0, "num_workers": 1}
    loader = step("CheckpointLoader", load_path="{MMAR_CKPT}", load_dict=["model"])
    saver = step("CheckpointSaver", save_dir="{MMAR_CKPT_DIR}", save_dict=["model"], save_key_metric=True)
    stats = step("StatsHandler", tag_name="train_loss", output_transform="lambda x: x['loss']")
    accuracy = step("Accuracy", output_transform=PAIR)
    dice = step("MeanDice", include_background=False, output_transform=PAIR)
    names = ["LoadImaged", "Spacingd", "EnsureChannelFirstd", "ScaleIntensityRanged", "CropForegroundd", "ToTensord"]
    window = {"roi_size": [20, 20, 20], "sw_batch_size": 4, "overlap": 0.5}
    return {
        "epochs": 1,
        "use_gpu": True,
        "multi_gpu": False,
        "amp": True,
        "num_interval_per_valid": 1,
        "learning_rate": 2e-3,
        "tf32": False,
        "cudnn_benchmark": False,
        "determinism": {"random_seed": 0},
        "dont_load_ckpt_model": not loads,
        **top,
        "train": {
            "loss": step("DiceLoss", to_onehot_y=True, softmax=True),
            "optimizer": step("Adam", lr="{learning_rate}"),
            "lr_scheduler": step("StepLR", step_size=5000, gamma=0.1),
            "model": step("UNet", **UNET),
            "pre_transforms": [
                *load4(BOTH),
                step("RandCropByPosNegLabeld", keys=BOTH, **sampled, image_key="image", image_threshold=0),
                step("RandShiftIntensityd", keys="image", offsets=0.1, prob=0.5),
                step("ToTensord", keys=BOTH),
            ],
            "dataset": dataset4("CacheDataset", "training", **cache),
            "dataloader": step("DataLoader", batch_size=1, shuffle=True, num_workers=1),
            "inferer": {"name": "SimpleInferer"},
            "handlers": [
                loader | {"disabled": "{dont_load_ckpt_model}"},
                step("LrScheduleHandler", print_lr=True),
                step("ValidationHandler", interval="{num_interval_per_valid}", epoch_level=True),
                saver | {"rank": 0},
                stats | {"rank": 0},
            ],
            "post_transforms": post,
            "metrics": [accuracy | {"log_label": "train_acc", "is_key_metric": True}],
            "trainer": step("SupervisedTrainer", max_epochs="{epochs}"),
        },
        "validate": {
            "pre_transforms": [{"ref": name} for name in names],
            "dataset": dataset4("CacheDataset", "validation", **cache),
            "dataloader": step("DataLoader", batch_size=1, shuffle=False, num_workers=1),
            "inferer": step("SlidingWindowInferer", **window),
            "handlers": [step("StatsHandler", output_transform="lambda x: None"), saver],
            "post_transforms": [{"ref": "Activationsd"}, {"ref": "AsDiscreted"}],
            "metrics": [
                accuracy | {"log_label": "val_acc"},
                dice | {"log_label": "val_mean_dice", "is_key_metric": True},
            ],
            "evaluator": {"name": "SupervisedEvaluator"},
        },
    }


def evaluation4(keys: list[str], key: str) -> dict[str, Any]:
    """``config_validation.json``, or ``config_inference.json`` where only images are loaded."""
    with_label = "label" in keys
    pair = {"keys": ["pred", "label"], "argmax": [True, False]} if with_label else {"keys": "pred", "argmax": True}
    meta = "lambda x: x['image_meta_dict']"
    output = {"batch_transform": meta, "output_transform": "lambda x: x['pred']"}
    loader = step("CheckpointLoader", load_path="{MMAR_CKPT}", load_dict=["model"])
    handlers = [
        loader | {"disabled": "{dont_load_ckpt_model}"},
        step("StatsHandler", output_transform="lambda x: None") | {"rank": 0},
        step("SegmentationSaver", output_dir="{MMAR_EVAL_OUTPUT_PATH}", **output),
    ]
    dice = step("MeanDice", include_background=False, output_transform=PAIR)
    metrics: dict[str, Any] = {}
    if with_label:
        details = {"metrics": ["val_mean_dice", "val_acc"], "metric_details": ["val_mean_dice"], "summary_ops": "*"}
        folder = {"save_dir": "{MMAR_EVAL_OUTPUT_PATH}", "batch_transform": meta, "save_rank": 0}
        handlers.append(step("MetricsSaver", **folder, **details))
        accuracy = step("Accuracy", output_transform=PAIR) | {"log_label": "val_acc"}
        metrics = {"metrics": [dice | {"log_label": "val_mean_dice", "is_key_metric": True}, accuracy]}
    return {
        "CLARA_TRAIN_VERSION": "4.0.0",
        "use_gpu": True,
        "multi_gpu": False,
        "amp": True,
        "dont_load_ts_model": False,
        "dont_load_ckpt_model": True,
        "model": [
            {"ts_path": "{MMAR_TORCHSCRIPT}", "disabled": "{dont_load_ts_model}"},
            step("UNet", **UNET) | {"disabled": "{dont_load_ckpt_model}"},
        ],
        "pre_transforms": [*load4(keys), step("ToTensord", keys=keys)],
        "dataset": dataset4("Dataset", key),
        "dataloader": step("DataLoader", batch_size=1, shuffle=False, num_workers=1),
        "inferer": step("SlidingWindowInferer", roi_size=[20, 20, 20], sw_batch_size=4, overlap=0.5),
        "handlers": handlers,
        "post_transforms": [
            step("Activationsd", keys="pred", softmax=True),
            step("AsDiscreted", **pair, to_onehot=True, n_classes=2),
        ],
        **metrics,
        "evaluator": {"name": "SupervisedEvaluator"},
    }


def getting_started4(root: Path) -> Path:
    finetune = train4(loads=True)
    # 4.0's own loaders, and a switch that stands among the arguments.
    for transform in finetune["train"]["pre_transforms"]:
        names = {"LoadImaged": "LoadNiftid", "EnsureChannelFirstd": "AddChanneld"}
        transform["name"] = names.get(transform["name"], transform["name"])
    finetune["validate"]["pre_transforms"] = copy.deepcopy(finetune["train"]["pre_transforms"][:5])
    configs = {
        "config_train_Unet.json": train4(),
        "config_finetune.json": finetune,
        "config_validation.json": evaluation4(BOTH, "validation"),
        "config_inference.json": evaluation4(["image"], "test"),
        "config_aiaa.json": {"version": 1, "type": "segmentation", "labels": ["spleen"], "inference": {}},
    }
    return write_family(root, configs, COMMANDS4, MMAR_CKPT="models/config_train_Unet/model.pt")


def pathology4(root: Path) -> Path:
    config = train4()
    config["train"]["model"] = {"path": "models.TorchModelFullyConv", "args": {"n_classes": 1, "pretrained": True}}
    for name in ("train", "validate"):
        config[name]["dataset"] = {"path": "datasets.PatchWSIDataset", **DATA, "data_list_key": name}
    return write_family(root, {"config_train.json": config}, COMMANDS4)


def deepgrow4(root: Path) -> Path:
    config = train4()
    for name in ("train", "validate"):
        config[name]["iteration"] = {"path": "deepgrow.interaction.Interaction", "args": {"max_interactions": 15}}
    return write_family(root, {"config_train.json": config}, COMMANDS4)


def federated4(root: Path) -> Path:
    client = {"format_version": 1, "servers": [{"name": "spleen"}], "client": {}, "client_trainer": {"args": {}}}
    return write_family(root, {"config_train_Unet.json": train4(), "config_fed_client.json": client}, COMMANDS4)
