"""Every kind of page that people look at, made from small but full inputs, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from tests.comparing.test_compare import NEW, OLD, write_side
from tests.drift.test_check import fingerprint
from tests.reporting.stages import write_folds, write_segmentation
from tests.tasks.demo_cases import write_volumes
from tests.trust.cohorts import calibrate, draw_linear, observe
from tests.viewing.phantom import HEAD, draw_phantom
from voxflow.cli.main import main
from voxflow.drift import MonitorOptions, compare_samples
from voxflow.drift.report import write_drift
from voxflow.geometry import Geometry
from voxflow.inference import Failures
from voxflow.inference.worklist import write_worklist
from voxflow.quality import DataCheck, keep_history, run_checks, write_quality_report
from voxflow.reporting.page import write_report
from voxflow.synthetic.anatomy import draw_abdomen
from voxflow.trust import Reviewer
from voxflow.viewing import ViewerCase, ViewerLayer, write_viewer
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

WORKSPACE = "spleen_demo"


def write_pages(root: Path) -> dict[str, Path]:
    """Write them all below the working directory, which must be ``root``."""
    evaluation = root / "mmars" / WORKSPACE / "eval"
    pages = {"report": evaluation / "report.html", "compare": evaluation / "compare.html"}
    sources = write_segmentation(root)
    write_folds(sources)
    pages["review"] = write_review(evaluation)
    write_report(sources, pages["report"], evaluation / "model_card.md")
    write_volumes(root / "data/volumes/demo", cases=4, unlabelled=0)
    for shift, (name, dice) in enumerate({"old": OLD, "new": NEW}.items()):
        write_side(root / name, dice, 2 * shift)
    assert main(["compare", "old", "new", "--workspace", "demo", "--out", str(pages["compare"])]) == 0
    training, incoming = fingerprint(1000, 60), fingerprint(3, 15, vendor="Canon", spacing=2.0)
    drift = root / "data/drift" / WORKSPACE
    write_drift(compare_samples(training, incoming, MonitorOptions()), training, incoming, drift, WORKSPACE)
    pages |= write_viewers(root, pages)
    quality = write_quality(root)
    (root / "params.yaml").write_text(f"workspaces:\n  {WORKSPACE}: {{task: segmentation}}\n  new: {{task: x}}\n")
    assert main(["index"]) == 0
    return pages | quality | {"drift": drift / "drift.html", "index": root / "data/index.html"}


def write_review(evaluation: Path) -> Path:
    """A calibrated model, and the worklist of cases half of which came from another scanner."""
    rng = np.random.default_rng(5)
    agreements, dices = draw_linear(rng, 60)
    calibration = calibrate(observe(agreements, dices, spacing_k_mm=rng.uniform(2, 3, 60)))
    calibration.write(evaluation / "test/trust.json")
    reviewer = Reviewer(0.5, 0.9, calibration)
    trusts = {
        f"3f9a1c{number:02x}_1": reviewer.assess(agreement, {"spacing_k_mm": 2.5 + 4 * (number % 2)}, is_empty=False)
        for number, agreement in enumerate(draw_linear(rng, 12)[0])
    }
    rows = {case: {"mask": f"{case}/{case}.nii.gz"} for case in trusts}
    write_worklist(evaluation / "infer", trusts, rows, reviewer, Failures())
    return evaluation / "infer" / "review.html"


def write_viewers(root: Path, pages: dict[str, Path]) -> dict[str, Path]:
    """A synthetic abdomen with label and prediction, the same with a PET, and the phantom in several storage orders."""
    folder = root / "viewer_files"
    grid = Geometry.from_parts((110, 100, 40), (3.0, 3.0, 4.5), (-165.0, -150.0, -90.0))
    abdomen = draw_abdomen(np.random.default_rng(3), grid)
    label = abdomen.spleen.astype(np.uint8)
    label[(gaussian_filter(abdomen.hounsfield, 1) > 150) & (label == 0)] = 2
    prediction = np.where(np.roll(label == 1, (2, -1, 1), (0, 1, 2)), 1, np.where(label == 2, 2, 0)).astype(np.uint8)
    uptake = (1.5 + 7 * gaussian_filter(abdomen.spleen.astype(np.float32), 2)).astype(np.float32)
    images = {"ct": abdomen.hounsfield.astype(np.int16), "pet": uptake, "label": label, "prediction": prediction}
    for name, array in images.items():
        write_volume(folder / f"{name}.nii.gz", Volume(array, grid))
    layers = tuple(ViewerLayer(name, folder / f"{name}.nii.gz") for name in ("label", "prediction"))
    classes = {"spleen": (1,), "bone": (2,)}
    ct, pet = folder / "ct.nii.gz", folder / "pet.nii.gz"
    cases = [
        ViewerCase("3f9a1c2b_1", (ct,), layers, ("CT",), ("CT",), classes=classes),
        ViewerCase("pet_1", (ct, pet), layers, ("CT", "PET"), ("CT", "PT"), classes=classes),
    ]
    viewers = {"viewer": pages["report"].with_name("viewer.html"), "phantom": root / "phantom_viewer.html"}
    write_viewer(viewers["viewer"], WORKSPACE, cases, parent_page="report.html", remark="the lowest scores first")
    phantoms = []
    for orientation in ("LPS", "RAS", "PIL"):
        volume = draw_phantom(orientation)
        write_volume(folder / f"{orientation}.nii.gz", volume)
        write_volume(
            folder / f"{orientation}_mask.nii.gz", Volume((volume.array == HEAD).astype(np.uint8), volume.geometry)
        )
        mask = ViewerLayer("mask", folder / f"{orientation}_mask.nii.gz")
        phantoms.append(ViewerCase(orientation, (folder / f"{orientation}.nii.gz",), (mask,)))
    write_viewer(viewers["phantom"], "Phantom", phantoms)
    return viewers | {"compare viewer": pages["compare"].with_name("compare_viewer.html")}


def write_quality(root: Path) -> dict[str, Path]:
    """Data Docs with a check that fails, and the page of all runs."""
    result = root / "data/quality" / WORKSPACE
    table = pd.DataFrame({"case": [f"3f9a1c2{n:x}_1" for n in range(16)], "spacing_k_mm": [5.0] * 14 + [0.01, 40.0]})
    checks = [DataCheck("slices lie 0.3 to 10 mm apart", "spacing_k_mm", "range", (0.3, 10), severity="warning")]
    checks.append(DataCheck("each case stands there once", "case", "unique"))
    outcomes = run_checks(table, checks, name=WORKSPACE, docs=result / "docs")
    write_quality_report(result / "report.json", outcomes, len(table))
    (suite,) = (path for path in (result / "docs/expectations").rglob("*.html"))
    (validation,) = (path for path in (result / "docs/validations").rglob("*.html"))
    history = keep_history(result.with_name(f"{WORKSPACE}.history"), result, "Data checks, all runs")
    index = result / "docs/index.html"
    return {"data docs": validation, "expectations": suite, "data docs index": index, "checks": history}
