"""What the tests of inference share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.inference.models import write_block_case

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.inference import InferenceCase


@pytest.fixture
def case(tmp_path: Path) -> InferenceCase:
    """An image of one bright block."""
    return write_block_case(tmp_path / "images")
