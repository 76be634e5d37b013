"""Compare a task of TotalSegmentator through its own program and, adopted, through Voxflow: from a CT to its mask.

Both sides are whole processes that start from files. TotalSegmentator's is a process that calls its Python function
on one image after the other. Voxflow runs the adopted model exported to OpenVINO (on a GPU the model file itself).
The task is ``total --fast``, a single network of nnU-Net's usual form for 117 classes at 3 mm, with random weights: its
masks say nothing, its time and memory do.

python -m benchmarks.adopt_totalsegmentator --image CT.nii.gz --python PYTHON [--cases 4] [--rounds 3] [--device cuda]

PYTHON has totalsegmentator.
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

from benchmarks.adopt import compare_sides, describe_model
from benchmarks.measure import measure, name_device

if TYPE_CHECKING:
    from benchmarks.measure import Run

SIDES = ("totalsegmentator", "voxflow")
DATASET = "Dataset297_TotalSegmentator_total_3mm_1559subj"
TRAINER = "nnUNetTrainer_4000epochs_NoMirroring"
CLASSES, SPACING = 117, 3.0
PATCH, FEATURES = [112, 112, 128], [32, 64, 128, 256, 320]


def write_weights(work: Path, arguments: argparse.Namespace) -> Path:
    """Write the folder of weights as TotalSegmentator has it, with random weights by nnU-Net's own classes."""
    folder = work / DATASET / f"{TRAINER}__nnUNetPlans__3d_fullres"
    folder.mkdir(parents=True)
    plans, dataset = describe_model(list(arguments.patch), list(arguments.features))
    plans["image_reader_writer"] = "NibabelIOWithReorient"
    plans["configurations"]["3d_fullres"]["spacing"] = [SPACING] * 3
    dataset["labels"] = {"background": 0, **{f"class_{value}": value for value in range(1, CLASSES + 1)}}
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    program = Path(__file__).with_name("adopt.py")
    flags = ["--side", "make", "--image", str(arguments.image), "--model", str(folder)]
    subprocess.run([str(arguments.python), str(program), *flags], check=True)
    return folder


def write_job(work: Path, images: Path) -> Path:
    """Write down what TotalSegmentator's program is to do, beside a copy of it."""
    from voxflow.adopt.original import PROGRAMS

    job: dict[str, Any] = {
        "task": "total",
        "mode": "fast",
        "plans": "nnUNetPlans",
        "weights": {DATASET: str(work / DATASET)},
        "cases": {path.name.removesuffix("_0000.nii.gz"): [str(path)] for path in sorted(images.iterdir())},
        "out": str(work / SIDES[0]),
        "ending": ".nii.gz",
        "arrays": False,
    }
    shutil.copy(PROGRAMS["TotalSegmentator"], work / "program.py")
    (work / f"{images.name}.json").write_text(json.dumps(job))
    return work / f"{images.name}.json"


def run_sides(work: Path, arguments: argparse.Namespace, images: Path) -> dict[str, list[Run]]:
    """Run both sides on a folder of cases, in turn, as processes of their own."""
    model = work / ("exported/model.xml" if arguments.device == "cpu" else "model.pt")
    commands = {
        SIDES[0]: [str(arguments.python), str(work / "program.py"), str(write_job(work, images))],
        SIDES[1]: [sys.executable, "-m", "voxflow.cli.main", "infer", str(model), "--images", str(images),
                   "--out", str(work / SIDES[1])],
    }  # fmt: skip
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    for _ in range(arguments.rounds):
        for side in SIDES:
            shutil.rmtree(work / side, ignore_errors=True)
            (work / side).mkdir()
            runs[side].append(measure(commands[side]))
    return runs


def compare(work: Path, arguments: argparse.Namespace) -> None:
    """Run both sides on one case and on a queue, and print figures and ratios."""
    from voxflow.adopt import find_task, read_nnunet, repeat_steps, write_adopted
    from voxflow.export import ExportOptions, export_model

    print(f"device {name_device(arguments.device)}")
    folder = write_weights(work, arguments)
    task = find_task([folder])
    assert task is not None
    write_adopted(repeat_steps(read_nnunet(folder), task), work / "model.pt")
    if arguments.device == "cpu":
        (work / "exported").mkdir()
        export_model(work / "model.pt", work / "exported", ExportOptions(engines=("openvino",)), [], on_noise=True)
    compare_sides(work, arguments, SIDES, lambda images: run_sides(work, arguments, images))


def main() -> None:
    """Prepare and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True, help="a CT volume, .nii.gz")
    parser.add_argument("--python", type=Path, required=True, help="the python that has totalsegmentator")
    parser.add_argument("--patch", type=int, nargs=3, default=PATCH, help="voxels of a window")
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES, help="by stage")
    parser.add_argument("--cases", type=int, default=4, help="how many cases a queue holds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        # nnU-Net wants these folders where it is imported, and TotalSegmentator a home with no settings of the user's.
        os.environ |= {f"nnUNet_{kind}": str(work) for kind in ("raw", "preprocessed", "results")}
        os.environ["TOTALSEG_HOME_DIR"] = str(work / "home")
        compare(work, arguments)


if __name__ == "__main__":
    main()
