"""What the tests of engines that need a GPU export and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxflow.geometry import Geometry
from voxflow.inference import InferenceCase
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def case(tmp_path: Path) -> InferenceCase:
    """A case of noise, to compare engines on."""
    image = np.random.default_rng(0).normal(size=(21, 18, 9)).astype(np.float32)
    write_volume(tmp_path / "a.nii.gz", Volume(image, Geometry.from_parts(image.shape, (1, 1, 2))))
    return InferenceCase("a", (tmp_path / "a.nii.gz",))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The empty folder of an export."""
    folder = tmp_path / "export"
    folder.mkdir()
    return folder
