"""Distributes patients over parts so that each part has its share of every trait.

Iterative stratification (after Sechidis, Tsoumakas and Vlahavas 2011) with patients as the items: those with the
rarest trait are dealt first, each to the part that lacks most of what the patient brings, all traits counted. What
proportions alone would leave out is mended by exchanging patients: a trait that enough patients have is in every part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

# How many cases of a patient have each trait.
Traits = Mapping[str, int]


def spread_patients(order: Sequence[str], traits: Mapping[str, Traits], sizes: Mapping[str, int]) -> dict[str, str]:
    """Deal patients to parts.

    Args:
        order: the patients; those before others are dealt first where all else is equal.
        traits: of each patient: how many of its cases have a trait, such as "finding:mass=1".
        sizes: patients by part; where they sum to less than there are patients, the last part takes the others.

    Returns:
        The part of each patient.

    Example:
        >>> traits = {"p": {"mass": 2}, "q": {"mass": 1}, "r": {}, "s": {}}
        >>> parts = spread_patients(list(traits), traits, {"training": 2, "testing": 2})
        >>> parts["p"] != parts["q"]  # each part has a patient with a mass
        True
    """
    dealt = _deal(order, traits, sizes)
    _mend_parts(dealt, order, traits, [part for part, size in sizes.items() if size])
    return dealt


def _deal(order: Sequence[str], traits: Mapping[str, Traits], sizes: Mapping[str, int]) -> dict[str, str]:
    remaining = Counter(trait for patient in order for trait in traits[patient])
    total = max(1, sum(sizes.values()))
    # Patients are dealt, but cases are balanced: a patient with many weighs as much.
    cases = Counter[str]()
    for patient in order:
        cases.update(traits[patient])
    share = {part: size / total for part, size in sizes.items()}
    lacking = {part: {trait: count * share[part] for trait, count in cases.items()} for part in sizes}
    room = dict(sizes)
    last = list(sizes)[-1]
    # Those with many cases come first: later no part has the room for them.
    heavy = sorted(order, key=lambda patient: -sum(traits[patient].values()))
    having = {trait: iter([patient for patient in heavy if trait in traits[patient]]) for trait in remaining}
    dealt: dict[str, str] = {}
    without = iter(order)
    while len(dealt) < len(order):
        rarest = min(
            (trait for trait, count in remaining.items() if count > 0), key=lambda t: (remaining[t], t), default=""
        )
        patient = next(candidate for candidate in having.get(rarest, without) if candidate not in dealt)
        is_open = [part for part in sizes if room[part] > 0] or [last]
        lacks = {p: _measure_lack(lacking[p], share[p], cases, traits[patient]) for p in is_open}
        part = max(is_open, key=lambda p: (lacks[p], room[p]))
        dealt[patient] = part
        room[part] -= 1
        for trait, count in traits[patient].items():
            remaining[trait] -= 1
            lacking[part][trait] -= count
    return dealt


def _measure_lack(lacking: Traits | Mapping[str, float], share: float, cases: Traits, traits: Traits) -> float:
    """How much a part still lacks of what a patient brings: unmet shares, rare traits weighing more."""
    if not traits or not share:
        return 0.0
    return sum(count / cases[trait] * lacking[trait] / (cases[trait] * share) for trait, count in traits.items())


def _mend_parts(
    dealt: dict[str, str], order: Sequence[str], traits: Mapping[str, Traits], parts: Sequence[str]
) -> None:
    """Exchange patients until every part has every trait that as many patients have as there are parts."""
    total = Counter(trait for patient in order for trait in traits[patient])
    cases_by_part = {part: Counter(trait for p in order if dealt[p] == part for trait in traits[p]) for part in parts}
    common = {trait for trait, count in total.items() if count >= len(parts)}
    for trait in sorted(common, key=lambda rare: (total[rare], rare)):
        for part in parts:
            if cases_by_part[part][trait] == 0:
                _exchange(trait, part, dealt, order, traits=traits, cases_by_part=cases_by_part, common=common)


def _exchange(
    trait: str,
    part: str,
    dealt: dict[str, str],
    order: Sequence[str],
    *,
    traits: Mapping[str, Traits],
    cases_by_part: Mapping[str, Counter[str]],
    common: set[str],
) -> None:
    """Bring a patient with ``trait`` to ``part`` for one of its own; no part may lose its only holder of another."""
    givers = [
        p for p in order if trait in traits[p] and dealt[p] in cases_by_part and cases_by_part[dealt[p]][trait] > 1
    ]
    takers = [p for p in order if dealt[p] == part]
    for giver in givers:
        source = dealt[giver]
        for taker in takers:
            leaves = (traits[giver].keys() - traits[taker].keys()) & common
            comes = (traits[taker].keys() - traits[giver].keys()) & common
            if all(cases_by_part[source][moved] > 1 for moved in leaves) and all(
                cases_by_part[part][moved] > 1 for moved in comes
            ):
                dealt[giver], dealt[taker] = part, source
                for moved, out, into in ((giver, source, part), (taker, part, source)):
                    cases_by_part[out].subtract(traits[moved].keys())
                    cases_by_part[into].update(traits[moved].keys())
                return
