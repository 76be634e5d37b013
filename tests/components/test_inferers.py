"""Inferers: windows that slide give what one pass over the whole image gives, where the network is local."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from voxflow.components import Component, create
from voxflow.errors import ConfigError


def build(name: str, **args: object) -> Any:
    return create("inferer", Component(name=name, args=args))


class Local(torch.nn.Module):
    """Two logits of each voxel alone, and of the window's size nothing."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image * 2, 1 - image], 1)


@pytest.mark.parametrize("size", [(24, 20, 16), (9, 20, 30)])
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_of_a_local_network_make_the_whole(size: tuple[int, ...], batch: int) -> None:
    image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
    windows = build("TFScanWindowInferer", roi_size=[16, 12, 8], batch_size=batch)
    torch.testing.assert_close(windows.infer(Local(), image), build("TFSimpleInferer").infer(Local(), image))


def test_no_window_is_larger_than_asked_for() -> None:
    shapes: list[torch.Size] = []

    def network(image: torch.Tensor) -> torch.Tensor:
        shapes.append(image.shape)
        return functional.pad(image, (0, 0))

    build("TFScanWindowInferer", roi_size=[16, 16, 16], batch_size=2).infer(network, torch.zeros(1, 1, 40, 16, 16))
    assert {shape[2:] for shape in shapes} == {(16, 16, 16)}
    assert max(shape[0] for shape in shapes) == 2


def test_a_window_has_three_positive_sides() -> None:
    with pytest.raises(ConfigError, match=r"roi_size\.0: Input should be greater than 0"):
        build("TFScanWindowInferer", roi_size=[0, 16, 16])
