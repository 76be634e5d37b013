"""Bring what a first stage's models made of cases unseen to the grid of the second stage, for its training.

The masks go to data/previous/WS. What is known of them, and of the models, goes to the MMAR's config/previous.json, on
which the trainings of the second stage depend.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tasks.common.folds import PREVIOUS, FoldStage, list_folds, load_previous
from tasks.common.stage import Stage, main
from voxflow.datalist import Datalist
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED, ConfigError, DataError
from voxflow.files import atomic_directory, read_text, write_json
from voxflow.images import read_regions
from voxflow.inference import assign_folds, bring_masks, find_native_cases
from voxflow.places import PARAMS, load_params
from voxflow.progress import say
from voxflow.texts import parse_json
from voxflow.training import LEARNT, RECORD, PreviousCase, PreviousRecord, digest_file

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.datalist import Case


def run(stage: Stage) -> int:
    """Write data/previous/WS and config/previous.json; see ``voxflow.inference.bring_masks``.

    Returns:
        3 where some cases have no mask; they are not learnt from.

    Raises:
        ConfigError: the entry of ``previous`` and ``train.previous`` differ, or the workspaces don't go together.
        DataError: folds, models or masks of the first stage are missing, or of other cases.
    """
    first = _find_first(stage)
    labels = _require_same_labels(stage, first)
    datalist = Datalist.read(stage.datalist, stage.resampled)
    folds = _read_folds(first)
    fold_of = assign_folds(datalist, {n: Datalist.read(fold.datalist, fold.resampled) for n, fold in folds.items()},
                           first.workspace)  # fmt: skip
    models = {number: _find_model(fold) for number, fold in folds.items()}
    labelled = [case for key in LEARNT for case in datalist.parts.get(key, ()) if case.label is not None]
    cases = [case for case in labelled if case.id in fold_of]
    unknown = {case.id: f"{first.workspace} has no such case" for case in labelled if case.id not in fold_of}
    with atomic_directory(stage.previous) as folder:
        digests, failures = bring_masks(_pair_cases(stage, first, cases, folds, fold_of), folder)
        if not digests:
            raise DataError(f"no case has a mask; the first: {next(iter(failures.values()))}", path=first.mmar)
    failures |= unknown
    record = PreviousRecord(
        workspace=first.workspace,
        values=tuple(sorted(int(value) for value in labels if value != "0")),
        models={number: digest_file(file) for number, file in models.items()},
        cases={case: PreviousCase(fold=fold_of[case], mask=digest) for case, digest in digests.items()},
    )
    write_json(stage.mmar / "config" / RECORD, record.model_dump(mode="json"))
    for case, reason in failures.items():
        say(f"warning: left out: {case}: {reason}")
    failed = f", {len(failures)} failed" if failures else ""
    say(f"previous {stage.workspace}: masks of {len(digests)} cases{failed}, by {first.workspace} → {stage.previous}")
    return EXIT_SOME_FAILED if failures else EXIT_OK


def _find_first(stage: Stage) -> Stage:
    """The workspace of the first stage, if it can be one."""
    name, stated = load_previous(stage.workspace), (stage.block.get("train") or {}).get("previous")
    if stated != name:
        message = f"{name}, but workspaces.{stage.workspace}.train.previous is {stated}; both name the first stage"
        raise ConfigError(message, path=PARAMS, where=f"{PREVIOUS}.{stage.workspace}.workspace")
    first = Stage(name, stage.name, load_params("workspaces", name))
    evaluate = first.block.get("evaluate") or {}
    faults = {
        "task": "a first stage segments volumes" if first.task != "segmentation" else "",
        "train.previous": "a first stage has no first stage"
        if (first.block.get("train") or {}).get("previous")
        else "",
        "evaluate.clean": "the second stage is shown masks that are not cleaned" if evaluate.get("clean") else "",
    }
    for key, fault in faults.items():
        if fault:
            raise ConfigError(
                f"{fault}; {name} is one of {stage.workspace}", path=PARAMS, where=f"workspaces.{name}.{key}"
            )
    return first


def _require_same_labels(stage: Stage, first: Stage) -> dict[str, Any]:
    """The names by label value, which both stages have."""
    own, other = (parse_json(read_text(place.resampled / "labels.json")) for place in (stage, first))
    if own != other:
        raise DataError(f"{own}, but {first.workspace} has {other}", path=stage.resampled / "labels.json")
    if read_regions(stage.resampled):
        raise DataError("two stages are for classes that exclude each other, not for regions", path=stage.resampled)
    return dict(own)


def _read_folds(first: Stage) -> dict[int, FoldStage]:
    numbers = list_folds(first.workspace)
    if not numbers:
        message = (
            f"{first.workspace} has no folds, which hold out the cases; voxflow folds {first.workspace} 5 makes them"
        )
        raise ConfigError(message, path=PARAMS, where="folds")
    return {number: FoldStage(first.workspace, first.name, first.block, number) for number in numbers}


def _find_model(fold: FoldStage) -> Path:
    """The model of a fold, whose masks must be there, too."""
    model, masks = fold.models / "train" / "model.pt", fold.evaluation / "held_out" / "masks"
    for place, name in ((model, "train"), (masks, "evaluate")):
        if not place.exists():
            raise DataError(f"not there; dvc repro {name}_fold@{fold.title} makes it", path=place)
    return model


def _pair_cases(
    stage: Stage, first: Stage, cases: list[Case], folds: dict[int, FoldStage], fold_of: dict[str, int]
) -> list[Any]:
    """Each case with its images as both workspaces converted them, and the mask of the fold that held it out."""
    names = [(case.id, case.label) for case in cases]
    own, other = (find_native_cases(names, place.volumes, is_mask=True) for place in (stage, first))
    masks = [folds[fold_of[case.id]].evaluation / "held_out" / "masks" / f"{case.id}.nii.gz" for case in cases]
    return list(zip(cases, own, other, masks, strict=True))


if __name__ == "__main__":
    sys.exit(main("previous", run))
