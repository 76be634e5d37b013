"""Swapped channels are told by their intensities: all that can be told are found, and nothing else is suspected."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest

from voxflow.geometry import Geometry
from voxflow.synthetic.head import CONTRASTS, draw_head
from voxflow.volumes import (
    ChannelFeatures,
    ChannelProfile,
    Volume,
    build_profile,
    describe_swap,
    find_swaps,
    measure_channels,
)

CASES = 20
HEAD = Geometry.from_parts((40, 40, 22), (4.6, 4.6, 7.0), (-90, -90, -75))
BODY = Geometry.from_parts((40, 40, 30), (4, 4, 4))


def draw_brain(rng: np.random.Generator) -> list[Volume]:
    """Four contrasts, each on a scale of its own, as MR scanners have them."""
    head = draw_head(rng, HEAD)
    scales = 10 ** rng.uniform(-0.5, 0.5, len(CONTRASTS))
    return [Volume(head.images[name] * np.float32(scale), HEAD) for name, scale in zip(CONTRASTS, scales, strict=True)]


def draw_body(rng: np.random.Generator) -> list[Volume]:
    """A CT in Hounsfield units and a PET in SUV, of bodies and tumours of different sizes, on grids of their own."""
    points = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in BODY.size), indexing="ij"))
    body = ((points / rng.uniform(0.7, 0.95, (3, 1, 1, 1))) ** 2).sum(axis=0) < 1
    lung = ((points - np.array([0.4, 0, 0.2]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < 0.08
    tumour = ((points - rng.uniform(-0.4, 0.4, (3, 1, 1, 1))) ** 2).sum(axis=0) < rng.uniform(0.01, 0.05)
    ct = np.where(tumour, 50, np.where(lung, -800, np.where(body, 40, -1000)))
    pet = np.where(tumour, rng.uniform(4, 15), np.where(body, 1.0, 0.0)) * rng.uniform(0.6, 1.5)
    ct = ct + rng.uniform(5, 30) * rng.standard_normal(BODY.size)
    pet = np.maximum(pet + 0.1 * rng.standard_normal(BODY.size), 0)
    half = Geometry.from_parts((20, 20, 15), (8, 8, 8), (2, 2, 2))
    return [Volume(ct.astype(np.int16), BODY), Volume(pet[::2, ::2, ::2].astype(np.float32), half)]


def draw_twice(rng: np.random.Generator) -> list[Volume]:
    """Two series of one contrast: nothing tells them apart."""
    ct, _ = draw_body(rng)
    return [Volume(ct.array + rng.normal(0, 5, BODY.size), BODY) for _ in range(2)]


DRAWERS = {
    "brain": (draw_brain, tuple(CONTRASTS)),
    "body": (draw_body, ("CT", "PET")),
    "twice": (draw_twice, ("a", "b")),
}


@cache
def measure_cohort(kind: str, seed: int) -> tuple[ChannelFeatures, ...]:
    drawer, _ = DRAWERS[kind]
    features = [measure_channels(drawer(np.random.default_rng([seed, n]))) for n in range(CASES)]
    assert all(case is not None for case in features)
    return tuple(case for case in features if case is not None)


def swap(case: ChannelFeatures, a: int, b: int) -> ChannelFeatures:
    order = [{a: b, b: a}.get(n, n) for n in range(len(case.single))]
    return case.reorder(order)


@pytest.mark.parametrize("kind", ["brain", "body", "twice"])
def test_no_case_in_its_order_is_suspected(kind: str) -> None:
    _, names = DRAWERS[kind]
    assert find_swaps(names, measure_cohort(kind, 1)) == [""] * CASES
    profile = build_profile(names, measure_cohort(kind, 1))
    assert profile is not None
    incoming = measure_cohort(kind, 2)
    assert find_swaps(names, [*measure_cohort(kind, 1), *incoming])[CASES:] == [""] * CASES


@pytest.mark.parametrize(
    ("kind", "a", "b"), [("body", 0, 1), *(("brain", a, b) for a, b in combinations(range(len(CONTRASTS)), 2))]
)
def test_swapped_channels_of_a_cohort_are_found_and_named(kind: str, a: int, b: int) -> None:
    _, names = DRAWERS[kind]
    cases = list(measure_cohort(kind, 1))
    for number in (3, 8, 14):
        cases[number] = swap(cases[number], a, b)
    texts = find_swaps(names, cases)
    assert {number: text for number, text in enumerate(texts) if text} == dict.fromkeys(
        (3, 8, 14), f"{names[a]} and {names[b]} look swapped"
    )


def test_three_channels_in_a_ring_are_named() -> None:
    cases = list(measure_cohort("brain", 1))
    # The image in T1's place is a T2, the one in T2's place a FLAIR, the one in FLAIR's place a T1.
    cases[5] = cases[5].reorder([2, 1, 3, 0])
    (text,) = [text for text in find_swaps(tuple(CONTRASTS), cases) if text]
    assert set(text.split(", ")) == {"T1 looks like T2", "T2 looks like FLAIR", "FLAIR looks like T1"}


def test_a_new_case_is_judged_by_the_profile_that_a_model_keeps() -> None:
    profile = build_profile(("CT", "PET"), measure_cohort("body", 1))
    assert profile is not None
    kept = ChannelProfile.model_validate(profile.model_dump(mode="json"))
    ct, pet = draw_body(np.random.default_rng(77))
    assert describe_swap(kept, [ct, pet]) == ""
    assert describe_swap(kept, [pet, ct]).startswith("CT and PET look swapped")


def test_what_nobody_could_tell_is_said_and_never_suspected() -> None:
    cases = list(measure_cohort("twice", 1))
    profile = build_profile(("a", "b"), cases)
    assert profile is not None
    assert profile.orders == ()
    assert find_swaps(("a", "b"), [swap(cases[0], 0, 1), *cases[1:]]) == [""] * CASES


def test_few_cases_and_empty_channels_give_no_verdict() -> None:
    assert build_profile(("CT", "PET"), measure_cohort("body", 1)[:7]) is None
    empty = Volume(np.zeros(BODY.size, np.int16), BODY)
    assert measure_channels([empty, empty]) is None
    assert measure_channels(draw_body(np.random.default_rng(0))[:1]) is None
