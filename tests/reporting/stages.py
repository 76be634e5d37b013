"""What the stages of a finished workspace leave, in small: enough for every part of a report."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from PIL import Image

from voxflow.reporting.sources import ReportSources

if TYPE_CHECKING:
    from pathlib import Path

CASES = [f"{number:08x}_1" for number in range(0x3F9A1C2B, 0x3F9A1C2B + 4)]
DECISION = {
    "verdict": "kept",
    "reasons": ["a gain of 0.1 is below the margin"],
    "challenger": "4",
    "champion": "3",
    "margin": "0.2",
    "numbers": {"metric": "mean Dice", "gain": 0.1, "interval": [0.01, 0.03], "classes": {"spleen": 0.1}},
}
DICE = {CASES[0]: 0.951234, CASES[1]: 0.703, CASES[2]: None, CASES[3]: 0.9}
CURVES = "epoch,train_loss,learning_rate,seconds,val_mean_dice\n" + "".join(
    f"{epoch},{1.4 * math.exp(-epoch / 9) + 0.1:.4f},0.004,{epoch * 2.1:.1f},{0.96 - 0.9 * math.exp(-epoch / 7):.4f}\n"
    for epoch in range(5, 45, 5)
)
CONVERSION = """series,verdict,reason,modality,files,study_uid,series_uid,case
1,converted,,CT,40,1.2.3,1.2.3.1,3f9a1c2b_1
2,remedied,gantry tilt of 4 degrees straightened,CT,38,1.2.3,1.2.3.2,3f9a1c2c_1
3,quarantined,"slice 17 of 42 is missing: a gap of 10.0 mm where 5.0 mm is usual <b>",CT,41,1.2.3,1.2.3.3,
4,skipped,localizer,CT,2,1.2.3,1.2.3.4,
"""
CHECKS = [
    {"name": "label lies on its image's grid", "column": "same_grid", "severity": "critical", "success": True},
    {
        "name": "spacing is plausible",
        "column": "spacing_mm",
        "severity": "warning",
        "success": False,
        "failures": dict.fromkeys(CASES, "9.0"),
    },
]


def write_segmentation(root: Path) -> ReportSources:
    """A finished segmentation workspace below ``root``."""
    sources = sources_of(root, "segmentation")
    rows = [f"{case},{'' if dice is None else dice},{'' if dice is None else dice}," for case, dice in DICE.items()]
    put(sources.evaluation / "test/per_case.csv", "case,mean_dice,dice_spleen,remark\n" + "\n".join(rows) + "\n")
    for name in (f"test/overlays/best_{CASES[0]}", f"test/overlays/worst_{CASES[1]}", f"infer/overlays/{CASES[3]}"):
        picture(sources.evaluation / f"{name}.png")
    put(sources.evaluation / "infer/failures.json", [{"case": "bad_1", "reason": "the file is cut short"}])
    put(sources.evaluation / "test/failures.json", [])
    put(sources.evaluation / "test/summary.json", {"intervals_95": {"mean_dice": [0.79312, 0.90149]}})
    put(sources.evaluation / "decision.json", DECISION)
    put(sources.volumes / "conversion.csv", CONVERSION)
    put(sources.quality / "report.json", {"success": False, "cases": 4, "checks": CHECKS})
    put(sources.models / "curves.csv", CURVES)
    put(sources.models / "train/run.json", {"run_id": "0123abcd", "experiment": sources.workspace})
    engine = {"max_logit_difference": 4.2e-6, "min_dice": 1.0, "speedup_over_torch": 2.4, "published": 1}
    place = {"compared_on": {"device": "NVIDIA L4 (cuda)", "driver": "580.1", "torch": "2.13.0"}}
    uncompared = {"published": 1, "compared": 0, "reason": "torch sees no NVIDIA GPU"}
    blocks = {"openvino": engine, "onnx": engine, "torchscript": engine | place, "tensorrt_rtx": uncompared}
    put(sources.models / "parity.json", {"cases": 2, **blocks})
    header = {"description": "The spleen in CT", "modality": "CT", "labels": {"0": "background", "1": "spleen"}}
    parts: dict[str, list[dict[str, str]]] = {
        "training": [{}] * 7,
        "validation": [{}] * 2,
        "testing": [{}] * 3,
        "inference": [{}] * 2,
    }
    put(sources.datalist, {"metadata": header, **parts})
    put(
        sources.config, {"train": {"model": {"name": "Unet", "args": {"nf_enc": [16, 32]}}, "loss": {"name": "DiceCE"}}}
    )
    put(sources.metrics / "evaluate.json", {"mean_dice": 0.851411, "cases": 3, "failed_cases": 0})
    put(sources.metrics / "infer.json", {"cases": 1, "failed_cases": 1})
    put(sources.models / "train.json", {"best_epoch": 35, "epochs": 40, "seconds": 84.0, "train_loss": 0.1})
    return sources


def write_folds(sources: ReportSources) -> None:
    """What a cross-validation in three folds leaves beside the rest."""
    rows = ["fold 1,held-out cases,3.0,0.9,0.9", "fold 2,held-out cases,3.0,0.8,0.8", "fold 3,held-out cases,3.0,0.7,"]
    rows += ["mean,held-out cases,,0.8,0.85", "std,held-out cases,,0.1,0.0707", "ensemble,unseen cases,4,0.871234,0.88"]
    header = "model,on,cases,mean_dice,dice_spleen"
    put(sources.evaluation / "ensemble/cross_validation.csv", "\n".join([header, *rows]) + "\n")
    put(sources.evaluation / "ensemble/run.json", {"run_id": "fedc9876"})


def write_classification(root: Path) -> ReportSources:
    """The parts that a classification workspace has in another form."""
    sources = sources_of(root, "classification")
    table = "case,mass,probability_mass\nsure,1,0.9\nwrong,0,0.8\nunsure,1,0.6\n"
    put(sources.evaluation / "test/per_case.csv", table)
    put(sources.evaluation / "test/roc.csv", "class,fpr,tpr\nmass,0,0\nmass,0.1,0.7\nmass,1,1\n")
    put(sources.metrics / "evaluate.json", {"mean_auc": 0.912, "cases": 40, "failed_cases": 0})
    return sources


def sources_of(root: Path, task: str) -> ReportSources:
    """Where a workspace's parts would lie; nothing is there yet."""
    return ReportSources(
        workspace="spleen_demo",
        task=task,
        volumes=root / "data/volumes/spleen_demo",
        quality=root / "data/quality/spleen_demo",
        datalist=root / "data/datalists/spleen_demo/dataset_0.json",
        config=root / "mmars/spleen_demo/config/config_train.json",
        models=root / "mmars/spleen_demo/models",
        evaluation=root / "mmars/spleen_demo/eval",
        metrics=root / "data/metrics/spleen_demo",
        settings={"task": task, "resample": {"spacing_mm": [2.0, 2.0, 4.0]}, "train": {"config": "config_train.json"}},
        provenance={"git_commit": "8f2c" * 10, "dvc_lock_sha256": "ab" * 32},
    )


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((240, 200)).save(path)
