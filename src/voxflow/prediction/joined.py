"""Joins the masks of a joined model's parts, such as TotalSegmentator's: a later one covers the earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.prediction.labels import label_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from voxflow.prediction.preparation import PreparedImage
    from voxflow.spec import ModelPart, ModelSpec


def write_over(joined: NDArray[Any], mask: NDArray[Any], part: ModelPart) -> None:
    """Write a part's mask over the joined one, in place; its background leaves what is there.

    Args:
        joined: label values (i, j, k) of the joined model.
        mask: label values (i, j, k) of the part.
        part: says which value each of its classes has in the joined model.

    Example:
        >>> from voxflow.spec import ModelPart
        >>> part = ModelPart.model_construct(values=(0, 3, 0, 4))
        >>> joined = np.array([1, 1, 1, 2])
        >>> write_over(joined, np.array([0, 1, 2, 3]), part)
        >>> joined
        array([1, 3, 1, 4])
    """
    values = np.array(part.values, dtype=joined.dtype)[mask]
    np.copyto(joined, values, where=values > 0)


def make_joined_mask(prepared: PreparedImage, spec: ModelSpec) -> NDArray[Any]:
    """Make the empty mask (i, j, k) of a joined model, on the grid of the image that came in."""
    return np.zeros((prepared.whole or prepared.native).size, dtype=label_type(spec))


def count_other_bytes(prepared: PreparedImage, images: Iterable[PreparedImage]) -> int:
    """Count the bytes of the images of other parts that are held beside one, each image once."""
    others = {id(image.image): image.image.nbytes for image in images if image.image is not prepared.image}
    return sum(others.values())


def name_values(part: ModelPart, spec: ModelSpec) -> dict[str, str]:
    """Name the classes of a part, where they are written, as the joined model does."""
    pairs = zip(part.spec.class_names, part.values, strict=True)
    return {name: spec.class_names[value] for name, value in pairs if value}
