"""Values beside the components: globals, seeds, and arguments on which two sections should agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.components import CenterData
from voxflow.findings import show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.findings import FindingCollector
    from voxflow.lint.data import WorkspaceData
    from voxflow.lint.reading import ConfigReading, PlacedComponent

MAX_SEED = 2**32 - 1  # NumPy takes no more
NUMBERS = ("epochs", "num_training_epoch_per_valid", "learning_rate", "batch_size", "num_workers")
SEEDS = ("random_seed", "numpy_seed", "tf_seed")


def check_globals(config: Mapping[str, Any], notes: FindingCollector) -> None:
    """Note values at a configuration's top level that are read, but hardly meant so, such as numbers in quotes.

    Args:
        config: the content, with what the environment sets.
        notes: of the configuration.
    """
    for key in NUMBERS:
        _check_text(config.get(key), key, notes)
    for key in ("multi_gpu", "use_amp"):
        if isinstance(config.get(key), str) and not _is_variable(config[key]):
            notes.warning("wrong-type", key, f"the text {config[key]!r}", "write true or false, without quotes")
    epochs, every = config.get("epochs"), config.get("num_training_epoch_per_valid")
    if epochs and every and _is_number(epochs) and _is_number(every) and 0 < epochs < every:
        message = f"{every}, but there are {epochs} epochs: validation runs after the last one only"
        notes.warning("no-validation", "num_training_epoch_per_valid", message, f"write {epochs} or less")
    seeds = config.get("determinism")
    if isinstance(seeds, dict):
        _check_seeds(seeds, notes)


def _check_seeds(seeds: Mapping[str, Any], notes: FindingCollector) -> None:
    python = seeds.get("python_seed")
    if _is_number(python):
        notes.warning("determinism", "determinism.python_seed", f"the number {python}", f'write "{python}": a string')
    for key in SEEDS:
        value, json_path = seeds.get(key), f"determinism.{key}"
        _check_text(value, json_path, notes)
        if isinstance(value, bool):
            notes.error("determinism", json_path, f"expected a whole number, received {value}", "write a number")
        elif isinstance(value, int) and not 0 <= value <= MAX_SEED:
            notes.error("determinism", json_path, f"{value} is no seed", f"write a number from 0 to {MAX_SEED}")


def _check_text(value: Any, json_path: str, notes: FindingCollector) -> None:
    if isinstance(value, str) and not _is_variable(value) and not notes.has(json_path):
        notes.warning("wrong-type", json_path, f"the text {show(value)}", "write a number, without quotes")


def _is_variable(value: str) -> bool:
    return "{" in value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_preparation(reading: ConfigReading, evaluation: ConfigReading | None) -> None:
    """Note an intensity transform whose arguments differ between training, validation and evaluation.

    Args:
        reading: the training configuration.
        evaluation: that of validation and inference; None: there is none.
    """
    learnt = reading.parts_of("train", "pre_transforms")
    _compare_arguments(learnt, reading.parts_of("validate", "pre_transforms"), reading.notes, "train.pre_transforms")
    if evaluation:
        _compare_arguments(
            learnt, evaluation.parts_of("evaluate", "transforms"), evaluation.notes, f"{reading.path.name}"
        )


def _compare_arguments(
    learnt: list[PlacedComponent], used: list[PlacedComponent], notes: FindingCollector, source: str
) -> None:
    before = _group_intensities(learnt)
    after = _group_intensities(used)
    for name, parts in after.items():
        if name not in before or len(before[name]) != len(parts):
            continue
        for part, model in zip(parts, before[name], strict=True):
            for argument, value in _arguments(part).items():
                expected = _arguments(model).get(argument)
                if expected != value:
                    message = f"{show(value)}, but the model learns with {show(expected)} ({source})"
                    notes.warning("preparation", part.argument(argument), message, f"write {show(expected)}")


def _group_intensities(parts: list[PlacedComponent]) -> dict[str, list[PlacedComponent]]:
    parts_by_name: dict[str, list[PlacedComponent]] = {}
    for part in parts:
        if part.model and part.model.sets_intensities:
            parts_by_name.setdefault(part.name, []).append(part)
    return parts_by_name


def _arguments(part: PlacedComponent) -> dict[str, Any]:
    return part.model.model_dump(exclude={"fields"}) if part.model else {}


def check_masks_follow(reading: ConfigReading) -> None:
    """Note a transform that moves the image's voxels and leaves the label's where they were."""
    if reading.task != "segmentation":
        return
    for section in ("train", "validate"):
        for part in reading.parts_of(section, "pre_transforms"):
            if part.model is None or not part.model.moves_voxels:
                continue
            reads = part.model.reads()
            if "image" in reads and "label" not in reads:
                message = f"{part.name} moves the image's voxels, but not the label's"
                notes = reading.notes
                notes.error("mask-left-behind", part.argument("fields"), message, 'write ["image", "label"]')


def check_depth(reading: ConfigReading, data: WorkspaceData) -> None:
    """Warn about 8-bit values in a data set of 16-bit radiographs.

    A fixed mean below 256 for images that hold up to 65535 centres nothing.
    """
    for section in ("train", "validate"):
        bits = {header.bits for _, header in data.grids(section) if header.colour == "grey"}
        for part in reading.parts_of(section, "pre_transforms"):
            model = part.model
            if not isinstance(model, CenterData) or not model.subtrahend or 16 not in bits:
                continue
            if max(model.subtrahend) <= 255:
                message = f"{list(model.subtrahend)}, but the PNGs hold up to 65535 (16 bits)"
                fix = "leave it out (each image's own mean), or give a value of 16 bits"
                reading.notes.warning("png-depth", part.argument("subtrahend"), message, fix)
