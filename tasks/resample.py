"""Bring every case of a workspace to one spacing and orientation, or radiographs to one size; bad ones are left out."""

from __future__ import annotations

import contextlib
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.common.case_table import read_cases
from tasks.common.stage import Stage, main
from voxflow.cluster import choose_cluster, open_executor
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED, ConfigError, DataError
from voxflow.files import atomic_directory, read_text, write_json
from voxflow.images import CASE_FORM, find_channel_modalities, read_channel_rules, read_ignore, read_regions
from voxflow.places import PARAMS
from voxflow.progress import say
from voxflow.tables import LABELLED
from voxflow.texts import parse_json
from voxflow.volumes import (
    CHANNEL_SEPARATOR,
    FINGERPRINT,
    Fingerprint,
    ResampleOptions,
    list_values,
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

    Cases that can't be resampled are listed in failures.json, and no later stage takes them. See
    ``voxflow.volumes.resample_cases``.

    Returns:
        3 where some cases can't be resampled.

    Raises:
        DataError: none can be.
    """
    table = read_cases(stage.volumes / "cases.csv")
    rules = read_channel_rules(stage.volumes)
    channels = list(rules)
    options = _choose_options(stage, table, channels)
    with open_executor(choose_cluster()) as executor, atomic_directory(stage.resampled) as folder:
        resampled, failures = resample_cases(table, stage.volumes, folder, options, executor, channels=channels)
        numbers: dict[str, float] = {"cases": len(resampled)}
        if failures:
            numbers["failed_cases"] = len(failures)
            rows = [{"case": case, "reason": reason} for case, reason in failures.items()]
            write_json(folder / "failures.json", rows)
        resampled.to_csv(folder / "cases.csv", index=False)
        shutil.copyfile(stage.volumes / "labels.json", folder / "labels.json")
        if (stage.volumes / CASE_FORM).is_file():
            shutil.copyfile(stage.volumes / CASE_FORM, folder / CASE_FORM)
        write_json(folder / "resample.json", options.model_dump(mode="json"))
        if stage.task == "segmentation":
            fingerprint = _measure(resampled, folder, rules)
            write_fingerprint(folder / FINGERPRINT, fingerprint)
            numbers |= fingerprint.to_metrics()
    write_json(stage.metrics, numbers)
    for case, reason in failures.items():
        say(f"warning: left out: {case}: {reason}")
    failed = f", {len(failures)} failed (failures.json)" if failures else ""
    count = (resampled["outside"] != "").sum() if "outside" in resampled else 0
    beyond = (
        f", {count} of them with a channel or label that does not fill the grid (outside in cases.csv)" if count else ""
    )
    say(f"resample {stage.workspace}: {len(resampled)} cases{beyond}{failed} → {stage.resampled}")
    return EXIT_SOME_FAILED if failures else EXIT_OK


def _choose_options(stage: Stage, table: pd.DataFrame, channels: list[str]) -> ResampleOptions:
    """The stage's options; ``spacing_mm: auto`` becomes what suits most of the images."""
    parameters = stage.block.get("resample") or {}
    if parameters.get("spacing_mm") != "auto":
        if parameters.get("most_voxels") is not None:
            where = f"workspaces.{stage.workspace}.resample.most_voxels"
            raise ConfigError("goes with spacing_mm: auto, which it makes coarser", path=PARAMS, where=where)
        return stage.options(ResampleOptions)
    block = {**stage.block, "resample": {**parameters, "spacing_mm": None}}
    options = replace(stage, block=block).options(ResampleOptions)
    onto = options.find_onto(channels)
    grids = []
    for names in (str(cell).split(CHANNEL_SEPARATOR) for cell in table["image"]):
        # What can't be read fails by itself later, and has no voice here.
        with contextlib.suppress(DataError, IndexError):
            grids.append(options.choose_grid(read_geometry(stage.volumes / names[onto])))
    if not grids:
        raise DataError("no image can be read", path=stage.volumes / "cases.csv")
    if options.most_voxels is not None and read_regions(stage.volumes):
        # The stage previous refuses it, but only after all folds of this workspace.
        say("warning: classes overlap (regions), so this can't be the first of two stages (docs/two-stages.md)")
    sizes, spacings = [grid.size for grid in grids], [grid.spacing for grid in grids]
    spacing = target_spacing(sizes, spacings, options.most_voxels)
    say(f"resample {stage.workspace}: spacing_mm: auto → {', '.join(f'{mm:g}' for mm in spacing)}")
    return options.model_copy(update={"spacing_mm": spacing, "most_voxels": None})


def _measure(table: pd.DataFrame, folder: Path, rules: dict[str, dict[str, Any]]) -> Fingerprint:
    """Of the images as training will see them."""
    rows = zip(table["image"], table["label"], strict=True)
    cases = [
        ([folder / n for n in image.split(CHANNEL_SEPARATOR)], folder / label if label else None)
        for image, label in rows
    ]
    modalities, units = set(table["modality"]), set(table.get("units", ()))
    # CT in HU and CT that measures something else are no more comparable than CT and MR.
    is_one_scale = len(modalities) == 1 and len(units) <= 1
    modality = modalities.pop() if is_one_scale else ""
    channels = find_channel_modalities(rules, modality) if len(units) <= 1 else dict.fromkeys(rules, "")
    return measure_fingerprint(
        cases, modality, ignore=read_ignore(folder), labelled=_list_labelled(table, folder), channels=channels
    )


def _list_labelled(table: pd.DataFrame, folder: Path) -> list[frozenset[int] | None] | None:
    """The label values that were looked for in each case; None where all were in all cases."""
    if LABELLED not in table:
        return None
    names: dict[str, str] = parse_json(read_text(folder / "labels.json"))
    classes = read_regions(folder) or {name: (int(value),) for value, name in names.items() if value != "0"}
    return [list_values(text.split(CHANNEL_SEPARATOR) if text else None, classes) for text in table[LABELLED]]


if __name__ == "__main__":
    sys.exit(main("resample", run))
