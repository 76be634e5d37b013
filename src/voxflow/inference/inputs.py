"""Finds the cases in what a user names: one file, a folder, a datalist, or DICOM."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.datalist import Datalist, parse_channels
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import ConfigError, DataError, join_names
from voxflow.images import has_label_name, list_files
from voxflow.inference.cases import InferenceCase, attach_sources, find_native_cases
from voxflow.inference.channels import find_channel_files, find_siblings, match_channels
from voxflow.inference.single_channel import SingleImages, choose_single_images
from voxflow.naming import fold_name, name_cases
from voxflow.progress import say
from voxflow.tables import read_rows
from voxflow.volumes import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.datalist import Case
    from voxflow.spec import ModelSpec

RADIOGRAPH_SUFFIXES = (".png",)
LABEL_MODALITIES = ("SEG", "RTSTRUCT")


@dataclass(frozen=True)
class InputCases:
    """The cases of an input.

    Attributes:
        cases: those that a model can be shown.
        refused: what can't be used: case (or series) and reason.
    """

    cases: tuple[InferenceCase, ...]
    refused: tuple[dict[str, str], ...] = ()


def find_cases(
    source: Path, scratch: Path, spec: ModelSpec, *, key: str = "inference", root: Path | None = None
) -> InputCases:
    """Find what a model is to be shown.

    Args:
        source: a volume (.nii.gz, .nii, .mha, .mhd, .nrrd) or a PNG radiograph; a folder tree of them; a datalist
            (.json); any other file, or a folder without such files, is taken for DICOM.
        scratch: an empty folder for what DICOM is converted to; must stay until the cases are done.
        spec: of the model: whether it takes volumes, or else radiographs, and how many images a case has.
        key: the datalist's key.
        root: what the datalist's paths are relative to; None: its folder.

    Raises:
        DataError: nothing is there, or nothing that the model takes.
    """
    suffixes = VOLUME_SUFFIXES if spec.task == "segmentation" else RADIOGRAPH_SUFFIXES
    if not source.exists():
        raise DataError("no such file or folder", path=source)
    if source.name.lower().endswith(".json"):
        datalist = Datalist.read(source, root, outside_root=True)
        return InputCases(tuple(make_cases(datalist.cases(key), datalist, spec)))
    if source.is_file() and _has_suffix(source, (*VOLUME_SUFFIXES, *RADIOGRAPH_SUFFIXES)):
        if not _has_suffix(source, suffixes):
            raise DataError(f"the model takes {' '.join(suffixes)}", path=source)
        return find_file_cases(source.parent, [source], spec, is_alone=True)
    files = _list_images(source, suffixes) if source.is_dir() else []
    if files:
        return find_file_cases(source, files, spec)
    return convert_dicom_cases(_make_folder(source, scratch), scratch / "volumes", spec)


def find_file_cases(folder: Path, files: Sequence[Path], spec: ModelSpec, *, is_alone: bool = False) -> InputCases:
    """Make cases of image files: one each; for a model of several images by :mod:`voxflow.inference.channels`.

    Args:
        folder: that the files lie below.
        files: in order.
        spec: of the model.
        is_alone: a single file is named, and not its folder; the other channels of its case are looked for beside it.

    Raises:
        DataError: the folder's own description is wrong, or its channels are others than the model's.
    """
    if not is_alone and spec.task == "segmentation":
        files = _leave_out_labels(folder, files)
    if not spec.has_several_images:
        # A file that is named is meant, whatever lies beside it.
        is_chosen = is_alone or spec.task != "segmentation"
        images = SingleImages(tuple(files), ()) if is_chosen else choose_single_images(folder, files, spec)
        return InputCases(_name_files(folder, images.files), images.refused)
    groups = [find_siblings(files[0], spec)] if is_alone else find_channel_files(folder, files, spec)
    names = _choose_names([group.place for group in groups], folder)
    return InputCases(
        cases=tuple(
            InferenceCase(name, group.images, selection=group.selection)
            for name, group in zip(names, groups, strict=True)
            if not group.reason
        ),
        refused=tuple(
            {"case": name, "reason": group.reason} for name, group in zip(names, groups, strict=True) if group.reason
        ),
    )


def _leave_out_labels(folder: Path, files: Sequence[Path]) -> list[Path]:
    """The files that are no labels by their names, where there are others than labels; a model is shown images."""
    images = [file for file in files if not has_label_name(file, folder)]
    if not images or len(images) == len(files):
        return list(files)
    labels = [file.relative_to(folder).as_posix() for file in files if file not in set(images)]
    say(f"{len(labels)} of {len(files)} files are labels by their names, and are left out: {join_names(labels, 3)}")
    return images


def make_cases(cases: Sequence[Case], datalist: Datalist, spec: ModelSpec) -> list[InferenceCase]:
    """Take cases of a datalist; where it names its channels in another order than the model's, in the model's.

    Args:
        cases: of the datalist.
        datalist: tells its channels.
        spec: of the model.

    Raises:
        DataError: its channels are others than the model's.
    """
    names, _ = parse_channels(datalist.metadata)
    is_same = not spec.channels or not names or names == spec.channels
    selection = () if is_same else match_channels(names, spec, datalist.path)
    return [_make_case(case, selection, len(names)) for case in cases]


def _make_case(case: Case, selection: tuple[int, ...], count: int) -> InferenceCase:
    images = case.image
    if selection and len(images) == count:
        images, selection = tuple(images[n] for n in selection), ()
    return InferenceCase(case.id, images, case.label, ignore=case.ignore, labelled=case.labelled, selection=selection)


def convert_dicom_cases(
    source: Path,
    volumes: Path,
    spec: ModelSpec,
    *,
    options: ConvertOptions | None = None,
    decoded_mb: int | None = None,
) -> InputCases:
    """Convert a folder of DICOM as the stage convert does, and find the cases in it with the files they came from.

    Args:
        source: the folder.
        volumes: the folder to convert it to.
        spec: of the model.
        options: of the conversion.
        decoded_mb: as in :func:`convert_folder`.

    Raises:
        DataError: nothing could be converted, or nothing of the kind that the model takes.
    """
    is_segmentation = spec.task == "segmentation"
    options = choose_channel_rules(options or ConvertOptions(mapping=False), spec)
    convert_folder(source, volumes, options, decoded_mb=decoded_mb)
    rows = read_rows(volumes / "cases.csv") or []
    names = [row["case"] for row in rows if row["image"].endswith(RADIOGRAPH_SUFFIXES) is not is_segmentation]
    if not names:
        raise DataError("it holds no image of the kind that the model takes", path=source)
    cases = find_native_cases([(name, None) for name in names], volumes, is_mask=False)
    quarantined = [row for row in read_rows(volumes / "conversion.csv") or [] if row.get("verdict") == "quarantined"]
    refused = (
        _describe_studies(quarantined)
        if options.channels
        else [{"case": row.get("case") or "series", "reason": row.get("reason", "")} for row in quarantined]
    )
    if is_segmentation:
        cases = attach_sources(cases, source, options)
    return InputCases(tuple(cases), tuple(refused))


def _describe_studies(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """A row for each study, since all series of one say what it lacks; studies go by number. Labels are not read."""
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.get("modality") not in LABEL_MODALITIES:
            reason = row.get("reason", "")
            reasons.setdefault(row.get("study_uid") or reason, {})[reason] = None
    return [
        {"case": f"refused study {number}", "reason": "; ".join(texts)}
        for number, texts in enumerate(reasons.values(), start=1)
    ]


def choose_channel_rules(options: ConvertOptions, spec: ModelSpec) -> ConvertOptions:
    """Choose the rules by which the series of a study become what a model takes: the user's, else the model's own.

    The other options of its training that decide which images a study gives come along, where the user set none.

    Args:
        options: of the conversion.
        spec: of the model.

    Raises:
        ConfigError: the user's rules name other channels than the model's, or in another order.
        DataError: the model takes several channels, and nothing says which series they are.
    """
    learned = {key: value for key, value in spec.convert.items() if key not in options.model_fields_set}
    if options.cases or options.channels or _says_of_files_alone(learned):
        learned.pop("channels", None)
    if learned:
        options = ConvertOptions.model_validate(options.model_dump(exclude_unset=True) | learned)
    if not spec.has_several_images:
        return options
    if options.channels is not None:
        if spec.channels and tuple(options.channels) != spec.channels:
            names = f"{', '.join(options.channels)}; the model takes {', '.join(spec.channels)}, in this order"
            raise ConfigError(f"convert.channels names {names}")
        return _require_modalities(options, spec)
    if not spec.rules:
        names = ", ".join(spec.channels) or f"{spec.image_count} without names"
        raise DataError(
            f"the model takes several channels ({names}), and knows no rules by which to find their series: give "
            "files, or rules in convert.channels"
        )
    rules = dict(zip(spec.channels, spec.rules, strict=True))
    options = ConvertOptions.model_validate(options.model_dump(exclude={"channels", "cases"}) | {"channels": rules})
    return _require_modalities(options, spec)


def _require_modalities(options: ConvertOptions, spec: ModelSpec) -> ConvertOptions:
    """Let each rule ask for the modality that the model was trained on, where it asks for none.

    Raises:
        ConfigError: a rule asks for another one.
    """
    rules = dict(options.channels or {})
    for (name, rule), modality in zip(rules.items(), spec.modalities, strict=False):
        if modality and rule.modality not in (None, modality):
            message = f"asks for {rule.modality}; the model was trained on {modality}"
            raise ConfigError(message, where=f"convert.channels.{name}.modality")
        # A rule of files alone stays one.
        if modality and not rule.modality and rule.model_dump(exclude_defaults=True).keys() - {"suffix"}:
            rules[name] = rule.model_copy(update={"modality": modality})
    return options if rules == options.channels else options.model_copy(update={"channels": rules})


def _says_of_files_alone(learned: Mapping[str, Any]) -> bool:
    """Whether the model's rule of its one channel is the end of its files' names, which fits no series."""
    return all(rule.keys() <= {"suffix"} for rule in learned.get("channels", {}).values())


def _list_images(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Image files below a folder, hidden ones left out; links are followed."""
    return sorted(path for path in list_files(folder) if _has_suffix(path, suffixes) and not path.name.startswith("."))


def _name_files(folder: Path, files: Sequence[Path]) -> tuple[InferenceCase, ...]:
    """A case is called as its file is; where names meet, as its way from the folder, made distinct by a digest.

    Names that differ only in case meet, too: their results would be one file on some disks.
    """
    places = [path.relative_to(folder) for path in files]
    names = [_strip_suffix(path.name) for path in files]
    has_equal = len({fold_name(name) for name in names}) < len(names)
    if has_equal:
        names = ["/".join((*place.parts[:-1], name)) for place, name in zip(places, names, strict=True)]
        counts = Counter(names)  # as of a.nii and a.mha
        names = [name if counts[name] == 1 else place.as_posix() for place, name in zip(places, names, strict=True)]
    ids = name_cases(names)
    return tuple(
        InferenceCase(ids[name], (path,), file=place.as_posix() if has_equal or ids[name] != name else "")
        for name, path, place in zip(names, files, places, strict=True)
    )


def _choose_names(places: Sequence[Path], folder: Path) -> list[str]:
    """Names of cases of several files, as :func:`_name_files` chooses those of one."""
    names = [_strip_suffix(place.name) for place in places]
    if len({fold_name(name) for name in names}) < len(names):
        names = [place.relative_to(folder).as_posix() for place in places]
    ids = name_cases(names)
    return [ids[name] for name in names]


def _has_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file's name ends so, in upper or lower case."""
    return path.name.lower().endswith(suffixes)


def _strip_suffix(name: str) -> str:
    endings = (*VOLUME_SUFFIXES, *RADIOGRAPH_SUFFIXES)
    return next((name[: -len(ending)] for ending in endings if name.lower().endswith(ending)), name)


def _make_folder(source: Path, scratch: Path) -> Path:
    """A folder that holds one file alone, since conversion reads folders."""
    if source.is_dir():
        return source
    alone = scratch / "dicom"
    alone.mkdir()
    (alone / "file.dcm").symlink_to(source.resolve())
    return alone
