"""What the headers of MetaImage and NRRD files name and claim, checked before ITK opens anything.

ITK takes memory for whatever a header claims, opens whatever file it names, fills a pattern of names by C's printf, and
looks at no checksum: where compressed voxels of a MetaImage are damaged, it returns what its memory held, and of NRRD
it leaves the last bytes unread. So the names are read here first. They may mean files beside the header or below it;
the voxels are counted, and compressed ones are inflated once more, in pieces that are dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import describe_special_file
from voxflow.geometry import LARGEST_MM

if TYPE_CHECKING:
    from collections.abc import Sequence

BUFFER = 1 << 16  # deflate makes at most 66 MB of it
MOST_TEXT = 1 << 20  # bytes of a header
# ITK compares each key of a header with all before it: 8,000 take four seconds. A segmentation has eight a segment.
MOST_LINES = 5_000
MOST_FILES = 10_000  # of slices
MOST_LINE = 500  # characters of a field of NRRD; directions of 17 digits take 250
MOST_NAME = 255  # bytes
MOST_DEFLATED = 1100  # deflate makes at most 1032 bytes of one
SLACK = 1 << 26  # bytes behind the voxels
ZLIB, GZIP = 15, 31  # what zlib calls its own format and gzip's (wbits)
META_SUFFIXES, NRRD_SUFFIXES = (".mha", ".mhd"), (".nrrd", ".nhdr")

# MetaIO takes a colon for an equals sign, and both formats know lines that end in a carriage return.
_META_KEYS = (
    *("ElementDataFile", "CompressedData", "NDims", "Offset", "Position", "Origin"),
    *("ElementSpacing", "ElementSize", "TransformMatrix", "Orientation", "Rotation"),
)
_META_FIELD = re.compile(rf"(?:(?<=[\r\n])|^)[ \t]*({'|'.join(_META_KEYS)})[ \t]*[=:][ \t]*([^\r\n]*)(?:\r?\n|\r|$)")
_FREE_LINE = re.compile(r"#|content:|[^:]*:=")
_NRRD_FIELD = re.compile(r"(?:(?<=[\r\n])|^)([^\r\n:#]*):[ \t]*([^\r\n]*)")
_LIST = re.compile(r"^data ?file:[ \t]*LIST", re.IGNORECASE | re.MULTILINE)
_NUMBERED = re.compile(r"[^%]*%0?\d?\d?d[^%]*")


@dataclass(frozen=True)
class StoredVoxels:
    """Where the voxels of an image stand.

    Attributes:
        files: that hold them, in order; the header's own file where they follow it.
        begin: byte of the first file from which on they do.
        deflate: how they are compressed: zlib's wbits, or 0.
        is_plain: nothing is skipped and all is stored as the header says, so that checksums can be held against it.
    """

    files: tuple[Path, ...]
    begin: int = 0
    deflate: int = 0
    is_plain: bool = True

    @property
    def byte_count(self) -> int:
        """Bytes of the files, as they are stored."""
        return sum(file.stat().st_size for file in self.files)

    def require_room(self, values: int, value_bytes: int) -> None:
        """Refuse a claim of more voxels than the files can hold.

        Args:
            values: numbers that the header claims.
            value_bytes: of one of them.

        Raises:
            DataError: there are fewer.
        """
        # As text, a number takes two characters with the blank behind it.
        most = self.byte_count * MOST_DEFLATED // value_bytes if self.deflate else self.byte_count
        if values > most:
            message = f"{values * value_bytes} bytes of voxels are claimed and the file has {self.byte_count}"
            raise DataError(f"unreadable image: damaged, or it ends early: {message}")

    def require_intact(self, byte_count: int) -> None:
        """Refuse compressed voxels that are damaged, cut off, or far more than the header says.

        Args:
            byte_count: of all voxels, as the header says.

        Raises:
            DataError: they are not whole.
        """
        if self.deflate and self.is_plain:
            for file in self.files:
                _inflate(file, self.begin if file == self.files[0] else 0, self.deflate, byte_count + SLACK)


def find_voxels(path: Path) -> StoredVoxels:
    """Find the files that hold the voxels of a MetaImage or NRRD.

    Args:
        path: any regular file.

    Raises:
        DataError: its name is of another format; it has no header, one that ITK would fail on, or one that names a file
            that is missing, or that lies elsewhere than beside or below it.
    """
    name = path.name.lower()
    if not name.endswith(META_SUFFIXES + NRRD_SUFFIXES):
        raise DataError("unreadable image: of no format that is read here; save it as NIfTI")
    with path.open("rb") as stream:
        text = stream.read(MOST_TEXT).decode("latin-1")
    return _read_meta_image(path, text) if name.endswith(META_SUFFIXES) else _read_nrrd(path, text)


def _read_meta_image(path: Path, text: str) -> StoredVoxels:
    fields: dict[str, re.Match[str]] = {}
    for field in _META_FIELD.finditer(text):
        fields.setdefault(field[1], field)
        _check_meta_field(field[1], field[2].strip())
        if field[1] == "ElementDataFile":
            break
    place = fields.get("ElementDataFile")
    if place is None:
        raise DataError("unreadable image: no header of a MetaImage with ElementDataFile")
    _require_few_lines(text[: place.start()])
    compressed = fields["CompressedData"][2].strip().lower() if "CompressedData" in fields else ""
    deflate = ZLIB if compressed.startswith(("t", "1")) else 0
    if place[2].strip().upper() == "LOCAL":
        return StoredVoxels((path,), place.end(), deflate)
    return StoredVoxels(_find_files(path, place[2].strip(), text[place.end() :]), 0, deflate)


def _check_meta_field(name: str, value: str) -> None:
    if name == "NDims" and value not in ("1", "2", "3", "4", "5"):
        # MetaIO writes beyond its memory, which ends the process.
        raise DataError(f"unreadable image: its header claims {value[:20]!r} axes, expected 3 or 4")
    if name not in ("NDims", "CompressedData", "ElementDataFile"):
        _check_numbers(name, value)


def _check_numbers(name: str, value: str) -> None:
    """Refuse lengths and places for which ITK takes 0 or 1 without a word."""
    for word in re.split(r"[\s,()]+", value):
        try:
            number = float(word)
        except ValueError:
            continue
        # NaN is not smaller than anything.
        if not abs(number) < LARGEST_MM:
            raise DataError(f"unreadable image: {name} in its header holds {word[:20]}, which is no length")


def _read_nrrd(path: Path, text: str) -> StoredVoxels:
    if not text.startswith("NRRD"):
        raise DataError("unreadable image: no header of an NRRD")
    # An empty line ends a header that the voxels follow.
    end = re.search(r"\r?\n\r?\n", text)
    header = text[: end.start()] if end else text
    if not end and len(text) == MOST_TEXT:
        raise DataError(f"unreadable image: its header has more than {MOST_TEXT >> 10} kB")
    _require_few_lines(_LIST.split(header)[0])
    # ITK's reader of NRRD writes such a line into 1024 bytes of its stack once it can't be parsed.
    if any(len(line) > MOST_LINE and not _FREE_LINE.match(line) for line in header.splitlines()):
        raise DataError(f"unreadable image: a line of its header has more than {MOST_LINE} characters")
    fields: dict[str, str] = {}
    files: tuple[Path, ...] = ()
    for line in _NRRD_FIELD.finditer(header):
        key, value = re.sub(r"\s", "", line[1]).lower(), line[2].strip()
        fields.setdefault(key, value)
        if key == "datafile":
            files += _find_files(path, value, text[line.end() :])
        elif key in ("spaceorigin", "spacedirections"):
            _check_numbers(line[1], value)
    deflate = GZIP if fields.get("encoding", "").lower() in ("gzip", "gz") else 0
    is_plain = not {"byteskip", "lineskip"} & fields.keys()
    if files:
        return StoredVoxels(files, 0, deflate, is_plain)
    return StoredVoxels((path,), end.end() if end else len(header), deflate, is_plain)


def _require_few_lines(header: str) -> None:
    count = len(header.splitlines())
    if count > MOST_LINES:
        raise DataError(f"unreadable image: its header has {count} lines, at most {MOST_LINES} are read")


def _find_files(header: Path, place: str, rest: str) -> tuple[Path, ...]:
    """The files that a header names: one, a list of lines behind it, or a pattern with a number.

    Args:
        header: the header's file.
        place: the value of the field.
        rest: the text behind that line.
    """
    words = place.split()
    if words[:1] == ["LIST"]:
        names: Sequence[str] = [line.strip() for line in rest.splitlines() if line.strip()]
    elif "%" in place:
        names = _fill_pattern(words)
    else:
        names = [place]
    if not names or len(names) > MOST_FILES or (words[:1] == ["LIST"] and header.stat().st_size > MOST_TEXT):
        raise DataError(f"unreadable image: its header names {len(names)} files of voxels, expected 1 to {MOST_FILES}")
    return tuple(_find_file(header, name) for name in names)


def _fill_pattern(words: Sequence[str]) -> list[str]:
    try:
        pattern, (first, last, step) = words[0], [int(word) for word in words[1:4]]
        if not _NUMBERED.fullmatch(pattern):
            raise ValueError
        numbers = range(first, last + (1 if step > 0 else -1), step)
    except (ValueError, IndexError) as error:
        message = f"unreadable image: its header names files by {' '.join(words)[:80]!r}, expected 'NAME%03d 1 9 1'"
        raise DataError(message) from error
    if len(numbers) > MOST_FILES:
        raise DataError(f"unreadable image: its header names {len(numbers)} files of voxels, at most {MOST_FILES}")
    return [pattern % number for number in numbers]


def _find_file(header: Path, name: str) -> Path:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    file, folder = header.parent / name, header.parent.resolve()
    if max(len(part.encode()) for part in (*parts, "")) > MOST_NAME:
        raise DataError(f"unreadable image: its header names a file of {len(name)} characters")
    is_elsewhere = name == "-" or "\0" in name or not parts or parts[0].startswith("/") or ".." in parts or ":" in name
    if is_elsewhere or (file.exists() and not file.resolve().is_relative_to(folder)):
        shown = PurePosixPath(name[-80:].replace("\\", "/")).name
        raise DataError(
            f"its header names a file elsewhere ({shown!r}); voxels are read only from files beside it or below, and "
            "links do not lead out"
        )
    if not file.exists():
        raise DataError(f"unreadable image: the file of its voxels is not there: {Path(name[-80:]).name}")
    special = describe_special_file(file)
    if special:
        raise DataError(f"its header names {special}, expected a file of voxels; it is not opened")
    if file.samefile(header):
        raise DataError("unreadable image: its header names itself as the file of its voxels")
    return file


def _inflate(path: Path, begin: int, deflate: int, most: int) -> None:
    from isal import igzip_lib, isal_zlib

    inflater, byte_count = isal_zlib.decompressobj(deflate), 0
    try:
        with path.open("rb") as stream:
            stream.seek(begin)
            while not inflater.eof and (chunk := stream.read(BUFFER)):
                byte_count += len(inflater.decompress(chunk))
                if byte_count > most:
                    raise DataError(
                        f"unreadable image: it unpacks to more than the {most - SLACK} bytes that it claims"
                    )
    except igzip_lib.IsalError as error:  # type: ignore[misc] # its stub says that it is an instance
        raise DataError(f"unreadable image: damaged, or it ends early: {error}") from error
    if not inflater.eof:
        raise DataError("unreadable image: damaged, or it ends early: its compressed voxels are cut off")
