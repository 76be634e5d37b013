"""Turns names of cases, classes and metrics into names of files, columns and metrics; no two of them become one.

People name cases and classes freely; file systems, tables, MLflow and DICOM each take fewer characters, macOS and
Windows know no upper case, and macOS decomposes letters. The rule is one: a name that fits stays as it is. Where two
names would become one, each that had to be changed ends in a digest of its own text, so that it is the same in every
run. Every name of a file, column, metric or segment that is made of a user's name comes from here.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

MAX_BYTES = 200  # of a name that becomes part of longer ones; a file system takes 255 bytes
MAX_METRIC = 240  # MLflow takes 250 characters
DIGEST = 6  # characters of a digest; more where these meet
# What inference writes beside the folders of cases.
RESERVED_CASES = ("overlays", "preds.csv", "preds_outputs.csv", "failures.json")
# Columns that stand beside those called as a classifier's findings.
RESERVED_FINDINGS = ("case", "image", "remark")
PROBABILITY = "probability_"
# What Windows takes in no file's name, control characters, and bytes that are no UTF-8.
_NOT_IN_FILES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+')
MAX_CHANNEL = 64  # characters of a channel's name
# Cells and keys join channels' names by ";", and files of channels are called after them.
_NOT_IN_CHANNELS = re.compile(r"[;/\\]+")
_LONG_PSEUDONYM = re.compile(r"^([0-9a-f]{8})[0-9a-f]{8,}(?=_|$)")
_NOT_IN_METRICS = re.compile(r"[^\w\-. :/]")
_NOT_PRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def shorten_pseudonym(name: str) -> str:
    """The first 8 digits of a pseudonym, which are the whole of one that an earlier version gave.

    Args:
        name: of a patient or a case; one that does not begin with a long pseudonym is returned as it is.

    Example:
        >>> shorten_pseudonym("ffa291df314672ab_2"), shorten_pseudonym("ffa291df_2"), shorten_pseudonym("patient7")
        ('ffa291df_2', 'ffa291df_2', 'patient7')
    """
    return _LONG_PSEUDONYM.sub(r"\1", name)


def fold_name(name: str) -> str:
    """A name as file systems that know no case, or decompose letters, have it.

    Example:
        >>> fold_name("Mu\u0308ller") == fold_name("M\u00dcLLER")
        True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def make_distinct_names(
    names: Iterable[str], rewrite: Callable[[str], str], taken: Collection[str] = ()
) -> dict[str, str]:
    """Rewrite names so that no two become one, also for a file system that knows no case.

    Args:
        names: in any order; which name gets a digest does not depend on it.
        rewrite: what makes a name fit, such as :func:`make_file_name`; idempotent.
        taken: names that none may become.

    Returns:
        For each name what it becomes. Where several would become one, each that is not it itself ends in a digest; of
        names that differ in case only, the first in the alphabet stays.

    Example:
        >>> make_distinct_names(["liver <1", "liver >1", "spleen"], make_file_name)
        {'liver <1': 'liver__1-6b5d39', 'liver >1': 'liver__1-edda3b', 'spleen': 'spleen'}
    """
    plain = {name: rewrite(name) for name in names}
    counts = Counter(fold_name(rewritten) for rewritten in plain.values())
    used = {fold_name(name) for name in taken}
    distinct = {}
    for name in sorted(plain, key=lambda name: (name != plain[name], name)):
        rewritten = plain[name]
        folded = fold_name(rewritten)
        if folded in used or (counts[folded] > 1 and name != rewritten):
            digest = digest_name(name)
            rewritten = next(
                candidate
                for length in range(DIGEST, len(digest) + 1)
                if fold_name(candidate := f"{rewritten}-{digest[:length]}") not in used
            )
        used.add(fold_name(rewritten))
        distinct[name] = rewritten
    return {name: distinct[name] for name in plain}


def digest_name(name: str) -> str:
    """The SHA-256 digest of a name, in hexadecimal digits."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def check_channel_names(names: Sequence[str]) -> None:
    r"""Refuse names of channels that tables and files could not have; for names that the user himself wrote.

    Args:
        names: in the model's order.

    Raises:
        ValueError: one is empty, too long, holds ``;``, ``/``, ``\`` or what is not printed, begins or ends with a
            blank, or two are the same but for upper and lower case.
    """
    spellings: dict[str, str] = {}
    for name in names:
        if not name or name != _clean_channel(name):
            raise ValueError(
                f"a channel is named with 1 to {MAX_CHANNEL} printable letters, none of ; / \\, without blanks around "
                f"them, got {name!r}"
            )
        other = spellings.setdefault(fold_name(name), name)
        if other is not name:
            raise ValueError(f"the channels {other!r} and {name!r} differ in upper and lower case alone")


def clean_channel_names(names: Sequence[str]) -> tuple[str, ...]:
    """Make names that :func:`check_channel_names` takes of those that others' files have.

    Args:
        names: in the model's order.

    Returns:
        ``_`` in the place of letters that may not be; ``channel_N`` for an empty name, N from 0 as nnU-Net counts; a
        number behind a name that stood before.

    Example:
        >>> clean_channel_names(["T1/Gd", "MRI", "mri", " "])
        ('T1_Gd', 'MRI', 'mri 2', 'channel_3')
    """
    unique: dict[str, str] = {}
    for place, name in enumerate(names):
        plain = _clean_channel(name) or f"channel_{place}"
        candidates = (plain, *(f"{plain[: MAX_CHANNEL - 5]} {number}" for number in range(2, len(names) + 2)))
        clean = next(candidate for candidate in candidates if fold_name(candidate) not in unique)
        unique[fold_name(clean)] = clean
    return tuple(unique.values())


def _clean_channel(name: str) -> str:
    printable = "".join(letter if letter.isprintable() else ";" for letter in name.strip())
    return _NOT_IN_CHANNELS.sub("_", printable)[:MAX_CHANNEL].strip()


def make_file_name(name: str) -> str:
    """Replace by ``_`` what does not belong into the name of a file, as in a metric's or a class's name.

    Two names may become one: where there are several, use :func:`name_files`.

    Example:
        >>> make_file_name("dice_kidney (left)"), make_file_name("..")
        ('dice_kidney__left_', '_.')
    """
    composed = unicodedata.normalize("NFC", name)
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in composed)
    return _cut(re.sub(r"^[.-]", "_", plain)) or "_"


def name_files(names: Iterable[str]) -> dict[str, str]:
    """Name the files of classes or metrics, each without its suffix.

    Example:
        >>> name_files(["left kidney", "GTV/28", "GTV 28"])
        {'left kidney': 'left_kidney', 'GTV/28': 'GTV_28-009175', 'GTV 28': 'GTV_28-de6f54'}
    """
    return make_distinct_names(names, make_file_name)


def make_case_name(name: str) -> str:
    r"""Replace by ``_`` what can't be in the name of a case's file; most that people write stays.

    Example:
        >>> make_case_name("O'Brien, CT (1) #2"), make_case_name("-x"), make_case_name("..\n/p1")
        ("O'Brien, CT (1) #2", '_x', '__p1')
    """
    plain = re.sub(r"^[-.\s]+", "_", _NOT_IN_FILES.sub("_", name.strip()))
    return _cut(plain).rstrip(". ") or "_"


def name_cases(names: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Make the ids of cases, which name files, folders and rows, of the names that people gave them.

    Args:
        names: of one list of cases.
        taken: ids of other cases.

    Example:
        >>> name_cases(["CT (1)", "p1/ct", "p1:ct", "overlays"])
        {'CT (1)': 'CT (1)', 'p1/ct': 'p1_ct-3759a9', 'p1:ct': 'p1_ct-b4b134', 'overlays': 'overlays-499285'}
    """
    return make_distinct_names(names, make_case_name, (*RESERVED_CASES, *taken))


def name_classes(names: Sequence[str], *, are_columns: bool = False) -> tuple[str, ...]:
    """Let every class have a name of its own, since classes are told apart by their names in every table.

    Args:
        names: of label values, or of findings, in order; names of one class each stay as they are.
        are_columns: classes are columns of their own, beside ``case`` and others, as a classifier's findings are.

    Returns:
        The names, spaces and line ends as one space. One that is empty becomes ``class_N``; one that an earlier class
        or a column has ends in `` (N)``, where N is its place, counted from 0.

    Example:
        >>> name_classes(["background", "liver", "liver", ""])
        ('background', 'liver', 'liver (2)', 'class_3')
        >>> name_classes(["mass", "case"], are_columns=True)
        ('mass', 'case (1)')
    """
    plain = [" ".join(_NOT_PRINTED.sub(" ", name).split()) or f"class_{n}" for n, name in enumerate(names)]
    taken = set(RESERVED_FINDINGS) | {f"{PROBABILITY}{name}" for name in plain} if are_columns else set()
    # The first class of a name keeps it, wherever another class's number would lead.
    first_places = {_compose(name): n for n, name in reversed(list(enumerate(plain)))}
    distinct: list[str] = []
    for n, name in enumerate(plain):
        candidate = name
        while _compose(candidate) in taken or first_places.get(_compose(candidate), n) != n:
            candidate += f" ({n})"
        taken.add(_compose(candidate))
        distinct.append(candidate)
    return tuple(distinct)


def make_metric_name(name: str) -> str:
    """The name with what MLflow refuses in names (``#``, ``@``, ``(``, ...) replaced by ``_``, and a digest then.

    One metric is recorded by several stages, so that its name follows from itself alone.

    Example:
        >>> make_metric_name("test/dice_left kidney"), make_metric_name("dice_GTV (2)")
        ('test/dice_left kidney', 'dice_GTV _2_-72ba3e')
    """
    plain = _NOT_IN_METRICS.sub("_", name)
    # MLflow takes names for paths, and only those that lead down by one way.
    if posixpath.normpath(plain) != plain or plain.startswith(("/", ".")):
        plain = plain.strip("/. ").replace("/", "_") or "_"
    plain = plain[:MAX_METRIC]
    return plain if plain == name else f"{plain}-{digest_name(name)[:DIGEST]}"


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _cut(name: str) -> str:
    """The first bytes of a name, no letter cut in two."""
    return name.encode("utf-8", "replace")[:MAX_BYTES].decode("utf-8", "ignore")
