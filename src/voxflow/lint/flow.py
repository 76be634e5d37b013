"""Fields on their way through a chain of transforms: which transform makes them, which reads them, in which order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxflow.components import FieldUser, RandomTransform
from voxflow.findings import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.components import GridShape
    from voxflow.findings import FindingCollector
    from voxflow.lint.reading import PlacedComponent


@dataclass
class FieldFlow:
    """What is known of a sample while it goes through a chain.

    Attributes:
        paths: fields that are still paths of files.
        values: fields that hold values.
        channels: channels by field, where known.
        loaded: fields that a transform of the chain has loaded.
        is_open: a part whose fields are not known has run, so that any field may be there by now.
    """

    paths: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    channels: dict[str, int] = field(default_factory=dict)
    is_open: bool = False
    loaded: set[str] = field(default_factory=set)

    @property
    def fields(self) -> list[str]:
        """Every field that is there."""
        return sorted(self.paths | self.values)

    def run(self, parts: Iterable[PlacedComponent], notes: FindingCollector) -> None:
        """Send the sample through some transforms, and note each that reads what is not there, or not loaded yet.

        Args:
            parts: the transforms in order; a faulty one is taken to make whatever it names.
            notes: of the configuration.
        """
        for part in parts:
            model = part.model
            if isinstance(model, FieldUser):
                self._read(part, model, notes)
                self._make(model)
            else:
                self._assume(part)

    def _read(self, part: PlacedComponent, model: FieldUser, notes: FindingCollector) -> None:
        for name in model.reads():
            json_path = find_argument(part, name)
            if name not in self.paths | self.values:
                if not self.is_open:
                    message = f"{part.name} reads the field {name!r}, which nothing before it makes"
                    notes.error("field-not-made", json_path, message, suggest_field(name, self.fields))
                self.values.add(name)  # so that the same field is reported once, not at each transform that reads it
            elif name in self.paths and not model.takes_paths:
                message = f"{part.name} needs the image of {name!r}, which is not loaded yet"
                notes.error("not-loaded", json_path, message, f"put a transform that loads {name!r} before it")
            elif model.takes_paths and name in self.loaded & {*model.makes()}:
                message = f"{part.name} loads {name!r}, which is loaded already"
                notes.warning("loaded-twice", json_path, message, "leave one of the two out")

    def _make(self, model: FieldUser) -> None:
        for name in model.makes():
            if model.takes_paths and name in self.paths:
                self.loaded.add(name)
            self._hold(name)
        self.channels |= model.channels_after(self.channels)

    def _hold(self, name: str) -> None:
        self.paths.discard(name)
        self.values.add(name)

    def _assume(self, part: PlacedComponent) -> None:
        """A faulty part has its own finding; what it names is taken as made, so that no other follows from it."""
        guess = FieldUser()
        vars(guess).update({key: value for key, value in part.component.args.items() if key != "size"})
        names = {*guess.reads(), *guess.makes()}
        for name in names or set(self.paths):
            self._hold(name)
            self.channels.pop(name, None)
        self.is_open = True


def check_loaded(flow: FieldFlow, needed: tuple[str, ...], json_path: str, notes: FindingCollector) -> None:
    """Note fields that are still paths of files when a chain ends.

    Args:
        flow: as the chain leaves it.
        needed: fields that must be loaded by now.
        json_path: of the chain.
        notes: of the configuration.
    """
    for name in needed:
        if name in flow.paths and not flow.is_open:
            message = f"no transform loads {name!r}"
            notes.error(
                "not-loaded", json_path, message, f"begin with a transform that loads {name!r}, such as LoadNifti"
            )


def check_not_random(parts: Iterable[PlacedComponent], notes: FindingCollector, purpose: str) -> None:
    """Note random transforms where each run must give the same.

    Args:
        parts: the transforms.
        notes: of the configuration.
        purpose: "validation", where a crop of a fixed size is no fault, since it takes the same place of a case each
            time; or "evaluation".
    """
    for part in parts:
        model = part.model
        if isinstance(model, RandomTransform) and model.is_random and not (purpose == "validation" and model.patch()):
            message = f"{part.name} is random; {purpose} must be the same each time"
            notes.error("random-validation", part.where, message, "take it out of this list")


def follow_grid(parts: list[PlacedComponent], stop: PlacedComponent, grid: GridShape) -> GridShape | None:
    """Follow an image's grid through a chain until it reaches one transform.

    Args:
        parts: the chain.
        stop: the transform.
        grid: voxels and spacing in mm along (i, j, k) at the beginning.

    Returns:
        The grid there; None where a transform before it leaves that open.
    """
    for part in parts:
        if part is stop:
            return grid
        after = part.model.grid_after(grid) if isinstance(part.model, FieldUser) else None
        if after is None:
            return None
        patch = part.model.patch() if isinstance(part.model, FieldUser) else None
        grid = (patch, after[1]) if patch else after
    return grid


def find_argument(part: PlacedComponent, name: str) -> str:
    """The JSON path of the argument that names a field."""
    if part.kind in {"metric", "writer"} and part.component.name.startswith("monai:"):
        # Clara 4 names the fields of metrics and savers by a function; MONAI's own transform that saves, by keys.
        return part.argument("keys" if "post_transforms" in part.where else "output_transform")
    for argument, value in part.component.args.items():
        if value == name or (isinstance(value, list) and name in value):
            return part.argument(argument)
    return part.where


def suggest_field(name: str, fields: list[str]) -> str:
    """Say what to write instead of a field that is not there.

    Example:
        >>> suggest_field("imge", ["image", "label"])
        "write 'image' (there are image, label)"
        >>> suggest_field("pet", ["image", "label"])
        'there are image, label'
    """
    near = suggest(name, fields)
    if near.nearest:
        return f"{near.fix} (there are {', '.join(fields)})" if len(fields) > 1 else near.fix
    return f"there are {', '.join(fields)}" if fields else "make it first"
