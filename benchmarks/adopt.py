"""Compare an nnU-Net model through nnU-Net's own predictor and, adopted, through Voxflow: from a CT file to its mask.

Both sides are whole processes that start from files. nnU-Net predicts as ``nnUNetv2_predict`` does by default:
half-overlapping windows, mirrored along every axis, workers of its own for reading and writing. Voxflow runs the
adopted model exported to OpenVINO (on a GPU the model file itself) and mirrors as well. With several cases, the time of
one more case of a queue is what it takes longer than a single case, by the number of the others.

python -m benchmarks.adopt --image CT.nii.gz --nnunet PYTHON [--model FOLDER] [--cases 4] [--rounds 3] [--device cuda]

PYTHON has nnunetv2. Without FOLDER, a result folder of nnU-Net, a network of nnU-Net's usual form with random weights
is taken; ``--patch`` and ``--features`` make it smaller. Its masks say nothing, its time and memory do. A small window
of few features is a case where torch on a processor is slow, so that such a run shows that the program works, no more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

# nnU-Net's python runs this file, too: whatever is Voxflow's is imported where it is used.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Run

SIDES = ("nnunet", "voxflow")
SPACING = [1.5, 1.5, 1.5]
PATCH, FEATURES = [64, 128, 128], [32, 64, 128, 256, 320]
CONTRAST = 8.0  # of the random weights' answers, so that classes are told apart


def describe_model(patch: list[int], features: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A plans.json and a dataset.json of a CT, as nnU-Net 2.4 and later write them."""
    stages = len(features)
    resampling = {"order_z": 0, "force_separate_z": None}
    function = "resample_data_or_seg_to_shape"
    properties = {"mean": 60.0, "std": 200.0, "percentile_00_5": -400.0, "percentile_99_5": 500.0}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "spacing": SPACING,
        "median_image_size_in_voxels": patch,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_probabilities": function,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": features,
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [2] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    plans = {
        "dataset_name": "Dataset001_Adopted",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": properties},
        "configurations": {"3d_fullres": configuration},
    }
    labels = {"background": 0, "liver": 1, "tumour": 2}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    return plans, dataset


def write_random_model(folder: Path) -> None:
    """Write the checkpoint of a result folder whose JSON files are there: random weights, by nnU-Net's own classes."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans, dataset = (json.loads((folder / name).read_text()) for name in ("plans.json", "dataset.json"))
    manager = PlansManager(plans).get_configuration("3d_fullres")
    torch.manual_seed(0)
    network = get_network_from_plans(
        manager.network_arch_class_name,
        manager.network_arch_init_kwargs,
        manager.network_arch_init_kwargs_req_import,
        1,
        len(dataset["labels"]),
        allow_init=True,
        deep_supervision=False,
    )
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "seg_layers" in name:
                value.mul_(CONTRAST if name.endswith("weight") else 0)
    content = {
        "network_weights": network.state_dict(),
        "init_args": {"configuration": "3d_fullres", "fold": 0},
        "trainer_name": "nnUNetTrainer",
        "current_epoch": 0,
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    (folder / "fold_0").mkdir()
    torch.save(content, folder / "fold_0/checkpoint_final.pth")


def predict_by_nnunet(folder: Path, images: Path, out: Path, device: str) -> None:
    """Segment a folder as ``nnUNetv2_predict`` does by default."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), None)
    predictor.predict_from_files(str(images), str(out))


def name_command(work: Path, side: str, arguments: argparse.Namespace, images: Path) -> list[str]:
    """The command that is one of the sides."""
    if side == "voxflow":
        model = work / ("exported/model.xml" if arguments.device == "cpu" else "model.pt")
        return [sys.executable, "-m", "voxflow.cli.main", "infer", str(model), "--images", str(images),
                "--out", str(work / side)]  # fmt: skip
    flags = ["--side", side, "--model", str(arguments.model), "--folder", str(work), "--device", arguments.device]
    return [str(arguments.nnunet), str(Path(__file__)), *flags, "--image", str(images)]


def run_sides(work: Path, arguments: argparse.Namespace, images: Path) -> dict[str, list[Run]]:
    """Run both sides on a folder of cases, in turn, as processes of their own."""
    from benchmarks.measure import measure

    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    for _ in range(arguments.rounds):
        for side in SIDES:
            shutil.rmtree(work / side, ignore_errors=True)
            runs[side].append(measure(name_command(work, side, arguments, images)))
    return runs


def copy_cases(image: Path, folder: Path, count: int) -> Path:
    """Give one image several names, one a case, as nnU-Net has them."""
    folder.mkdir()
    for number in range(count):
        (folder / f"case{number}_0000.nii.gz").symlink_to(image.resolve())
    return folder


def compare_masks(work: Path, sides: Sequence[str]) -> float:
    """Share of voxels in which the two masks of the first case agree."""
    import numpy as np

    from voxflow.volumes import read_volume

    first, second = (read_volume(sorted((work / side).rglob("case0*.nii.gz"))[0]).array for side in sides)
    return float(np.mean(first == second))


def compare(work: Path, arguments: argparse.Namespace) -> None:
    """Run both sides on one case and on a queue, and print figures and ratios."""
    from benchmarks.measure import name_device
    from voxflow.adopt import read_nnunet, write_adopted
    from voxflow.export import ExportOptions, export_model

    print(f"device {name_device(arguments.device)}")
    write_adopted(read_nnunet(arguments.model), work / "model.pt")
    if arguments.device == "cpu":
        (work / "exported").mkdir()
        # The agreement that is printed tells what a precision costs: nothing is withheld here.
        options = ExportOptions(engines=("openvino",), openvino_precision=arguments.precision, reduced_min_dice=0)
        export_model(work / "model.pt", work / "exported", options, [], on_noise=True).require_published()
    compare_sides(work, arguments, SIDES, lambda images: run_sides(work, arguments, images))


def compare_sides(
    work: Path, arguments: argparse.Namespace, sides: Sequence[str], run: Callable[[Path], dict[str, list[Run]]]
) -> None:
    """Run both sides on one case and on a queue, and print figures, the share of equal voxels, and ratios.

    Args:
        work: where the sides write their masks, each into a folder of its name.
        arguments: of the command line: image, and number of cases in the queue.
        sides: the original's name, and Voxflow's.
        run: runs both on a folder of cases.
    """
    from benchmarks.measure import figures, ratio

    first, second = sides
    single = run(copy_cases(arguments.image, work / "one", 1))
    print(f"figure agreement {compare_masks(work, sides):.6f} share")
    for side in sides:
        figures(side, single[side])
    print(f"ratio whole_process {ratio(single[first], single[second], 'wall'):.2f}")
    print(f"ratio memory {ratio(single[first], single[second], 'memory'):.2f}")
    if arguments.cases == 1:
        return
    queue = run(copy_cases(arguments.image, work / "many", arguments.cases))
    seconds = {}
    for side in sides:
        figures(f"queue_{side}", queue[side])
        # The least of several runs: what else the machine did only adds to it.
        longer = min(run.wall for run in queue[side]) - min(run.wall for run in single[side])
        seconds[side] = longer / (arguments.cases - 1)
        print(f"figure one_more_{side} {seconds[side]:.3f} s")
    print(f"ratio one_more {seconds[first] / max(seconds[second], 1e-3):.2f}")
    print(f"ratio queue_memory {ratio(queue[first], queue[second], 'memory'):.2f}")


def main() -> None:
    """Prepare and compare, or be nnU-Net's side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True, help="a CT volume, .nii.gz")
    parser.add_argument("--nnunet", type=Path, help="the python that has nnunetv2")
    parser.add_argument("--model", type=Path, help="a result folder of nnU-Net (default: random weights)")
    parser.add_argument("--patch", type=int, nargs=3, default=PATCH, help="of random weights: voxels of a window")
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES, help="of random weights: by stage")
    parser.add_argument("--cases", type=int, default=4, help="how many cases a queue holds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of Voxflow on a processor")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=("make", "nnunet"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side == "make":
        write_random_model(arguments.model)
        return
    if arguments.side == "nnunet":
        predict_by_nnunet(arguments.model, arguments.image, arguments.folder / "nnunet", arguments.device)
        return
    if arguments.nnunet is None:
        parser.error("--nnunet: needs the python that has nnunetv2")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for kind in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{kind}"] = str(work)
        if arguments.model is None:
            arguments.model = work / "model"
            arguments.model.mkdir()
            plans, dataset = describe_model(list(arguments.patch), list(arguments.features))
            (arguments.model / "plans.json").write_text(json.dumps(plans))
            (arguments.model / "dataset.json").write_text(json.dumps(dataset))
            flags = ["--side", "make", "--image", str(arguments.image), "--model", str(arguments.model)]
            subprocess.run([str(arguments.nnunet), str(Path(__file__)), *flags], check=True)
        compare(work, arguments)


if __name__ == "__main__":
    main()
