"""Reads from a datalist which images a case is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.naming import clean_channel_names

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse_channels(metadata: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[dict[str, Any], ...]]:
    """Read which images a case is made of, from what a datalist says of itself.

    Args:
        metadata: ``channels`` of Voxflow's datalists: the rule of each channel by its name, or a list of names; else
            ``modality`` of the Decathlon's, which names each channel by its number.

    Returns:
        Names in the network's order, cleaned where others' files chose them freely, and the rule of each, if any has
        one; both empty for cases of one image.

    Example:
        >>> parse_channels({"modality": {"0": "FLAIR", "1": "T1w"}})
        (('FLAIR', 'T1w'), ())
        >>> parse_channels({"channels": {"CT": {"modality": "CT"}, "PET": {"modality": "PT"}}})
        (('CT', 'PET'), ({'modality': 'CT'}, {'modality': 'PT'}))
    """
    channels = metadata.get("channels") or metadata.get("modality")
    if isinstance(channels, dict) and all(str(key).isdecimal() for key in channels):
        channels = [name for _, name in sorted((int(key), str(name)) for key, name in channels.items())]
    if isinstance(channels, dict) and not all(isinstance(rule, dict) for rule in channels.values()):
        return (), ()
    rules = list(channels.values()) if isinstance(channels, dict) else []
    names = tuple(str(name) for name in channels) if isinstance(channels, (dict, list)) else ()
    if len(names) < 2 or len(set(names)) < len(names):
        return (), ()
    return clean_channel_names(names), tuple(rules) if any(rules) else ()
