"""A datalist in Clara's form: cases under keys, paths relative to a root, labels that match their format."""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import forgive_json, read_text
from voxflow.findings import Finding, show
from voxflow.layouts import IGNORE
from voxflow.naming import name_cases, name_classes
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

# How the description of a datalist ends that a split has made.
SPLIT_MARK = "split by patient"
SHOWN_FAULTS = 20
MOST_LABELS = 10_000  # at one position of label_format
FIXES = {
    "outside-root": "keep paths below the data root, without '..' and absolute paths",
    "missing-image": 'write "image": a path, or a list of paths that become channels',
    "label-format": "give one whole number a position, between 0 and its value in label_format",
    "duplicate-name": 'give each case its own name: "case": ...',
}
# The Decathlon lists its unlabelled images as bare paths; other lists of strings are metadata.
_BARE_LISTS = ("test", "testing", "inference")


class FaultyDatalistError(DataError):
    """A datalist that can't be used.

    Attributes:
        faults: everything that is wrong with it; the text shows the first of them.
    """

    def __init__(self, message: str, *, path: Path | None = None, faults: Sequence[Finding] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__(message, path=path)


@dataclass(frozen=True)
class Case:
    """One training or inference item.

    Attributes:
        id: its name in tables and of its files; as the datalist has it, but for what no file can be called.
        image: image files; several are joined as channels.
        label: segmentation: the label file; classification: one class a position of ``label_format``; None when
            unknown.
        patient: the pseudonym that groups cases; the id when the datalist has none.
        ignore: the label value of voxels that nobody labelled; None where there is none.
        labelled: names of the classes that were labelled in the case; None: all.
        previous: in the second of two stages, the first stage's mask on the image's grid; no datalist states it.
    """

    id: str
    image: tuple[Path, ...]
    label: Path | tuple[int, ...] | None = None
    patient: str = ""
    ignore: int | None = None
    labelled: tuple[str, ...] | None = None
    previous: Path | None = None


@dataclass(frozen=True)
class Datalist:
    """A datalist file, read and checked.

    Attributes:
        path: the file.
        root: the folder that its paths are relative to.
        parts: cases by key.
        label_format: classification: number of labels a position (1: binary), empty for segmentation.
        metadata: every other key of the file.
    """

    path: Path
    root: Path
    parts: dict[str, tuple[Case, ...]]
    label_format: tuple[int, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, root: Path | None = None, *, outside_root: bool = False) -> Datalist:
        """Read a datalist; every fault is reported at once.

        Args:
            path: the JSON file.
            root: what its paths are relative to; None: the file's own folder.
            outside_root: whether paths may leave the root (absolute ones, or ``..``).

        Raises:
            DataError: not found, not JSON (line and column), or wrong cases (JSON paths).
        """
        try:
            content = parse_json(forgive_json(read_text(path))[0], path)
        except FileNotFoundError as error:
            raise DataError("file not found", path=path) from error
        if not isinstance(content, dict):
            raise DataError("expected an object with keys such as 'training'", path=path)
        return cls.of(content, path, root, outside_root=outside_root)

    @classmethod
    def of(
        cls, content: dict[str, Any], path: Path, root: Path | None = None, *, outside_root: bool = False
    ) -> Datalist:
        """Check what a datalist file holds; as :meth:`read`, for who has read the file already.

        Raises:
            DataError: wrong cases, with their JSON paths.

        Example:
            >>> content = {"label_format": [1, 1], "training": [{"image": "a.png", "label": [0, 1]}]}
            >>> datalist = Datalist.of(content, Path("data/dataset_0.json"))
            >>> datalist.cases("training")[0].label
            (0, 1)
            >>> Datalist.of({"training": [{"image": "../a.png"}]}, Path("/data/list.json"))
            Traceback (most recent call last):
            ...
            voxflow.datalist.model.FaultyDatalistError: /data/list.json: training[0].image: '../a.png' leaves ...
        """
        reader = _CaseReader(path, (root or path.parent).absolute(), outside_root)
        reader.read_label_format(content.get("label_format", []))
        content, ignore = _split_ignore(content)
        reader.read_ignore(ignore)
        parts = {key: reader.read_part(key, value) for key, value in content.items() if _is_case_list(key, value)}
        _raise_faults(path, reader.faults)
        metadata = {key: value for key, value in content.items() if key not in parts and key != "label_format"}
        return cls(path, reader.root, parts, reader.label_format, metadata)

    def cases(self, key: str) -> list[Case]:
        """The cases under a key.

        Raises:
            DataError: the file has no such key.
        """
        if key not in self.parts:
            raise DataError(f"no key {key!r} with cases; it has {', '.join(self.parts) or 'none'}", path=self.path)
        return list(self.parts[key])

    def check_files(self, keys: list[str] | None = None) -> None:
        """Find image and label files that do not exist.

        Raises:
            DataError: names each missing file with its JSON path.
        """
        faults: list[Finding] = []
        for key in keys or list(self.parts):
            for number, case in enumerate(self.cases(key)):
                for file in (*case.image, *([case.label] if isinstance(case.label, Path) else [])):
                    if not file.is_file():
                        message = f"file not found: {file}"
                        faults.append(Finding("missing-file", "error", self.path, f"{key}[{number}]", message))
        _raise_faults(self.path, faults)


@dataclass
class _CaseReader:
    path: Path
    root: Path
    outside_root: bool
    label_format: tuple[int, ...] = ()
    ignore: int | None = None
    # A plain list: a wrong root gives a fault a case, and each has a place of its own, so that none is noted twice.
    faults: list[Finding] = field(default_factory=list)

    def read_label_format(self, value: Any) -> None:
        if isinstance(value, list) and all(_is_whole(n) and 0 < n <= MOST_LABELS for n in value):
            self.label_format = tuple(value)
        else:
            message = f"expected a list of whole numbers from 1 to {MOST_LABELS}, received {show(value)}"
            self._note("label-format", "label_format", message)

    def read_ignore(self, value: Any) -> None:
        if value is None or (_is_whole(value) and value > 0):
            self.ignore = value
        else:
            self._note("ignore", "ignore", f"expected a label value above 0, such as 255, received {show(value)}")

    def read_part(self, key: str, items: list[Any]) -> tuple[Case, ...]:
        items_with_names = [(self._read_images(item, f"{key}[{n}]"), item) for n, item in enumerate(items)]
        paths_by_stem: dict[str, set[str]] = {}
        for names, _ in items_with_names:
            paths_by_stem.setdefault(_strip_suffix(_as_path(names[0])), set()).add(names[0])
        names = []
        for images, item in items_with_names:
            path = _as_path(images[0])
            stem = _strip_suffix(path)
            name = stem if len(paths_by_stem[stem]) == 1 else "/".join((*path.parent.parts, stem))
            stated = item.get("case") if isinstance(item, dict) else None
            names.append(name if stated in (None, "") else str(stated))
        ids = name_cases(names)
        cases: list[Case] = []
        images_by_name: dict[str, tuple[Path, ...]] = {}
        for n, (name, (images, item)) in enumerate(zip(names, items_with_names, strict=True)):
            case = self._read_case(ids[name], images, item if isinstance(item, dict) else {}, f"{key}[{n}]")
            # The same image twice weighs it double, which is fine; two images of one name would overwrite each other.
            if images_by_name.setdefault(name, case.image) != case.image:
                self._note("duplicate-name", f"{key}[{n}].case", f"another image before it is called {name!r}, too")
            cases.append(case)
        return tuple(cases)

    def _read_images(self, item: Any, json_path: str) -> list[str]:
        value = item.get("image") if isinstance(item, dict) else item
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list) and names and all(isinstance(name, str) and name for name in names):
            return names
        self._note("missing-image", f"{json_path}.image", f"expected a path or a list of paths, received {value!r}")
        return [json_path]

    def _read_case(self, name: str, images: list[str], item: dict[str, Any], json_path: str) -> Case:
        paths = tuple(self._resolve_path(image, f"{json_path}.image") for image in images)
        label = self._read_label(item.get("label"), f"{json_path}.label")
        patient, ignore = str(item.get("patient", name)), self.ignore if isinstance(label, Path) else None
        return Case(name, paths, label, patient, ignore, self._read_labelled(item.get("labelled"), json_path))

    def _read_labelled(self, names: Any, json_path: str) -> tuple[str, ...] | None:
        if names is None:
            return None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return name_classes(names)  # as the model calls them
        self._note("labelled", f"{json_path}.labelled", f"expected names of classes, received {show(names)}")
        return None

    def _read_label(self, label: Any, json_path: str) -> Path | tuple[int, ...] | None:
        if label is None:
            return None
        if isinstance(label, str) and label:
            return self._resolve_path(label, json_path)
        if not isinstance(label, list) or not all(_is_whole(value) for value in label):
            self._note("label-format", json_path, f"expected a path or a list of classes, received {label!r}")
        elif not self.label_format:
            self._note("label-format", json_path, "a list of classes needs the key label_format, such as [1, 1]")
        elif len(label) != len(self.label_format):
            self._note("label-format", json_path, f"{len(label)} values, label_format has {len(self.label_format)}")
        elif any(not 0 <= value <= most for value, most in zip(label, self.label_format, strict=True)):
            message = f"{label} has a value outside label_format {list(self.label_format)}"
            self._note("label-format", json_path, message)
        else:
            return tuple(label)
        return None

    def _resolve_path(self, name: str, json_path: str) -> Path:
        path = join_listed_path(self.root, name)
        if not self.outside_root and not path.is_relative_to(os.path.normpath(self.root)):
            self._note("outside-root", json_path, f"{name!r} leaves the data root {self.root}")
        return path

    def _note(self, code: str, json_path: str, message: str) -> None:
        self.faults.append(Finding(code, "error", self.path, json_path, message, FIXES.get(code, "")))


def join_listed_path(root: Path, name: str) -> Path:
    r"""Find a path that a datalist names.

    Args:
        root: what the datalist's paths are relative to.
        name: as it stands there; ``\`` parts folders, as on Windows, unless there is a file of that very name.
    """
    # Links are not followed: DVC may link every image to its cache, outside of the root.
    path = Path(os.path.normpath(root / name))
    return Path(os.path.normpath(root / name.replace("\\", "/"))) if "\\" in name and not path.exists() else path


def _split_ignore(content: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The value of voxels that nobody labelled, which may stand among the names of the values: it is no class."""
    labels = content.get("labels")
    if not isinstance(labels, dict):
        return content, content.get(IGNORE)
    named = [value for value, name in labels.items() if name == IGNORE and str(value).isdigit()]
    stated = labels.get(IGNORE, int(named[0]) if named else None)
    classes = {key: name for key, name in labels.items() if IGNORE not in (key, name)}
    return content | {"labels": classes}, content.get(IGNORE, stated)


def _is_case_list(key: str, value: Any) -> bool:
    if not isinstance(value, list) or key == "label_format":
        return False
    is_bare = key in _BARE_LISTS and all(isinstance(item, str) for item in value)
    return not value or is_bare or any(isinstance(item, dict) for item in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _strip_suffix(path: Path) -> str:
    return path.name.removesuffix("".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix)


def _as_path(name: str) -> Path:
    return Path(name.replace("\\", "/"))


def _raise_faults(path: Path, faults: Sequence[Finding]) -> None:
    """Raise one error that names the faults; what to do about each is for the check, which has the room to say it."""
    if not faults:
        return
    lines = [f"{fault.where}: {fault.message}" for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        lines.append(f"... and {len(faults) - SHOWN_FAULTS} more")
    message = lines[0] if len(lines) == 1 else "\n".join([f"{len(faults)} faults", *lines])
    raise FaultyDatalistError(message, path=path, faults=faults)
