"""nnU-Net in an environment of its own, as the tests of layouts have it, and what MONAI takes of scikit-image."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.adopt.small_objects import label_components, remove_small_objects
from tests.layouts.conftest import nnunet_python

__all__ = ["monai_components", "nnunet_python"]


@pytest.fixture
def monai_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI counts components by scikit-image, which is not among the tests' packages; what stands in does the same."""
    from monai.transforms import utils

    if not utils.has_measure:
        monkeypatch.setattr(utils, "measure", SimpleNamespace(label=label_components))
        monkeypatch.setattr(utils, "has_measure", True)
    if not utils.has_morphology:
        monkeypatch.setattr(utils, "morphology", SimpleNamespace(remove_small_objects=remove_small_objects))
        monkeypatch.setattr(utils, "has_morphology", True)
