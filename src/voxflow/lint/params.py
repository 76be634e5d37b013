"""The check of a workspace's block of params.yaml: each stage's options, and what they say of one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.findings import suggest
from voxflow.places import PARAMS, Places, read_params, read_workspaces
from voxflow.planning import find_workspace_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from voxflow.dicom import ConvertOptions
    from voxflow.findings import FindingCollector
    from voxflow.lint.report import CheckReport
    from voxflow.volumes import ResampleOptions


# The keys of params.yaml, and of a workspace's block; other programs of the user's may not put theirs between them.
TOP_KEYS = ("samples", "pacs", "dask", "limits", "workspaces", "folds", "ensembles", "previous")
BLOCK_KEYS = (
    *(
        "task",
        "source",
        "kind",
        "trust",
        "ingest",
        "answer",
        "corrections",
        "monitor",
        "convert",
        "validate",
        "resample",
        "split",
    ),
    *("train", "export", "evaluate", "infer", "promote", "report"),
)


def check_params(
    workspace: str, report: CheckReport, further_models: Mapping[str, type[BaseModel]] | None = None
) -> None:
    """Note what is wrong with the options of a workspace's stages, but for what training itself checks.

    Args:
        workspace: as the user named it; a folder that is none of params.yaml has no options.
        report: gets the findings, after those of other files.
        further_models: of further keys of the block, such as ``ingest``.
    """
    name = find_workspace_name(workspace)
    block = read_workspaces()[name] if name else None
    if not isinstance(block, dict):
        return
    _check_keys(read_params(), TOP_KEYS, "", report.at(PARAMS))
    _check_keys(block, BLOCK_KEYS, f"workspaces.{name}", report.at(PARAMS))
    # Imported here, since they take longer than the check of an MMAR without a params.yaml.
    from voxflow.datalist import SplitOptions
    from voxflow.dicom import ConvertOptions
    from voxflow.quality import ValidateOptions
    from voxflow.volumes import ResampleOptions

    places, notes = Places(name, _without_auto_spacing(block)), report.at(PARAMS)
    convert = places.check_options("convert", ConvertOptions, notes)
    places.check_options("validate", ValidateOptions, notes)
    resample = places.check_options("resample", ResampleOptions, notes)
    split = places.check_options("split", SplitOptions, notes)
    _check_later_stages(places, further_models or {}, notes)
    if convert and convert.channels:
        _check_order(places, convert, notes)
    if convert and resample and resample.onto:
        _check_onto(places, convert, resample, notes)
    _check_previous(name, block, notes)
    if split and split.testing == "dataset":
        _check_test_part(places, notes)
    report.sort()


def _check_later_stages(places: Places, further_models: Mapping[str, type[BaseModel]], notes: FindingCollector) -> None:
    """Note what is wrong with the options of training and of the stages after it, and with those of further keys."""
    from voxflow.evaluation import EvaluateOptions
    from voxflow.export import ExportOptions
    from voxflow.inference import InferOptions
    from voxflow.promotion import PromoteOptions
    from voxflow.reporting import ReportOptions
    from voxflow.training import TrainOptions

    models: dict[str, type[BaseModel]] = {"promote": PromoteOptions, "report": ReportOptions, **further_models}
    if places.block.get("kind") != "bundle":  # whose programs have options of their own
        models |= {"train": TrainOptions, "export": ExportOptions, "evaluate": EvaluateOptions, "infer": InferOptions}
    for key, model in models.items():
        if places.block.get(key):
            places.check_options(key, model, notes)


def _check_keys(values: Mapping[str, object], known: Sequence[str], place: str, notes: FindingCollector) -> None:
    """Note keys that nothing reads, each with the nearest one that is read."""
    for key in values:
        if key not in known:
            where = f"{place}.{key}" if place else str(key)
            notes.error("unknown-key", where, "nothing reads this key", suggest(str(key), known, present=values))


def _without_auto_spacing(block: dict[str, object]) -> dict[str, object]:
    """The block as the stages parse it: they put the median in the place of ``resample.spacing_mm: auto``."""
    resample = block.get("resample")
    if not isinstance(resample, dict) or resample.get("spacing_mm") != "auto":
        return block
    return {**block, "resample": {**resample, "spacing_mm": None}}


def _check_order(places: Places, convert: ConvertOptions, notes: FindingCollector) -> None:
    """Note that the channels of the converted cases are in another order, which DVC does not see."""
    from voxflow.images import describe_reordered_channels

    message = describe_reordered_channels(list(convert.channels or ()), places.volumes)
    if message:
        fix = f"run dvc repro --force convert@{places.workspace}"
        notes.error("wrong-value", f"workspaces.{places.workspace}.convert.channels", message, fix)


def _check_onto(places: Places, convert: ConvertOptions, resample: ResampleOptions, notes: FindingCollector) -> None:
    """Note a channel that there is not, as far as rules or the converted cases tell the channels."""
    from voxflow.images import read_channel_rules

    channels = list(convert.channels or ())
    is_converted = (places.volumes / "cases.csv").is_file()
    if not channels and is_converted:
        channels = list(read_channel_rules(places.volumes))
    if resample.onto in channels or not (channels or is_converted):
        return
    message = f"{resample.onto!r} is no channel" + ("" if channels else ": the cases have one image")
    fix = suggest(str(resample.onto), channels) if channels else "leave it out"
    notes.error("wrong-value", f"workspaces.{places.workspace}.resample.onto", message, fix)


def _check_previous(name: str, block: Mapping[str, object], notes: FindingCollector) -> None:
    """Note two stages of which params.yaml says only a part, before the first one is trained for nothing."""
    train, entries = block.get("train"), read_params().get("previous")
    first = train.get("previous") if isinstance(train, dict) else None
    entry = entries.get(name) if isinstance(entries, dict) else None
    where = f"workspaces.{name}.train.previous"
    if first is None and entry is not None:
        message = f"previous.{name} names a first stage, but this key does not"
        notes.error("wrong-value", where, message, f"write the same workspace, or take out previous.{name}")
    elif first is not None and first not in map(str, read_workspaces()):
        notes.error("wrong-value", where, f"no workspace {first!r}", suggest(str(first), map(str, read_workspaces())))
    elif first is not None and entry != {"workspace": first}:
        message = f"{first!r} is the first stage, but previous.{name} does not say so"
        notes.error("wrong-value", where, message, f"write previous: {name}: {{workspace: {first}}}")


def _check_test_part(places: Places, notes: FindingCollector) -> None:
    """Note that the data set has no test part of its own, once its cases are there."""
    from voxflow.datalist import NO_TEST_PART, TESTING
    from voxflow.tables import FINDING_PREFIX, read_rows

    rows = read_rows(places.resampled / "cases.csv") or read_rows(places.volumes / "cases.csv")
    if rows is None or any(
        row.get("subset") == TESTING and any(v for k, v in row.items() if k == "label" or k.startswith(FINDING_PREFIX))
        for row in rows
    ):
        return
    fix = "write a share of the patients, such as 0.2"
    notes.error("wrong-value", f"workspaces.{places.workspace}.split.testing", NO_TEST_PART, fix)
