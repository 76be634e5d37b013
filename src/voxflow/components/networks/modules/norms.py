"""Group normalisation for networks whose layers are too narrow for the groups that were asked for."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def count_groups(channels: int, groups: int) -> int:
    """Return the most groups, up to ``groups``, that a layer's channels can be shared out among evenly.

    Example:
        >>> count_groups(channels=12, groups=8)
        6
    """
    return max(n for n in range(1, min(groups, channels) + 1) if channels % n == 0)


def with_group_norm(network: Net, groups: int) -> Net:
    """Put group normalisation in the place of every batch normalisation, and return the network.

    Args:
        network: built with batch normalisation; changed in place.
        groups: wanted; a layer with fewer channels, or a number that they don't divide by, gets fewer.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                count = count_groups(child.num_features, groups)
                setattr(parent, name, nn.GroupNorm(count, child.num_features))
    return network
