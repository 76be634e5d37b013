"""Configurations in the form that NVIDIA published them check clean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.lint.workspace import segmentation, write_files, write_images
from tests.training import test_published_clara as published
from voxflow.lint import check_workspace
from voxflow.planning import find_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("make", [published.smart_cache, published.automl_base, published.federated_base])
def test_published_configurations_have_no_finding(make: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    write_files(tmp_path / "ws", segmentation() | {"config_train.json": make()})
    write_images(tmp_path / "ws" / "data")
    codes = {finding.code for finding in check_workspace(find_target(str(tmp_path / "ws"))).findings}
    # A crop about the centre, which windows over whole volumes make needless, is said.
    assert codes <= {"crop-size"}
