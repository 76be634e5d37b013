"""What a component says of the fields that it reads and makes, so that a chain is checked before any data is read."""

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
    """What the check asks of every component; the defaults go by the names of its arguments.

    Attributes:
        takes_paths: it reads files: the fields that it reads may still be paths. Every other one needs arrays.
        sets_intensities: it brings intensities to the scale that the network learns on, so that validation must do the
            same with the same arguments.
        moves_voxels: it moves an image's voxels, so that the mask must go along.

    Example:
        >>> from voxflow.components import create, Component
        >>> cut = Component(name="FastCropByPosNegRatio", args={"fields": "image", "size": [8, 8, 4]})
        >>> crop = create("transform", cut)
        >>> crop.reads(), crop.patch()
        (('image', 'label'), (8, 8, 4))
    """

    takes_paths: ClassVar[bool] = False
    sets_intensities: ClassVar[bool] = False
    moves_voxels: ClassVar[bool] = False

    def reads(self) -> tuple[str, ...]:
        """Return the fields that must be there before it runs.

        By default these are the values of its arguments ``fields``, ``image_field``, ``label_field`` and their like.
        """
        return self._field_names(READ_ARGUMENTS)

    def makes(self) -> tuple[str, ...]:
        """Return the fields that hold values once it has run.

        By default these are the values of its arguments that name new fields (``new_key``, ``tag``, ...), or else the
        fields that it reads.
        """
        return self._field_names(NEW_FIELD_ARGUMENTS) or self.reads()

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """Return the channels of the fields whose number of channels it changes.

        Args:
            channels: how many each field has before it, where that is known.

        Returns:
            The changed fields alone; {} where nothing changes, as by default.
        """
        return {}

    def grid_after(self, grid: GridShape) -> GridShape | None:
        """Voxels and spacing in mm of an image along (i, j, k) after it; None: only the data can tell.

        Crops are not asked for theirs: see :meth:`patch`.
        """
        return grid

    def patch(self) -> tuple[int, ...] | None:
        """Return the size in voxels of what it cuts out, along (i, j, k) or (rows, columns).

        Returns:
            None for all but crops of a fixed size.
        """
        size = getattr(self, "size", None)
        return size if isinstance(size, tuple) and all(isinstance(n, int) for n in size) else None

    def _field_names(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        names: list[str] = []
        for argument in arguments:
            value = getattr(self, argument, None)
            values = value if isinstance(value, list | tuple) else (value,)
            names += [name for name in values if isinstance(name, str)]
        return tuple(dict.fromkeys(name for name in names if name))
