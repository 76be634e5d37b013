"""Tells whether the channels of a case are swapped, by their intensities alone.

Plan: of each case some thousand points are read in all channels. Each channel gives numbers that hardly depend on its
scale (the form of its histogram) and some that do (what is usual in HU or SUV); each pair of channels gives numbers of
their joint distribution (how bright one is where the other is brightest), which tell MR contrasts of equal histograms
apart. Over the cases, each number has a middle and a spread. A case fits an order of its channels well where its
numbers are near the middles; the order as stated must fit better than any other. How much better it usually fits, and
how much that varies, is measured on the cases themselves: orders that can't be told apart surely are never suspected.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from voxflow.errors import join_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.volumes.volume import Volume

MOST_POINTS = 40_000  # of a case
LEAST_POINTS = 200  # of a case's foreground, below which nothing is told
LEAST_CASES, FEW_CASES = 8, 60
MOST_PERMUTED = 5  # channels whose every order is tried; of more, every exchange of two
FOREGROUND = 0.1  # of the brightness that the brightest hundredth has, all channels together
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BRIGHTEST, DARKEST = 0.95, 0.1  # ranks beyond which a voxel counts as one of a channel's brightest or darkest
# The least spread that is believed, by number: of shares of a histogram, of logarithms of values, and of a pair of
# channels.
LEAST_SPREADS = ((0.02,) * 5 + (0.03,) * 3, (0.02, 0.02, 0.02, 0.05, 0.02, 0.05))
FREEDOM = 4.0  # of Student's t: one odd number of a case outweighs no others
TAILS = (0.3, 99.7)  # percentiles of what one channel is brighter than another
TELLING = 1.5  # spreads, by which a number must differ between two places to say anything of their exchange
SURE_SPREADS = 4.0  # an order is tellable where the stated one fits better by as many spreads, and by
SURE_FIT = 5.0  # as much in logarithms of likelihood
SUSPECTED = 0.4  # of how much better the stated order usually fits, by which another one must fit better


@dataclass(frozen=True)
class ChannelFeatures:
    """The numbers of one case.

    Attributes:
        single: (channels, numbers) of each channel.
        paired: (channels, channels, numbers) of each ordered pair; the diagonal is 0.
    """

    single: NDArray[np.float64]
    paired: NDArray[np.float64]

    def reorder(self, order: Sequence[int]) -> ChannelFeatures:
        """Return the numbers as they would be with the images in another order."""
        index = list(order)
        return ChannelFeatures(self.single[index], self.paired[np.ix_(index, index)])


class ChannelOrder(BaseModel):
    """An order of the channels that can be told from the stated one.

    Attributes:
        order: for each channel, the number of the channel whose image it has.
        margin: how much better the stated order usually fits, in logarithms of likelihood.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: tuple[int, ...]
    margin: float


class ChannelProfile(BaseModel):
    """What the channels of a set of cases are like.

    Attributes:
        names: of the channels, in order.
        cases: how many were measured.
        single, single_spread: (channels, numbers), middle and spread over the cases.
        paired, paired_spread: (channels, channels, numbers), likewise.
        orders: those that can be told from the stated one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...]
    cases: int
    single: tuple[tuple[float, ...], ...]
    single_spread: tuple[tuple[float, ...], ...]
    paired: tuple[tuple[tuple[float, ...], ...], ...]
    paired_spread: tuple[tuple[tuple[float, ...], ...], ...]
    orders: tuple[ChannelOrder, ...] = ()


def measure_channels(volumes: Sequence[Volume]) -> ChannelFeatures | None:
    """Measure one case.

    Args:
        volumes: its channels, which may lie on grids of their own.

    Returns:
        None where there is too little to measure: one channel, one of a single value, hardly any point in common.
    """
    values = _sample(volumes) if len(volumes) > 1 else np.empty((1, 0))
    if values.shape[1] < LEAST_POINTS:
        return None
    low, high = np.percentile(values, (0.5, 99.5), axis=1)
    if not (high > low).all():
        return None
    brightness = np.clip((values - low[:, None]) / (high - low)[:, None], 0, 1).mean(axis=0)
    # Where a channel has its least value, it has no image, such as beyond its field of view.
    is_inside = (brightness > FOREGROUND * np.percentile(brightness, 99)) & (values > values.min(axis=1)[:, None]).all(
        0
    )
    inside = values[:, is_inside]
    if inside.shape[1] < LEAST_POINTS or not (np.ptp(np.percentile(inside, PERCENTILES, axis=1), axis=0) > 0).all():
        return None
    return ChannelFeatures(_describe_singles(inside), _describe_pairs(inside))


def build_profile(
    names: Sequence[str], cases: Sequence[ChannelFeatures], least_cases: int = LEAST_CASES
) -> ChannelProfile | None:
    """Summarise the cases of a data set; some of them may be swapped.

    Args:
        names: of the channels.
        cases: of :func:`measure_channels`.
        least_cases: how many there must be.

    Returns:
        None where there are fewer.
    """
    if len(cases) < least_cases:
        return None
    single, paired = _summarise(cases)
    # Of many cases, one has no weight that is worth leaving it out for.
    summaries = (
        _summarise([*cases[:n], *cases[n + 1 :]]) if len(cases) < FEW_CASES else (single, paired)
        for n in range(len(cases))
    )
    margins = np.array([_compare_orders(case, *summary) for case, summary in zip(cases, summaries, strict=True)])
    orders = [
        ChannelOrder(order=order, margin=round(-float(np.median(column)), 3))
        for order, column in zip(_list_orders(len(names)), margins.T, strict=True)
        if _is_tellable(column)
    ]
    as_lists = [np.round(array, 4).tolist() for array in (*single, *paired)]
    keys = ("single", "single_spread", "paired", "paired_spread")
    content = dict(zip(keys, as_lists, strict=True))
    return ChannelProfile.model_validate({"names": names, "cases": len(cases), "orders": orders, **content})


def find_swap(profile: ChannelProfile, case: ChannelFeatures) -> str:
    """Say which channels of a case look swapped; empty where none do, or where that can't be told.

    Args:
        profile: of the cases that the case should be like.
        case: its measurements, with as many channels.
    """
    single = (np.array(profile.single), np.array(profile.single_spread))
    paired = (np.array(profile.paired), np.array(profile.paired_spread))
    if case.single.shape != single[0].shape:
        return ""
    orders = _list_orders(len(profile.names))
    fits = dict(zip(orders, _compare_orders(case, single, paired), strict=True))
    suspects = [o.order for o in profile.orders if fits[o.order] > SUSPECTED * o.margin]
    if not suspects:
        return ""
    best = max(fits[order] for order in suspects)
    # Of orders that fit about as well, the one that moves the fewest.
    near = [order for order in suspects if fits[order] >= 0.75 * best]
    *_, order = min((sum(n != image for n, image in enumerate(order)), -fits[order], order) for order in near)
    return _describe_order(order, profile.names)


def describe_swap(profile: ChannelProfile, volumes: Sequence[Volume]) -> str:
    """Say which channels of a case look swapped; empty where none do, or where that can't be told.

    Args:
        profile: of the cases that a model learned from.
        volumes: the case's channels, in the model's order.
    """
    features = measure_channels(volumes)
    text = find_swap(profile, features) if features is not None else ""
    return f"{text}, by what the channels of the training's cases are like" if text else ""


def find_swaps(names: Sequence[str], cases: Sequence[ChannelFeatures | None]) -> list[str]:
    """Say of each case of a data set which of its channels look swapped, each judged by all others.

    Args:
        names: of the channels.
        cases: of :func:`measure_channels`; None is never suspected.

    Returns:
        A text a case, see :func:`find_swap`.
    """
    measured = [case for case in cases if case is not None]
    profile = build_profile(names, measured)
    if profile is None:
        return ["" for _ in cases]
    texts: list[str] = []
    for case in cases:
        text = find_swap(profile, case) if case is not None else ""
        if text and case is not None and len(measured) < FEW_CASES:
            # Judged by a summary that the case itself has no part in.
            without = build_profile(names, [other for other in measured if other is not case], LEAST_CASES - 1)
            text = find_swap(without, case) if without else ""
        texts.append(text)
    return texts


def _sample(volumes: Sequence[Volume]) -> NDArray[np.float64]:
    """Values (channels, points) at voxels of the first channel's grid that all reach; of other grids the nearest."""
    first = volumes[0].geometry
    step = max(1, round((np.prod(first.size) / MOST_POINTS) ** (1 / 3)))
    axes = [np.arange(step // 2 if n > step else 0, n, step) for n in first.size]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = first.to_physical(indices.astype(np.float64))
    is_reached = np.ones(len(points), np.bool_)
    sampled: list[NDArray[Any]] = []
    for volume in volumes:
        grid = volume.geometry
        nearest = indices if grid.is_close(first) else np.rint(grid.to_index(points)).astype(np.int64)
        is_reached &= ((nearest >= 0) & (nearest < np.array(grid.size))).all(axis=1)
        i, j, k = np.clip(nearest, 0, np.array(grid.size) - 1).T
        sampled.append(volume.array[i, j, k].astype(np.float64))
    values = np.stack(sampled)
    return values[:, is_reached & np.isfinite(values).all(axis=0)]


def _describe_singles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, *middle, high = np.percentile(values, PERCENTILES, axis=1)
    shares = [(value - low) / (high - low) for value in middle]
    magnitudes = [np.sign(value) * np.log1p(np.abs(value)) for value in (low, middle[2], high)]
    return np.stack([*shares, *magnitudes], axis=1)


def _describe_pairs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    count = len(values)
    ranks = rankdata(values, axis=1) / values.shape[1]
    low, middle, high = np.percentile(values, (1, 75, 99), axis=1)
    spans = np.log(high - low)
    scaled = (values - low[:, None]) / np.maximum(middle - low, 1e-3 * (high - low))[:, None]
    paired = np.zeros((count, count, 6))
    correlation = np.corrcoef(ranks)
    for a in range(count):
        brightest, darkest = ranks[:, ranks[a] > BRIGHTEST], ranks[:, ranks[a] < DARKEST]
        paired[a, :, 0] = correlation[a]
        # A channel of few values may have no rank below a tenth: the middle then says nothing.
        paired[a, :, 1] = brightest.mean(axis=1) if brightest.size else 0.5
        paired[a, :, 2] = darkest.mean(axis=1) if darkest.size else 0.5
        paired[a, :, 3] = spans[a] - spans
        for b in range(count):
            # Enhancing voxels are brighter in one channel than in the other, and hardly any are darker.
            for number, difference in ((4, ranks[a] - ranks[b]), (5, scaled[a] - scaled[b])):
                paired[a, b, number] = np.percentile(difference, TAILS).sum()
        paired[a, :, 5] = np.sign(paired[a, :, 5]) * np.log1p(np.abs(paired[a, :, 5]))
        paired[a, a] = 0
    return np.nan_to_num(paired)


def _summarise(cases: Sequence[ChannelFeatures]) -> tuple[Any, Any]:
    """Middle and spread of the numbers of channels, and of those of pairs."""
    widened = 1 + 2 / len(cases)  # a spread of few cases is known badly
    summaries = []
    for arrays, least in zip(
        ([case.single for case in cases], [case.paired for case in cases]), LEAST_SPREADS, strict=True
    ):
        stack = np.stack(arrays)
        middle = np.median(stack, axis=0)
        spread = 1.4826 * np.median(np.abs(stack - middle), axis=0)
        summaries.append((middle, np.hypot(spread, least) * widened))
    return summaries[0], summaries[1]


def _compare_orders(case: ChannelFeatures, single: Any, paired: Any) -> list[float]:
    """How much better each order fits than the stated one, in logarithms of likelihood."""
    margins = []
    middles = ChannelFeatures(single[0], paired[0])
    spreads = ChannelFeatures(single[1], paired[1])
    for order in _list_orders(len(case.single)):
        moved, expected, spread = (features.reorder(order) for features in (case, middles, spreads))
        margin = 0.0
        for part in ("single", "paired"):
            value, other, middle, wide = (getattr(f, part) for f in (case, moved, middles, spreads))
            # What is much the same in both places would only add chance.
            differs = np.abs(getattr(expected, part) - middle) > TELLING * np.maximum(wide, getattr(spread, part))
            stated, tried = ((v[differs] - middle[differs]) / wide[differs] for v in (value, other))
            margin += float(np.log1p(stated**2 / FREEDOM).sum() - np.log1p(tried**2 / FREEDOM).sum())
        margins.append((FREEDOM + 1) / 2 * margin)
    return margins


def _is_tellable(margins: NDArray[np.float64]) -> bool:
    """Whether the stated order fits better by far, as a rule; margins are negative where it does."""
    middle = float(np.median(margins))
    spread = 1.4826 * float(np.median(np.abs(margins - middle)))
    return -middle > max(SURE_FIT, SURE_SPREADS * spread)


def _list_orders(count: int) -> list[tuple[int, ...]]:
    """All orders of so many channels but the stated one; of many channels only those that exchange two."""
    if count > MOST_PERMUTED:
        return [_swap(count, a, b) for a, b in combinations(range(count), 2)]
    return [order for order in permutations(range(count)) if order != tuple(range(count))]


def _swap(count: int, a: int, b: int) -> tuple[int, ...]:
    return tuple({a: b, b: a}.get(n, n) for n in range(count))


def _describe_order(order: Sequence[int], names: Sequence[str]) -> str:
    """Name the channels that an order moves; ``order`` says in whose place each channel's image lies."""
    # The name under which each moved image lies, and the one that it should have.
    moved = [(names[place], names[channel]) for channel, place in enumerate(order) if channel != place]
    if len(moved) == 2:
        return f"{moved[1][0]} and {moved[0][0]} look swapped"
    return join_names([f"{place} looks like {name}" for place, name in moved], most=MOST_PERMUTED)
