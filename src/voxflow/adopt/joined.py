"""Joins several result folders of nnU-Net into one model, as TotalSegmentator joins the five parts of its task total.

After totalsegmentator/nnunet.py (Apache-2.0, Jakob Wasserthal): the parts are run one after the other, and each class
is written under its value in the class map of all, so that a later part covers an earlier one.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxflow.adopt.class_maps import read_class_maps
from voxflow.adopt.model import AdoptedModel
from voxflow.adopt.nnunet import find_result_folder, read_nnunet
from voxflow.adopt.original import OriginalRun
from voxflow.components import Component, join_parts
from voxflow.errors import ConfigError, DataError, join_names
from voxflow.prediction import write_over
from voxflow.spec import ModelPart, ModelSpec
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.adopt.class_maps import ClassMaps
    from voxflow.adopt.original import Original

# The folder of a data set, such as Dataset291_TotalSegmentator_part1_organs_1559subj.
_DATASET = re.compile(r"Dataset(\d{3,5})_")
MOST_NAMES = 5  # that one message lists


@dataclass(frozen=True)
class _Part:
    """A model, and the names of its classes in the joined model by its own label values."""

    folder: Path
    model: AdoptedModel
    names: Mapping[int, str]
    place: tuple[str, int] | None = None  # in TotalSegmentator's table of parts: its map, and which one it is


@dataclass(frozen=True)
class JoinedOriginal:
    """nnU-Net itself, with several result folders, whose masks are joined.

    Attributes:
        python: see :class:`Original`.
        parts: each result folder, in the order of the spec's parts.
        spec: of the joined model.
        ending: of the masks.
    """

    python: str
    parts: tuple[Original, ...]
    spec: ModelSpec
    ending: str

    def segment(self, cases: Mapping[str, Sequence[Path]], out: Path, *, keeps_arrays: bool = False) -> OriginalRun:
        """See :meth:`Original.segment`; arrays are not kept, since each part has its own.

        Raises:
            DataError: the program could not be run.
        """
        total, seconds = 0.0, dict.fromkeys(cases, 0.0)
        failures: dict[str, str] = {}
        masks: dict[str, Volume] = {}
        for original, part in zip(self.parts, self.spec.parts, strict=True):
            with tempfile.TemporaryDirectory() as scratch:
                run = original.segment(cases, Path(scratch))
                for case in cases.keys() - run.failures.keys():
                    mask = read_volume(Path(scratch) / f"{case}{self.ending}")
                    empty = np.zeros(mask.array.shape, dtype=np.uint16)
                    write_over(masks.setdefault(case, Volume(empty, mask.geometry)).array, mask.array.astype(int), part)
            total += run.total_seconds
            seconds = {case: value + run.seconds.get(case, 0.0) for case, value in seconds.items()}
            failures |= run.failures
        for case in masks.keys() - failures.keys():
            write_volume(out / f"{case}{self.ending}", masks[case])
        return OriginalRun(total, seconds, failures)


def read_joined(
    folders: Sequence[Path], folds: Sequence[str] = (), checkpoint: str | None = None, classes: str | None = None
) -> AdoptedModel:
    """Read several result folders of nnU-Net v2 as one model, whose mask has the classes of all.

    Args:
        folders: as of :func:`read_nnunet`. A class of a later one is written over those of the earlier ones. Where the
            class map has TotalSegmentator's table of parts, and it lists all folders, its order counts.
        folds: of each; see there.
        checkpoint: of each; see there.
        classes: the class map of the joined mask, ``FILE:NAME``; None: the classes are numbered in the folders' order.

    Raises:
        DataError: a folder can't be adopted, the folders take different images, or a class has no value in the map.
    """
    found = [find_result_folder(folder) for folder in folders]
    for number, folder in enumerate(found):
        if folder.resolve() in {earlier.resolve() for earlier in found[:number]}:
            raise ConfigError("is named twice", path=folder)
    maps, name = read_class_maps(classes) if classes else (None, "")
    parts = [_read_part(folder, folds, checkpoint, maps) for folder in found]
    for part in parts[1:]:
        _require_alike(parts[0], part)
    if all(part.place for part in parts):
        parts.sort(key=lambda part: part.place[1] if part.place else 0)
    joined = _choose_classes(parts, maps, name)
    values = {name: value for value, name in joined.items()}
    spec = _make_spec(parts, joined, values)
    networks = [{"name": part.model.component.name, "args": part.model.component.args} for part in parts]
    counts = {"in_channels": spec.in_channels, "num_classes": spec.out_channels}
    first = parts[0].model
    return AdoptedModel(
        network=join_parts([part.model.network for part in parts]).eval(),
        component=Component(name="NnunetParts", args={**counts, "parts": networks}),
        spec=spec,
        epochs=first.epochs,
        file_ending=first.file_ending,
        notes=_list_notes(parts, joined),
        parts=tuple(part.model for part in parts),
    )


def _read_part(folder: Path, folds: Sequence[str], checkpoint: str | None, maps: ClassMaps | None) -> _Part:
    """A part, with the names that TotalSegmentator's table gives its classes; else those of its dataset.json."""
    model = read_nnunet(folder, folds, checkpoint)
    if model.spec.previous or model.spec.regions:
        kind = "a cascade" if model.spec.previous else "a model of regions"
        raise DataError(f"{kind} can't be a part of a joined model; adopt it as a workspace of its own", path=folder)
    values = range(1, model.spec.out_channels)
    numbers = [match[1] for path in (folder, *folder.parents) if (match := _DATASET.match(path.name))]
    place = maps.find_part(int(numbers[0])) if maps and numbers else None
    if maps is None or place is None:
        return _Part(folder, model, {value: model.spec.class_names[value] for value in values})
    names = maps.choose(place[0], values)
    unknown = sorted(names.keys() - {0, *values})
    if unknown:
        message = f"{place[0]} names the label value {unknown[0]}; the model has 1 to {values.stop - 1}"
        raise DataError(message, path=folder)
    return _Part(folder, model, {value: name for value, name in names.items() if value}, place)


def _require_alike(first: _Part, part: _Part) -> None:
    """Refuse a part that takes other images than the first one."""
    for key in ("image_count", "channels", "orientation"):
        expected, received = getattr(first.model.spec, key), getattr(part.model.spec, key)
        if expected != received:
            message = f"takes other images than {first.folder}: its {key} is {received!r} instead of {expected!r}"
            raise DataError(message, path=part.folder)
    if part.model.file_ending != first.model.file_ending:
        message = f"is of files {part.model.file_ending}, and {first.folder} of {first.model.file_ending}"
        raise DataError(message, path=part.folder)


def _choose_classes(parts: Sequence[_Part], maps: ClassMaps | None, name: str) -> dict[int, str]:
    """The names of the joined mask's classes by label value."""
    names = list(dict.fromkeys(name for part in parts for name in part.names.values()))
    if maps is None:
        return dict(enumerate(names, 1))
    joined = {value: text for value, text in maps.choose(name, range(1, len(names) + 1)).items() if value}
    if sorted(joined) != list(range(1, len(joined) + 1)) or len(set(joined.values())) < len(joined):
        message = "the class map of a joined mask has the values 1, 2, 3 and so on, and each name once"
        raise DataError(message, path=maps.path, where=name)
    for part in parts:
        unknown = [text for text in part.names.values() if text not in joined.values()]
        if unknown:
            message = f"the class map has no class {join_names(unknown, MOST_NAMES)}, as {part.folder} has it"
            raise DataError(message, path=maps.path, where=name)
    return joined


def _make_spec(parts: Sequence[_Part], joined: Mapping[int, str], values: Mapping[str, int]) -> ModelSpec:
    first = parts[0].model.spec
    return ModelSpec(
        task="segmentation",
        in_channels=first.in_channels,
        class_names=("background", *(joined[value] for value in sorted(joined))),
        activation="softmax",
        orientation=first.orientation,
        modality=first.modality,
        channels=first.channels,
        parts=tuple(
            ModelPart(
                spec=part.model.spec,
                values=tuple(
                    values[part.names[value]] if value in part.names else 0
                    for value in range(part.model.spec.out_channels)
                ),
            )
            for part in parts
        ),
    )


def _list_notes(parts: Sequence[_Part], joined: Mapping[int, str]) -> tuple[str, ...]:
    """What a person would not expect: the order where it is another one, and classes that are never written."""
    notes = ["parts are written over each other in this order: " + ", ".join(_name(part) for part in parts)]
    written = {name for part in parts for name in part.names.values()}
    absent = [name for name in joined.values() if name not in written]
    if absent:
        notes.append(f"no part has {join_names(absent, MOST_NAMES)}")
    for part in parts:
        unnamed = [str(value) for value in range(1, part.model.spec.out_channels) if value not in part.names]
        if unnamed:
            notes.append(f"{_name(part)}: its label values {join_names(unnamed, MOST_NAMES)} have no name: left out")
    return tuple(notes)


def _name(part: _Part) -> str:
    """The data set's folder, or the result folder."""
    folder = part.folder.resolve()
    return next((path.name for path in (folder, *folder.parents) if _DATASET.match(path.name)), folder.name)
