"""Reads dataset.json: nnU-Net's raw data (versions 1 and 2) and the Medical Segmentation Decathlon."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError, join_names
from voxflow.files import read_text
from voxflow.findings import show
from voxflow.layouts.model import (
    IGNORE,
    ChannelSource,
    LabelSource,
    Layout,
    LayoutCase,
    LayoutName,
    Part,
    sort_cases,
)
from voxflow.texts import parse_json
from voxflow.volumes import HIGHEST_LABEL, strip_suffix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from voxflow.layouts.folder import FolderFiles

FILE = "dataset.json"
# Folder of images, folder of their labels, and what the data set uses the cases for.
FOLDERS: tuple[tuple[str, str, Part], ...] = (("imagesTr", "labelsTr", "training"), ("imagesTs", "labelsTs", "testing"))
NOTES = "voxflow"  # the key of what voxflow.layouts.writing adds


def recognise_nnunet(folder: FolderFiles) -> Layout | None:
    """Read nnU-Net's raw data: ``imagesTr/CASE_0000.nii.gz`` for each channel, ``labelsTr/CASE.nii.gz``.

    Args:
        folder: ``Dataset001_NAME``, or a folder that holds one.

    Returns:
        None where no dataset.json is nnU-Net's.

    Raises:
        DataError: dataset.json is wrong, or there are several data sets.
    """
    description = _find_description(folder, _is_nnunet)
    if description is None:
        return None
    names = description.read_channels("channel_names" if "channel_names" in description.content else "modality")
    listed = description.content.get("dataset")
    if isinstance(listed, dict):
        cases = [description.read_named_case(name, item, len(names)) for name, item in listed.items()]
    else:
        cases = list(_list_numbered_cases(description, folder, len(names)))
    return _build_layout("nnunet", description, folder, names, cases)


def recognise_msd(folder: FolderFiles) -> Layout | None:
    """Read a task of the Decathlon: dataset.json lists the files; several channels are one 4D file.

    Args:
        folder: ``Task01_NAME``, or a folder that holds one.

    Returns:
        None where no dataset.json is the Decathlon's.

    Raises:
        DataError: dataset.json is wrong, lists a file that is not there, or there are several data sets.
    """
    description = _find_description(folder, _is_msd)
    if description is None:
        return None
    names = description.read_channels("modality")
    cases = []
    parts: tuple[tuple[Part, str], ...] = (("training", "training"), ("training", "validation"), ("testing", "test"))
    for part, key in parts:
        for number, item in enumerate(description.read_list(key)):
            image, labels = description.read_item(item, f"{key}[{number}]")
            name = strip_suffix(image.name)
            cases.append(LayoutCase(name, name, _list_volumes(image, len(names)), labels, part))
    return _build_layout("msd", description, folder, names, cases)


def _build_layout(
    name: LayoutName, description: _Description, folder: FolderFiles, channels: tuple[str, ...], cases: list[LayoutCase]
) -> Layout:
    classes, ignore = description.read_classes()
    description.check_region_order(classes)
    notes = description.read_notes(classes, ignore)
    classes = {name: tuple(notes.values.get(value, value) for value in values) for name, values in classes.items()}
    cases, repeated = _drop_repeated(cases)
    cases = [notes.complete(case) for case in _separate_parts(cases)]
    return Layout(
        name=name,
        root=description.root,
        channels=channels,
        classes=notes.regions or classes,
        cases=tuple(cases),
        ignore=None if ignore is None else notes.values.get(ignore, ignore),
        unplaced=folder.explain_unplaced([description.path, *(file for case in cases for file in case.files)]),
        remarks=repeated + description.check_count(cases) + description.check_files(cases),
        value_names=notes.value_names,
    )


@dataclass(frozen=True)
class _Notes:
    """What Voxflow has written beside the keys of the layout; empty in others' data sets.

    Attributes:
        values: what each label value stood for before it was numbered anew.
        value_names: of those values.
        patients: by case.
        regions: the values of each class, with those that no label held.
    """

    values: Mapping[int, int]
    value_names: Mapping[int, str]
    patients: Mapping[str, str]
    regions: Mapping[str, tuple[int, ...]]

    def complete(self, case: LayoutCase) -> LayoutCase:
        """Add what is noted of a case."""
        is_changed = any(value != number for value, number in self.values.items())
        labels = tuple(replace(label, numbers=self.values) if is_changed else label for label in case.labels)
        return replace(case, patient=self.patients.get(case.name, case.patient), labels=labels)


@dataclass(frozen=True)
class _Description:
    """One dataset.json, whose keys are read with their checks.

    Attributes:
        path: the file.
        content: of it.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def root(self) -> Path:
        return self.path.parent

    def _fail(self, message: str, where: str) -> DataError:
        return DataError(message, path=self.path, where=where)

    def read_channels(self, key: str) -> tuple[str, ...]:
        """The channels' names by their numbers, from 0 without a gap."""
        names = self.content.get(key)
        if isinstance(names, list):
            names = {str(number): name for number, name in enumerate(names)}
        if not isinstance(names, dict) or not names:
            raise self._fail('expected names of the channels, such as {"0": "CT"}', key)
        if {str(number) for number in names} != {str(number) for number in range(len(names))}:
            raise self._fail(f"channels are numbered from 0 without a gap, received {', '.join(names)}", key)
        return tuple(str(names[str(number)]) for number in range(len(names)))

    def read_classes(self) -> tuple[dict[str, tuple[int, ...]], int | None]:
        """Values by class without the background, and the value to leave out; ``{"1": "spleen"}`` is read, too."""
        labels = self.content.get("labels")
        if not isinstance(labels, dict):
            raise self._fail('expected values by name, such as {"background": 0, "spleen": 1}', "labels")
        classes: dict[str, tuple[int, ...]] = {}
        for key, value in labels.items():
            is_turned = _is_digits(key) and isinstance(value, str)
            name, numbers = (value, [int(key)]) if is_turned else (key, value if isinstance(value, list) else [value])
            # nnU-Net takes "1" for 1.
            numbers = [int(number) if _is_digits(number) else number for number in numbers]
            if not numbers or not all(type(number) is int and 0 <= number <= HIGHEST_LABEL for number in numbers):
                message = f"expected whole numbers from 0 to {HIGHEST_LABEL}, received {show(value)}"
                raise self._fail(message, f"labels.{key}")
            if 0 in numbers and len(numbers) > 1:
                raise self._fail("a region can't hold 0, the background", f"labels.{key}")
            if name in classes:
                raise self._fail(f"two classes are called {name!r}", f"labels.{key}")
            classes[name] = tuple(numbers)
        ignore = classes.pop(IGNORE, None)
        regions = self.read_regions(self.content) if NOTES in self.content else {}
        classes = regions or {name: values for name, values in classes.items() if values != (0,)}
        highest = max((value for values in classes.values() for value in values), default=0)
        if ignore and (len(ignore) > 1 or ignore[0] <= highest):
            message = f"expected one value above those of all classes, {highest} here, received {show(list(ignore))}"
            raise self._fail(message, f"labels.{IGNORE}")
        return classes, ignore[0] if ignore else None

    def read_regions(self, content: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Classes that overlap, as Voxflow writes them beside what a layout has a place for.

        Args:
            content: the description itself, in the Decathlon's form; or the notes in it.
        """
        regions = content.get("regions", {})
        try:
            classes = {str(name): tuple(int(value) for value in values) for name, values in regions.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise self._fail('expected label values by name: {"tumour": [1, 2]}', "regions") from error
        wrong = [name for name, values in classes.items() if not values or not _are_classes(values)]
        if wrong:
            raise self._fail(f"expected label values from 1 to {HIGHEST_LABEL}", f"regions.{wrong[0]}")
        return classes

    def read_notes(self, classes: Mapping[str, tuple[int, ...]], ignore: int | None) -> _Notes:
        """The key ``voxflow``, which must fit the other keys: people change them, and forget it."""
        notes = self.content.get(NOTES, {})
        try:
            values = {int(value): int(number) for value, number in notes.get("label_values", {}).items()}
            names = {int(value): str(name) for value, name in notes.get("value_names", {}).items()}
            patients = {str(name): str(patient) for name, patient in notes.get("patients", {}).items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise self._fail("expected label_values, value_names and patients", NOTES) from error
        if not _are_classes([*values, *values.values()]) or len(set(values.values())) < len(values):
            raise self._fail(f"expected label values from 1 to {HIGHEST_LABEL}, each once", f"{NOTES}.label_values")
        regions = self.read_regions(notes)
        present = {value for values in classes.values() for value in values} | ({ignore} if ignore else set())
        if (values and values.keys() != present) or (regions and regions.keys() != classes.keys()):
            raise self._fail("does not fit the labels any more; take it out, or write it as they are", NOTES)
        return _Notes(values, names, patients, regions)

    def check_region_order(self, classes: Mapping[str, tuple[int, ...]]) -> None:
        """Hold nnU-Net's ``regions_class_order``, the value of each region in one map, against the regions."""
        order = self.content.get("regions_class_order")
        if order is None:
            return
        if not isinstance(order, list) or len(order) != len(classes) or not all(type(n) is int for n in order):
            message = f"expected {len(classes)} whole numbers, one for each class, received {show(order)}"
            raise self._fail(message, "regions_class_order")
        for number, (name, values) in zip(order, classes.items(), strict=True):
            if number not in values:
                message = f"{number} is no value of {name}, which has {', '.join(map(str, values))}"
                raise self._fail(message, "regions_class_order")

    def read_list(self, key: str) -> list[Any]:
        """The entries of a part; none where the key is missing."""
        items = self.content.get(key) or []
        if not isinstance(items, list):
            raise self._fail(f"expected a list of cases, received {show(items)}", key)
        return items

    def read_item(self, item: Any, where: str) -> tuple[Path, tuple[LabelSource, ...]]:
        """The image and label of one entry, which is an object of two paths, or of the test part one path."""
        image = item.get("image") if isinstance(item, dict) else item
        label = item.get("label") if isinstance(item, dict) else None
        if not isinstance(image, str) or not isinstance(label, str | None):
            raise self._fail('expected {"image": PATH, "label": PATH}, or a path', where)
        labels = (LabelSource(self._find_file(label, where)),) if label else ()
        return self._find_file(image, where), labels

    def read_named_case(self, name: str, item: Any, channel_count: int) -> LayoutCase:
        """A case of nnU-Net's key ``dataset``, which states the files of each case."""
        where = f"dataset.{name}"
        images = item.get("images") if isinstance(item, dict) else None
        if not isinstance(images, list) or len(images) != channel_count:
            raise self._fail(f'expected {{"images": [{channel_count} paths], "label": PATH}}', where)
        channels = tuple(ChannelSource(self._find_file(str(image), where)) for image in images)
        label = item.get("label")
        labels = (LabelSource(self._find_file(str(label), where)),) if label else ()
        return LayoutCase(name, name, channels, labels, "training")

    def check_count(self, cases: Sequence[LayoutCase]) -> tuple[str, ...]:
        """A remark where the description states another number of cases than there are."""
        stated = self.content.get("numTraining")
        count = sum(case.part == "training" for case in cases)
        counts = (None, count, count - len(self.read_list("validation")))
        return () if stated in counts else (f"{FILE} states {stated} cases for training; {count} are there",)

    def _find_file(self, name: str, where: str) -> Path:
        path = PurePosixPath(name.replace("\\", "/"))
        if ".." in path.parts or path.is_absolute():
            raise self._fail(f"{name!r} leads out of the data set's folder", where)
        return self.root / path

    def check_files(self, cases: Sequence[LayoutCase]) -> tuple[str, ...]:
        """A remark where files that the description lists are not there; their cases can't be converted.

        Raises:
            DataError: there is no case, or no image of one.
        """
        files = dict.fromkeys(file for case in cases for file in case.files)
        lacking = {file: file.relative_to(self.root).as_posix() for file in files if not file.is_file()}
        if not any(source and source.path not in lacking for case in cases for source in case.channels):
            first = f", such as {next(iter(lacking.values()))}" if lacking else ""
            ending = self.content.get("file_ending")
            raise self._fail(f"no image is there{first}" + (f"; its file_ending is {ending}" if ending else ""), FILE)
        names = join_names(list(lacking.values()))
        return (f"{len(lacking)} file(s) that {FILE} lists are not there: {names}",) if lacking else ()


def _are_classes(values: Iterable[int]) -> bool:
    """Whether they may be label values of classes; 0 is the background."""
    return all(0 < value <= HIGHEST_LABEL for value in values)


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and value.isdecimal() and len(value) <= len(str(HIGHEST_LABEL))


def _find_description(folder: FolderFiles, is_this: Callable[[_Description, FolderFiles], bool]) -> _Description | None:
    descriptions = [
        _Description(path, content) for path in folder.files if path.name == FILE and (content := _read(path))
    ]
    descriptions = [description for description in descriptions if is_this(description, folder)]
    if len(descriptions) > 1:
        names = join_names([folder.shorten(description.root) for description in descriptions])
        raise DataError(f"{len(descriptions)} data sets lie here: {names}; take one of them as the source")
    return descriptions[0] if descriptions else None


def _read(path: Path) -> dict[str, Any]:
    content = parse_json(read_text(path), path)
    return content if isinstance(content, dict) else {}


def _is_nnunet(description: _Description, folder: FolderFiles) -> bool:
    if "channel_names" in description.content:
        return True
    # Version 1 has the Decathlon's keys; but what it lists as a.nii.gz is the file a_0000.nii.gz.
    names = {file.name for file in folder.list_volumes(description.root / "imagesTr")}
    items = [item.get("image") if isinstance(item, dict) else item for item in description.read_list("training")]
    has_listed = any(PurePosixPath(str(item).replace("\\", "/")).name in names for item in items)
    is_numbered = any(split_channel(strip_suffix(name)) for name in names)
    return "modality" in description.content and is_numbered and not has_listed


def _is_msd(description: _Description, folder: FolderFiles) -> bool:
    return {"modality", "training"} <= description.content.keys() and not _is_nnunet(description, folder)


def _list_numbered_cases(description: _Description, folder: FolderFiles, channel_count: int) -> Iterator[LayoutCase]:
    """Cases of files that end in the number of their channel; a number beyond the channels has no place."""
    ending = str(description.content.get("file_ending", ""))
    for images, labels, part in FOLDERS:
        volumes, maps = (
            [file for file in folder.list_volumes(description.root / name) if file.name.endswith(ending)]
            for name in (images, labels)
        )
        label_by_name = {strip_suffix(file.name): file for file in maps}
        by_case: dict[str, dict[int, ChannelSource]] = {}
        twins: dict[str, str] = {}
        for file in volumes:
            split = split_channel(strip_suffix(file.name))
            if split and split[1] < channel_count:
                first = by_case.setdefault(split[0], {}).setdefault(split[1], ChannelSource(file)).path
                if first != file:
                    twins[split[0]] = f"{first.name} and {file.name} are one channel of it; keep one"
        for name, channels in by_case.items():
            label = (LabelSource(label_by_name[name]),) if name in label_by_name else ()
            sources = tuple(channels.get(n) for n in range(channel_count))
            yield LayoutCase(name, name, sources, label, part, fault=twins.get(name, ""))


def split_channel(stem: str) -> tuple[str, int] | None:
    """Split nnU-Net's number of the channel from a name.

    Example:
        >>> split_channel("liver_012_0001"), split_channel("liver_012")
        (('liver_012', 1), None)
    """
    name, _, number = stem.rpartition("_")
    return (name, int(number)) if name and len(number) == 4 and number.isdigit() else None


def _list_volumes(image: Path, channel_count: int) -> tuple[ChannelSource | None, ...]:
    if channel_count == 1:
        return (ChannelSource(image),)
    return tuple(ChannelSource(image, number) for number in range(channel_count))


def _drop_repeated(cases: Sequence[LayoutCase]) -> tuple[list[LayoutCase], tuple[str, ...]]:
    """Take each image once, as it is listed first: one in both parts would be trained on and tested with."""
    first = {case.channels: case for case in reversed(cases)}
    names = [case.name for case in cases if first[case.channels] is not case]
    remark = f"{FILE} lists {len(names)} image(s) again, which count once, as listed first: {join_names(names)}"
    return [case for case in cases if first[case.channels] is case], ((remark,) if names else ())


def _separate_parts(cases: Sequence[LayoutCase]) -> tuple[LayoutCase, ...]:
    """Name apart what stands in both parts: numbers may start from 1 again in each."""
    counts = Counter(case.name for case in cases)
    apart = (replace(case, name=f"{case.part}_{case.name}") if counts[case.name] > 1 else case for case in cases)
    return sort_cases(replace(case, patient=case.name) for case in apart)
