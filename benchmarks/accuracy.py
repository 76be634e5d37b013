"""Compare the accuracy of Voxflow's templates with stock MONAI and nnU-Net: the same images, the same minutes.

python -m benchmarks.accuracy SOURCE --work FOLDER [--template auto] [--folds 5] [--seeds 7]
    [--seconds 140 900 | --steps 900] [--sides voxflow monai nnunet --nnunet PYTHON] [--device cpu]
    [--leave-out FILE | --folds 0 --test FILE]

SOURCE is a folder of images as ``voxflow new`` takes it, or the name of one in $VOXFLOW_DATA: hippocampus,
pet_sarcoma/dicom, chestxray (the AUC is compared, side ``voxflow`` only). FOLDER becomes a folder of workspaces: the
stages up to split run in it once. It may also be one that has workspaces already; ``--name`` says which.

Patients are dealt into folds. Each fold is judged by a network that saw only the others; a tenth of those choose its
best state. ``--folds 0`` learns from all but the workspace's own test cases, or those that ``--test`` names, and judges
these once. With ``--leave-out`` the cases that the file names take no part at all, so that they can be kept for the
end: benchmarks/hippocampus_kept.txt are those of the hippocampus, by their pseudonyms.

Voxflow's side is its own stages train, export and evaluate. MONAI's side is what its tutorials do, with bfloat16 and a
one-cycle learning rate that ends with the time (benchmarks/accuracy_monai.py). nnU-Net's side is its own plan, trainer
and predictor, run by a PYTHON where it is installed (benchmarks/nnunet.py). All are judged on the resampled images.
Preparation and prediction are not counted.

FOLDER/results holds one JSON file a side, budget, seed and fold; what is there is not computed again, so that a run
that was ended goes on. ``--steps`` compares equal steps of the optimizer instead of equal seconds: for machines that
others use, too.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("voxflow", "monai", "nnunet")
STAGES = ("convert", "validate", "resample", "split")
VALIDATION = 0.1
# Fixed, so that the pseudonyms and with them the folds are the same on every machine.
KEY = "21259342ad6ffd89842f1c0175cfad15bc524c728c5625b3eea896449fd2cbdf"

Item = dict[str, Any]
Parts = dict[str, list[Item]]
Result = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """How long a training lasts: seconds, or steps of the optimizer."""

    seconds: float | None = None
    steps: int | None = None

    @property
    def name(self) -> str:
        """Such as 140s or 900steps."""
        return f"{self.steps}steps" if self.steps else f"{self.seconds:g}s"

    @property
    def arguments(self) -> list[str]:
        """As the programs of the other sides take it."""
        return ["--steps", str(self.steps)] if self.steps else ["--seconds", f"{self.seconds:g}"]


@dataclass(frozen=True)
class Comparison:
    """A prepared workspace that trainings are compared in.

    Attributes:
        work: the folder of workspaces.
        name: of the workspace.
        device: "cpu" or "cuda".
        nnunet: the Python that has nnU-Net.
    """

    work: Path
    name: str
    device: str
    nnunet: Path | None

    @property
    def datalist(self) -> Path:
        """The datalist that every side reads."""
        return self.work / "data/datalists" / self.name / "dataset_0.json"

    def prepare(self, source: Path, template: str) -> None:
        """Make the workspace from the template where there is none, and run the stages before training."""
        from voxflow.dicom import scan_folder
        from voxflow.workspace import choose_template, create_workspace

        self.work.mkdir(parents=True, exist_ok=True)
        params = self.work / "params.yaml"
        if not params.exists():
            params.write_text("workspaces: {}\n")
        if self.name not in (yaml.safe_load(params.read_text())["workspaces"] or {}):
            chosen = choose_template(template, source, scan_folder(source))
            create_workspace(self.name, source.absolute(), chosen, root=self.work)
        if not self.datalist.exists():
            for stage in STAGES:
                self.run_stage(stage)

    def change(self, stage: str, values: dict[str, Any]) -> None:
        """Set parameters of a stage."""
        params = yaml.safe_load((self.work / "params.yaml").read_text())
        block = params["workspaces"][self.name]
        block[stage] = {**(block.get(stage) or {}), **values}
        (self.work / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def run_stage(self, stage: str) -> None:
        """Run a stage as DVC does."""
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        places = {"PYTHONPATH": paths, "VOXFLOW_CACHE": str(self.work / "cache"), "VOXFLOW_PSEUDONYM_KEY": KEY}
        command = [sys.executable, "-m", f"tasks.{stage}", self.name]
        subprocess.run(command, cwd=self.work, env=os.environ | places, check=True)

    def run_side(self, side: str, budget: Budget, seed: int) -> Result:
        """Train one side on the datalist that lies there, and judge it."""
        if side == "voxflow":
            return self._run_voxflow(budget, seed)
        out = self.work / f"{side}.json"
        program, python = (
            (ROOT / "benchmarks/accuracy_monai.py", Path(sys.executable))
            if side == "monai"
            else (ROOT / "benchmarks/nnunet.py", self.nnunet)
        )
        command = [str(python), str(program), str(self.work), self.name, str(out), "--device", self.device]
        command += [*budget.arguments, "--seed", str(seed)]
        subprocess.run(command, check=True, cwd=self.work)
        result: Result = json.loads(out.read_text())
        return result

    def _run_voxflow(self, budget: Budget, seed: int) -> Result:
        train: dict[str, Any] = {"resume": False, "seed": seed, "accelerator": self.device}
        values = dict(self._read_block().get("train", {}).get("set", {}))
        # The configuration's own seeds win over the option.
        values["determinism"] = {"python_seed": str(seed), "random_seed": seed, "numpy_seed": seed, "tf_seed": seed}
        if budget.seconds is not None and self._is_planned_in_epochs():
            train |= {"max_minutes": budget.seconds / 60}
        elif budget.seconds is not None:
            train |= {"max_minutes": budget.seconds / 60, "schedule": "minutes"}
            values["epochs"] = 100_000
        else:
            train |= {"max_minutes": None, "schedule": "epochs"}
            values["epochs"] = self._count_epochs(budget.steps or 1)
        self.change("train", train | {"set": values})
        for stage in ("train", "export", "evaluate"):
            self.run_stage(stage)
        models = self.work / "mmars" / self.name / "models"
        trained = json.loads((self.work / "mmars" / self.name / "models/train.json").read_text())
        with (models / "curves.csv").open(newline="") as stream:
            curve = [dict(row) for row in csv.DictReader(stream)]
        return {"seconds": trained["seconds"], "steps": trained["steps"], "curve": curve, **self._read_scores()}

    def _is_planned_in_epochs(self) -> bool:
        """Whether the template chooses the length of a training itself, within its minutes: for radiographs."""
        block = self._read_block()
        return bool(block["task"] == "classification" and block["train"].get("plan") == "auto")

    def _read_block(self) -> dict[str, Any]:
        block: dict[str, Any] = yaml.safe_load((self.work / "params.yaml").read_text())["workspaces"][self.name]
        return block

    def _count_epochs(self, steps: int) -> int:
        from voxflow.config import read_json
        from voxflow.planning import plan_training

        train = self._read_block()["train"]
        config = self.work / "mmars" / self.name / train["config"]
        place = "train.image_pipeline.args.output_batch_size"
        decided, _ = plan_training(train, self.work / "data/resampled" / self.name, config)
        batch = decided.get(place) or read_json(config)["train"]["image_pipeline"]["args"]["output_batch_size"]
        cases = len(json.loads(self.datalist.read_text())["training"])
        return max(1, round(steps / -(-cases // int(batch))))

    def _read_scores(self) -> Result:
        """Dice by case and class of volumes, the probability and the truth of radiographs."""
        folder = self.work / "mmars" / self.name / "eval/test"
        with (folder / "per_case.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        columns = [name for name in rows[0] if name.startswith("dice_")]
        if columns:
            return {"cases": {row["case"]: [float(row[name] or "nan") for name in columns] for row in rows}}
        metrics = json.loads((self.work / "data/metrics" / self.name / "evaluate.json").read_text())
        patients = {item["case"]: item["patient"] for item in json.loads(self.datalist.read_text())["testing"]}
        cases = {row["case"]: row | {"patient": patients.get(row["case"], row["case"])} for row in rows}
        return {"auc": metrics["mean_auc"], "cases": cases}


def list_folds(
    content: Parts, folds: int, seed: int, omitted: tuple[str, ...] = (), kept: tuple[str, ...] = ()
) -> list[Parts]:
    """Deal the patients into folds, those of one class of radiograph evenly.

    Args:
        content: of the workspace's own datalist.
        folds: how many; 0: one, of the patients kept for it.
        seed: decides the order, and which patients choose the best state.
        omitted: beginnings of the pseudonyms of patients that take no part.
        kept: likewise, of those to judge where ``folds`` is 0; none: the workspace's own test cases.
    """
    generator = random.Random(seed)  # noqa: S311 (no secret)
    parts = ("training", "validation", "testing")
    items = [i for part in parts for i in content.get(part, []) if not (omitted and i["patient"].startswith(omitted))]
    by_patient: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: str(item["case"])):
        by_patient.setdefault(item["patient"], []).append(item)
    order = sorted(by_patient)
    generator.shuffle(order)
    order.sort(key=lambda patient: _class_of(by_patient[patient][0]))
    if folds:
        tests = [order[number::folds] for number in range(folds)]
    elif kept:
        tests = [sorted(patient for patient in order if patient.startswith(kept))]
    else:
        tests = [sorted({item["patient"] for item in content["testing"]} & by_patient.keys())]
    result = []
    for test in tests:
        rest = [patient for patient in order if patient not in test]
        chosen = set(generator.sample(rest, max(1, round(VALIDATION * len(rest)))))
        members = {"testing": test, "validation": chosen, "training": [p for p in rest if p not in chosen]}
        result.append({part: [i for p in sorted(names) for i in by_patient[p]] for part, names in members.items()})
    return result


def _class_of(item: Item) -> str:
    """Volumes are all alike; radiographs have their findings as their label."""
    return "" if isinstance(item["label"], str) else str(item["label"])


def compare(comparison: Comparison, arguments: argparse.Namespace) -> None:
    """Run what is missing of every side, budget, seed and fold."""
    whole = comparison.work / "all_cases.json"
    if not whole.exists():
        whole.write_text(comparison.datalist.read_text())
    content = json.loads(whole.read_text())
    omitted, kept = (tuple(path.read_text().split()) if path else () for path in (arguments.leave_out, arguments.test))
    for seed in arguments.seeds:
        for number, fold in enumerate(list_folds(content, arguments.folds, seed, omitted, kept), 1):
            for budget in list_budgets(arguments):
                for side in arguments.sides:
                    out = result_file(comparison.work, side, budget, seed, number if arguments.folds else 0)
                    if out.exists():
                        continue
                    comparison.datalist.write_text(json.dumps({**content, **fold}))
                    out.parent.mkdir(exist_ok=True)
                    result = comparison.run_side(side, budget, seed)
                    partial = out.with_suffix(".partial")
                    partial.write_text(json.dumps(result))
                    partial.replace(out)
    comparison.datalist.write_text(whole.read_text())


def result_file(work: Path, side: str, budget: Budget, seed: int, fold: int) -> Path:
    """Where one training's result is kept; fold 0 is the workspace's own split."""
    return work / "results" / f"{side}_{budget.name}_seed{seed}_fold{fold}.json"


def list_budgets(arguments: argparse.Namespace) -> list[Budget]:
    """Those that were asked for."""
    if arguments.steps:
        return [Budget(steps=steps) for steps in arguments.steps]
    return [Budget(seconds=seconds) for seconds in arguments.seconds]


def report(work: Path, arguments: argparse.Namespace) -> None:
    """Print figures by side and fold, and a paired test of Voxflow against each other side."""
    numbers = range(1, arguments.folds + 1) if arguments.folds else (0,)
    for budget in list_budgets(arguments):
        runs = {
            side: [
                json.loads(result_file(work, side, budget, seed, fold).read_text())
                for seed in arguments.seeds
                for fold in numbers
            ]
            for side in arguments.sides
        }
        for side, results in runs.items():
            print_figures(f"{side}_{budget.name}", results)
            if len(arguments.seeds) > 1:
                scores = [result["auc"] if "auc" in result else score_fold(result) for result in results]
                means = np.reshape(scores, (len(arguments.seeds), -1)).mean(1)
                print(f"figure {side}_{budget.name}_seeds {means.std(ddof=1):.4f} standard deviation from seed to seed")
        for side in runs.keys() - {"voxflow"} if "voxflow" in runs else ():
            print_comparison(f"voxflow_to_{side}_{budget.name}", runs["voxflow"], runs[side])


def print_figures(name: str, results: list[Result]) -> None:
    """Print the mean, each class, each fold, and where validation ended below its best."""
    if "auc" in results[0]:
        folds = [result["auc"] for result in results]
        error = np.std(folds, ddof=1) / len(folds) ** 0.5 if len(folds) > 1 else np.nan
        print(f"figure {name}_auc {np.mean(folds):.4f} AUC, standard error over the folds {error:.4f}")
        print_pooled(name, [row for result in results for row in result["cases"].values()])
        if len(results) > 1:
            print_calibration(name, results)
    else:
        classes = np.nanmean(np.array([scores for result in results for scores in result["cases"].values()]), 0)
        folds = [score_fold(result) for result in results]
        print(f"figure {name}_dice {np.mean(folds):.4f} Dice")
        for number, value in enumerate(np.atleast_1d(classes), 1):
            print(f"figure {name}_class_{number} {value:.4f} Dice")
    print(f"figure {name}_folds {' '.join(f'{value:.4f}' for value in folds)}")
    steps, seconds = (np.mean([result[key] for result in results]) for key in ("steps", "seconds"))
    print(f"figure {name}_steps {steps:.0f} steps in {seconds:.0f} s")
    curves = [[float(row["mean_dice"]) for row in result.get("curve", []) if "mean_dice" in row] for result in results]
    falls = [max(curve) - curve[-1] for curve in curves if curve]
    if falls:
        print(f"figure {name}_validation_below_best {np.mean(falls):.4f} Dice, {max(falls):.4f} at most")


def print_pooled(name: str, rows: list[Item]) -> None:
    """Print the mean AUC over all folds' cases together, with an interval that draws patients anew."""
    from voxflow.evaluation.scores import score_classes

    findings = [key.removeprefix("probability_") for key in rows[0] if key.startswith("probability_")]
    rows = [row for row in rows if all(row[f"probability_{finding}"] for finding in findings)]
    truth = np.array([[int(row[finding]) for finding in findings] for row in rows])
    probabilities = np.array([[float(row[f"probability_{finding}"]) for finding in findings] for row in rows])
    scores = score_classes(truth, probabilities, findings, patients=[str(row["patient"]) for row in rows])
    low, high = scores.intervals["mean_auc"]
    mean, ece = (np.mean([getattr(score, key) for score in scores.classes]) for key in ("auc", "ece"))
    print(f"figure {name}_pooled_auc {mean:.4f} AUC, 95 % {low:.4f} to {high:.4f} by patient; ece {ece:.3f}")


def print_calibration(name: str, results: list[Result]) -> None:
    """Print what each fold's radiographs say of a calibration by the other folds' (docs/trust.md)."""
    from voxflow.evaluation.reliability import list_reliability
    from voxflow.trust import UNCALIBRATED, HeldOutRadiograph

    first = next(iter(results[0]["cases"].values()))
    findings = [key.removeprefix("probability_") for key in first if key.startswith("probability_")]
    held_out = []
    for fold, result in enumerate(results):
        for row in result["cases"].values():
            values = [row.get(f"{UNCALIBRATED}{finding}") or row[f"probability_{finding}"] for finding in findings]
            if all(values):
                truth = tuple(int(row[finding]) for finding in findings)
                probabilities = tuple(map(float, values))
                held_out.append(HeldOutRadiograph(row["case"], str(row["patient"]), fold, truth, probabilities))
    for row in list_reliability(held_out, findings):
        shown = {
            key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items() if key != "on"
        }
        print(f"figure {name}_calibration", *(f"{key} {value}" for key, value in shown.items()))


def score_fold(result: Result) -> float:
    """The mean over a fold's cases of the mean over their classes."""
    return float(np.nanmean([np.nanmean(scores) for scores in result["cases"].values()]))


def print_comparison(name: str, ours: list[Result], theirs: list[Result]) -> None:
    """Print the mean difference, and how likely chance alone makes one as large: by folds and by cases."""
    from scipy import stats

    if "auc" in ours[0] or "auc" in theirs[0]:
        pairs = [(a["auc"], b["auc"]) for a, b in zip(ours, theirs, strict=True)]
    else:
        pairs = [(score_fold(a), score_fold(b)) for a, b in zip(ours, theirs, strict=True)]
        cases = [
            (np.nanmean(a["cases"][case]), np.nanmean(b["cases"][case]))
            for a, b in zip(ours, theirs, strict=True)
            for case in a["cases"].keys() & b["cases"].keys()
        ]
        first, second = np.array(cases).T
        by_case = stats.wilcoxon(first, second).pvalue if (first != second).any() else 1.0
        print(f"figure {name}_wilcoxon_by_case p={by_case:.4g} of {len(cases)}, {np.mean(first > second):.0%} better")
        print(f"ratio {name}_errors {(1 - second.mean()) / (1 - first.mean()):.3f}")
    mine, other = np.array(pairs).T
    print(f"figure {name}_difference {np.mean(mine - other):+.4f}")
    if len(pairs) > 1:
        print(f"figure {name}_t_by_fold p={stats.ttest_rel(mine, other).pvalue:.4g} of {len(pairs)}")


def find_source(text: str) -> Path:
    """Find a folder, or one of that name in $VOXFLOW_DATA."""
    shared = Path(os.environ.get("VOXFLOW_DATA", ROOT.parent / "shared/data")) / text
    return Path(text) if Path(text).exists() else shared


def main() -> int:
    """Run what is missing, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--work", type=Path, required=True, help="the folder of workspaces; made where it is missing")
    parser.add_argument("--name", help="of the workspace; the source's own when left out")
    parser.add_argument("--template", default="auto")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--seconds", type=float, nargs="+", default=[140])
    parser.add_argument("--steps", type=int, nargs="+", help="instead of seconds")
    parser.add_argument("--sides", choices=SIDES, nargs="+", default=["voxflow", "monai"])
    parser.add_argument("--nnunet", type=Path, metavar="PYTHON", help="where nnunetv2 is installed, for that side")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--leave-out", type=Path, metavar="FILE", help="pseudonyms of patients that take no part")
    parser.add_argument("--test", type=Path, metavar="FILE", help="with --folds 0: pseudonyms of patients to judge")
    arguments = parser.parse_args()
    if "nnunet" in arguments.sides and arguments.nnunet is None:
        parser.error("the side nnunet needs --nnunet PYTHON")
    source = find_source(arguments.source)
    name = arguments.name or Path(arguments.source).parts[0 if not Path(arguments.source).is_absolute() else -1]
    python = arguments.nnunet.absolute() if arguments.nnunet else None
    comparison = Comparison(arguments.work.absolute(), name, arguments.device, python)
    comparison.prepare(source, arguments.template)
    compare(comparison, arguments)
    report(comparison.work, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
