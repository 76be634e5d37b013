"""Owns what a component says of the fields it reads and makes, so that a chain is checked before any data is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

# Arguments that name fields, in both languages; a component that names its fields so need not say more.
READ_ARGUMENTS = (
    "fields",
    "field",
    "applied_keys",
    "applied_key",
    "image_field",
    "label_field",
    "label_key",
    "from_field",
)
NEW_FIELD_ARGUMENTS = ("new_key", "tag", "binary_preds_name", "binary_labels_name", "label_names", "channel_names")

GridShape = tuple[tuple[int, ...], tuple[float, ...]]


class FieldUser:
    """What the check asks every component; the defaults go by the names of its arguments.

    Attributes:
        takes_paths: it reads files: the fields that it reads may still be paths. Every other one needs arrays.
    """

    takes_paths: ClassVar[bool] = False

    def reads(self) -> tuple[str, ...]:
        """The fields that must be there before it runs."""
        return self._field_names(READ_ARGUMENTS)

    def makes(self) -> tuple[str, ...]:
        """The fields that hold values once it has run: new ones, or else those it reads."""
        return self._field_names(NEW_FIELD_ARGUMENTS) or self.reads()

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """Channels of the fields whose number it changes, from those known before it; nothing by default."""
        del channels
        return {}

    def grid_after(self, grid: GridShape) -> GridShape | None:
        """Voxels and spacing in mm of an image along (i, j, k) after it; None: only the data can tell.

        Crops are not asked for theirs: see :meth:`patch`.
        """
        return grid

    def patch(self) -> tuple[int, ...] | None:
        """The size in voxels of what it cuts out; None for all but crops of a fixed size."""
        size = getattr(self, "size", None)
        return size if isinstance(size, tuple) and all(isinstance(n, int) for n in size) else None

    def _field_names(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        names: list[str] = []
        for argument in arguments:
            value = getattr(self, argument, None)
            values = value if isinstance(value, list | tuple) else (value,)
            names += [name for name in values if isinstance(name, str)]
        return tuple(dict.fromkeys(name for name in names if name))
