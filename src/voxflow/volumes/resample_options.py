"""The key ``resample`` of a workspace: which grid all volumes are brought to, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from voxflow.errors import ConfigError, DataError, join_names
from voxflow.volumes.files import read_geometry
from voxflow.volumes.overlap import has_overlap
from voxflow.volumes.resampling import Extent, parse_spacing, target_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.geometry import Geometry


# Of an image of median size: a cube of 8 voxels along each edge. A network has nothing to see in less.
FEWEST_VOXELS = 512


class ResampleOptions(BaseModel):
    """The key ``resample`` of a workspace in params.yaml.

    Attributes:
        spacing_mm: volumes: one value (isotropic) or three along (i, j, k) of the new grid; None keeps each
            volume's own.
        most_voxels: volumes with ``spacing_mm: auto``: an image of median size gets no more, as the first of two stages
            needs it (docs/two-stages.md), 512 or more; None: as many as one stage takes.
        orientation: volumes: where (i, j, k) shall increase to, such as "LPS"; None keeps each volume's own.
        extent: volumes: what stays of the covered box, see :func:`voxflow.volumes.target_geometry`.
        reference: volumes: an image file whose grid all are brought to, in place of spacing and orientation; relative
            to the repository. Its voxels are not read.
        onto: volumes of several channels: the name of the channel whose grid decides; None: the first.
        interpolation: of images.
        antialias: volumes: smooth images along the axes that get coarser, before they are sampled.
        label_interpolation: of label maps; neither makes new values, "label" has smoother borders.
        size: radiographs: (rows, columns); None keeps each image's own.
        workers: cases at a time; None: one a processor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spacing_mm: float | tuple[float, ...] | None = None
    most_voxels: int | None = Field(default=None, ge=FEWEST_VOXELS)
    orientation: str | None = None
    extent: Extent = "faces"
    reference: Path | None = None
    onto: str | None = None
    interpolation: Literal["linear", "bspline", "nearest"] = "linear"
    antialias: bool = False
    label_interpolation: Literal["nearest", "label"] = "label"
    size: tuple[PositiveInt, PositiveInt] | None = None
    workers: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        if self.reference is not None and (self.spacing_mm is not None or self.orientation is not None):
            raise ValueError("reference states the whole grid; leave spacing_mm and orientation out")
        if self.antialias and self.interpolation == "nearest":
            raise ValueError("antialias smooths before linear or bspline; nearest takes no part of it")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_first(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What few workspaces have is written where it is; the options of the others are as they were before.
        content: dict[str, Any] = serialise(self)
        return {key: value for key, value in content.items() if key not in ("onto", "most_voxels") or value}

    def find_onto(self, channels: Sequence[str]) -> int:
        """Find the channel whose grid decides.

        Args:
            channels: names of the channels, in order; empty where a case has one, or nobody named them.

        Returns:
            Its number, from 0.

        Raises:
            ConfigError: ``onto`` is the name of none.
        """
        if self.onto is None:
            return 0
        if self.onto not in channels:
            message = f"{self.onto!r} is no channel; expected one of {join_names(channels) or 'several, with names'}"
            raise ConfigError(message, where="resample.onto")
        return list(channels).index(self.onto)

    def choose_grid(self, geometry: Geometry) -> Geometry:
        """Choose the grid to bring an image to.

        Raises:
            DataError: the reference is missing or unreadable, or the image lies wholly outside of it.
        """
        if self.reference is None:
            spacing = None if self.spacing_mm is None else parse_spacing(self.spacing_mm)
            return target_geometry(geometry, spacing, self.orientation, self.extent)
        grid = read_geometry(self.reference)
        if not has_overlap(geometry, grid):
            raise DataError(
                f"the image does not reach the grid of the reference {self.reference}: it lies around "
                f"{_round_mm(_find_centre(geometry))} mm, the reference around {_round_mm(_find_centre(grid))} mm"
            )
        return grid


def _find_centre(geometry: Geometry) -> tuple[float, ...]:
    return tuple(geometry.to_physical((np.array(geometry.size) - 1) / 2).tolist())


def _round_mm(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 3) for value in values)
