"""Bring every case of a workspace to one spacing and orientation, or radiographs to one size."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.common.case_table import read_cases
from tasks.common.stage import Stage, main
from voxflow.cluster import choose_cluster, open_executor
from voxflow.errors import EXIT_OK
from voxflow.files import atomic_directory, write_json
from voxflow.images import CASE_FORM
from voxflow.progress import say
from voxflow.volumes import (
    CHANNEL_SEPARATOR,
    FINGERPRINT,
    Fingerprint,
    ResampleOptions,
    measure_fingerprint,
    read_geometry,
    resample_cases,
    target_spacing,
    write_fingerprint,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


def run(stage: Stage) -> int:
    """Write data/resampled/WS, and for segmentation the fingerprint of its volumes.

    See ``voxflow.volumes.resample_cases``.

    Raises:
        DataError: an image and its label lie on different grids; all such cases are named.
    """
    table = read_cases(stage.volumes / "cases.csv")
    options = _choose_options(stage, table)
    numbers: dict[str, float] = {"cases": len(table)}
    with open_executor(choose_cluster()) as executor, atomic_directory(stage.resampled) as folder:
        resampled = resample_cases(table, stage.volumes, folder, options, executor)
        resampled.to_csv(folder / "cases.csv", index=False)
        shutil.copyfile(stage.volumes / "labels.json", folder / "labels.json")
        if (stage.volumes / CASE_FORM).is_file():
            shutil.copyfile(stage.volumes / CASE_FORM, folder / CASE_FORM)
        write_json(folder / "resample.json", options.model_dump(mode="json"))
        if stage.task == "segmentation":
            fingerprint = _measure(resampled, folder)
            write_fingerprint(folder / FINGERPRINT, fingerprint)
            numbers |= fingerprint.to_metrics()
    write_json(stage.metrics, numbers)
    say(f"resample {stage.workspace}: {len(table)} cases → {stage.resampled}")
    return EXIT_OK


def _choose_options(stage: Stage, table: pd.DataFrame) -> ResampleOptions:
    """The stage's options; ``spacing_mm: auto`` becomes what suits most of the images."""
    parameters = stage.block.get("resample") or {}
    if parameters.get("spacing_mm") != "auto":
        return stage.options(ResampleOptions)
    block = {**stage.block, "resample": {**parameters, "spacing_mm": None}}
    options = replace(stage, block=block).options(ResampleOptions)
    names = [str(name).split(CHANNEL_SEPARATOR)[0] for name in table["image"]]
    grids = [options.choose_grid(read_geometry(stage.volumes / name)) for name in names]
    spacing = target_spacing([grid.size for grid in grids], [grid.spacing for grid in grids])
    say(f"resample {stage.workspace}: spacing_mm: auto → {', '.join(f'{mm:g}' for mm in spacing)}")
    return options.model_copy(update={"spacing_mm": spacing})


def _measure(table: pd.DataFrame, folder: Path) -> Fingerprint:
    """Of the images as training will see them."""
    rows = zip(table["image"], table["label"], strict=True)
    cases = [
        ([folder / n for n in image.split(CHANNEL_SEPARATOR)], folder / label if label else None)
        for image, label in rows
    ]
    modalities, units = set(table["modality"]), set(table.get("units", ()))
    # CT in HU and CT that measures something else are no more comparable than CT and MR.
    is_one_scale = len(modalities) == 1 and len(units) <= 1
    return measure_fingerprint(cases, modalities.pop() if is_one_scale else "")


if __name__ == "__main__":
    sys.exit(main("resample", run))
