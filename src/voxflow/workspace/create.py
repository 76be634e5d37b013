"""Makes a workspace from a template: in a repository with its block of params.yaml, or an MMAR alone."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError, DataError, join_names
from voxflow.files import atomic_directory, read_text, write_json, write_text
from voxflow.findings import suggest
from voxflow.images import format_proposal, has_labelled_test_part, list_files, masks_overlap, propose_label_values
from voxflow.layouts import read_label_descriptions, recognise_layout
from voxflow.places import PARAMS, check_workspace_name, read_workspaces
from voxflow.progress import say
from voxflow.texts import parse_yaml
from voxflow.workspace.params_file import format_yaml
from voxflow.workspace.zoo import VARIANTS, ZooModel, find_model, read_zoo, write_model
from voxflow.workspace.zoo.files import make_environment
from voxflow.workspace.zoo.params import collect_block_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.dicom import ChannelProposal
    from voxflow.layouts import Layout, LayoutName

TEMPLATES = Path(__file__).parent / "templates"
COMMON = "_common"
ZOO = "_zoo"
FINDINGS = "findings.csv"
DESCRIPTION_SUFFIXES = (".label", ".ctbl", ".txt")
MAX_DESCRIPTION = 1 << 20  # bytes; a label takes about 60
# Names a folder, a key of params.yaml, a stage of DVC and a registered model, each with rules of its own.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NOT_COPIED = shutil.ignore_patterns(PARAMS.name, "description.txt", "__pycache__")


def list_templates() -> dict[str, str]:
    """List each template's name and, in one line, what it is for.

    Returns:
        First the templates for one's own data, then those of the model zoo, each by name.
    """
    folders = sorted(path for path in TEMPLATES.iterdir() if path.is_dir() and not path.name.startswith("_"))
    general = {path.name: (path / "description.txt").read_text(encoding="utf-8").strip() for path in folders}
    return general | {model.name: model.line for model in read_zoo().values()}


def create_workspace(
    name: str,
    source: Path | None = None,
    template: str = "segmentation",
    *,
    root: Path | None = None,
    variant: str = "published",
    layout: Layout | None = None,
    channels: ChannelProposal | None = None,
) -> Path:
    """Make a workspace; what stands there already is kept as it is.

    In a repository (a folder with params.yaml) it is ``mmars/NAME`` and a block in params.yaml. Elsewhere a
    template of the zoo makes the folder ``NAME`` alone, an MMAR that its own commands/ train.

    Args:
        name: letters, digits, ``_`` and ``-``; begins with a letter.
        source: the folder of images; may be left out where the MMAR stands alone.
        template: one of :func:`list_templates`, or another name of a model of the zoo.
        root: the repository's root, the present folder when left out.
        variant: zoo: "published", or "cpu" for a small network.
        layout: of the source, which its block then states; see :func:`recognise_source`.
        channels: rules for the series of its DICOM, which the block then states where the template takes them.

    Returns:
        The MMAR's folder.

    Raises:
        ConfigError: the name is taken or no name, the template or variant is unknown, a template for one's own data
            outside a repository.
        DataError: the source is no folder, or is needed.
    """
    root = root or Path()
    model = _require_template(template, variant)
    alone = not (root / PARAMS).is_file()
    if alone and model is None:
        raise ConfigError("file not found; make workspaces from the root of the repository", path=root / PARAMS)
    folder = root / name if alone else root / "mmars" / name
    _check_name(name, folder, root / PARAMS)
    if source is not None and not (root / source).is_dir():
        raise DataError("no such folder; --source is the folder that holds the images", path=source)
    if alone and model is not None:
        data_root = (root / source).absolute().as_posix() if source else None
        return make_mmar(template, folder, variant=variant, data_root=data_root)
    if source is None:
        raise DataError("--source is needed in a repository: the folder that holds the images")
    return _create_in_repository(name, source, template, root=root, variant=variant, layout=layout, channels=channels)


def takes_channels(template: str, channels: ChannelProposal) -> bool:
    """Whether the block of a template may state rules for channels: its model takes any number, of their modalities.

    Args:
        template: one of :func:`list_templates`, or another name of a model of the zoo.
        channels: the rules.
    """
    block = read_template_block(template)
    if not block:
        return False
    modalities = set((block.get("convert") or {}).get("modalities") or channels.modalities)
    return bool(channels.rules) and block["task"] == "segmentation" and set(channels.modalities) <= modalities


def read_template_block(template: str) -> dict[str, Any]:
    """Read what a template for one's own data puts into params.yaml; nothing for a model of the zoo."""
    if find_model(template) is not None or not (TEMPLATES / template / PARAMS).is_file():
        return {}
    block: dict[str, Any] = next(iter(parse_yaml(read_text(TEMPLATES / template / PARAMS).replace("@", "")).values()))
    return block


def check_request(name: str, template: str, variant: str, root: Path) -> None:
    """Refuse a workspace that can't be made, before its images are looked at.

    Raises:
        ConfigError: the name is taken or no name, or the template or variant is unknown.
    """
    _require_template(template, variant)
    is_alone = not (root / PARAMS).is_file()
    _check_name(name, root / name if is_alone else root / "mmars" / name, root / PARAMS)


def recognise_source(source: Path, name: LayoutName | None = None) -> Layout | None:
    """Tell which known layout a folder of images has.

    Args:
        source: the folder.
        name: the layout to read it by; None: the first that fits.

    Returns:
        None where it has none, such as a folder of DICOM, or of images and labels of the same names.

    Raises:
        DataError: the folder is missing or empty, has not the layout ``name``, or its description is wrong.
    """
    return recognise_layout(source, list_files(source), name)


def make_mmar(
    template: str,
    folder: Path,
    *,
    variant: str = "published",
    data_root: str | None = None,
    datalist: str | None = None,
) -> Path:
    """Make the MMAR of a model of the zoo: complete, plain files, with folders for models and results.

    Args:
        template: the model's name, or one of its others.
        folder: is made; must not exist.
        variant: "published", or "cpu" for a small network.
        data_root: DATA_ROOT of environment.json; left out: where the data set's own archive would unpack to.
        datalist: DATASET_JSON of environment.json; left out: the example in the MMAR's config/.

    Returns:
        The folder.

    Raises:
        ConfigError: the template or variant is unknown, or the folder exists.
    """
    model = _require_template(template, variant)
    if model is None:
        raise ConfigError(f"{template!r} is no model of the zoo{suggest(template, _list_names())}")
    if folder.exists():
        raise ConfigError("exists already", path=folder)
    data_root = data_root or f"/workspace/data/{model.data.folder}"
    with atomic_directory(folder) as temporary:
        _copy_templates(COMMON, temporary, _collect_words(folder.name, data_root, model.summary))
        write_model(model, temporary, "cpu" if variant == "cpu" else "published")
        place = make_environment(model, data_root, datalist or f"config/{model.datalist_name}")
        write_json(temporary / "config" / "environment.json", place)
        for empty in ("models", "eval"):
            (temporary / empty).mkdir(exist_ok=True)
    return folder


def _create_in_repository(
    name: str,
    source: Path,
    template: str,
    *,
    root: Path,
    variant: str,
    layout: Layout | None,
    channels: ChannelProposal | None,
) -> Path:
    folder, params = root / "mmars" / name, root / PARAMS
    model = find_model(template)
    words = _collect_words(name, source.as_posix(), model.summary if model else list_templates()[template])
    # Without a table, the sub-folder that an image lies in names its finding.
    words["FINDINGS"] = FINDINGS if (root / source / FINDINGS).is_file() else "null"
    if model is None:
        copy_template(template, folder, words)
    else:
        datalist = f"data/datalists/{name}/dataset_0.json"
        make_mmar(template, folder, variant=variant, data_root=f"data/resampled/{name}", datalist=datalist)
        words |= collect_block_words(model, variant, words["FINDINGS"], has_layout=layout is not None)
    block = _fill_words((TEMPLATES / (template if model is None else ZOO) / PARAMS).read_text(encoding="utf-8"), words)
    block = _state_conversion(block, _describe_layout(layout) if layout else _describe_label_names(root / source))
    if channels and takes_channels(template, channels):
        block = _state_conversion(block, _describe_channels(channels))
    if _has_own_test_part(root / source, layout):
        block = re.sub(r"^      testing: .*$", "      testing: dataset", block, flags=re.MULTILINE)
    write_text(params, _insert_block(read_text(params), block))
    return folder


def copy_template(template: str, folder: Path, words: Mapping[str, str]) -> None:
    """Make an MMAR of any template, whole or not at all.

    Args:
        template: one of :func:`list_templates`, or another name of a model of the zoo.
        folder: the MMAR to make; what is there is replaced.
        words: the values of ``@WORD@`` in templates for one's own data.

    Raises:
        ConfigError: no such template.
    """
    model = _require_template(template, "published")
    if model is not None:
        shutil.rmtree(folder, ignore_errors=True)
        make_mmar(template, folder)
        return
    with atomic_directory(folder) as temporary:
        for part in (COMMON, template):
            _copy_templates(part, temporary, words)


def find_template(name: str) -> str | None:
    """Find the template that a name or an alias means; None when there is none.

    Example:
        >>> find_template("segmentation_ct"), find_template("no_such_template")
        ('segmentation_ct', None)
    """
    model = find_model(name)
    return model.name if model else name if name in list_templates() else None


def _require_template(template: str, variant: str) -> ZooModel | None:
    """The model of the zoo that is meant; None for a template for one's own data."""
    if variant not in VARIANTS:
        raise ConfigError(f"unknown variant {variant!r}{suggest(variant, VARIANTS)}; known: {', '.join(VARIANTS)}")
    model = find_model(template)
    if model is None and template not in list_templates():
        raise ConfigError(f"unknown template {template!r}{suggest(template, _list_names())}")
    return model


def _list_names() -> list[str]:
    """Everything that a template can be called."""
    return [*list_templates(), *(alias for model in read_zoo().values() for alias in model.aliases)]


def _check_name(name: str, folder: Path, params: Path) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a workspace is named with letters, digits, _ and -, a letter first, received {name!r}")
    if folder.exists():
        raise ConfigError(f"the workspace {name!r} exists already", path=folder)
    workspaces = read_workspaces(params)
    check_workspace_name(name, workspaces, params)
    if name in workspaces:
        raise ConfigError(f"the workspace {name!r} exists already", path=params, where="workspaces")


def _insert_block(text: str, block: str) -> str:
    """Put a block at the end of ``workspaces:``, every other character of the file kept."""
    if not re.search(r"^workspaces:", text, re.MULTILINE):
        return f"{text.rstrip()}\n\nworkspaces:\n{block}"
    text = re.sub(r"^workspaces:[ \t]*\{\}[ \t]*$", "workspaces:", text, flags=re.MULTILINE)
    start = re.search(r"^workspaces:.*\n?", text, re.MULTILINE)
    begin = start.end() if start else len(text)
    # The next key at the left margin ends the mapping; a comment there belongs to that key.
    following = re.search(r"^(?:#.*\n)*[^\s#]", text[begin:], re.MULTILINE)
    end = begin + following.start() if following else len(text)
    before = text[:end].rstrip()
    after = text[end:]
    return f"{before}\n\n{block}" + (f"\n{after}" if after else "")


def _has_own_test_part(source: Path, layout: Layout | None) -> bool:
    """Whether the data set keeps labelled cases for testing."""
    if layout is None:
        # An empty folder is no fault yet: images may come later.
        with suppress(DataError):
            return has_labelled_test_part(list_files(source), source)
        return False
    return any(case.part == "testing" and case.labels for case in layout.cases)


def _describe_layout(layout: Layout) -> list[str]:
    """The layout, and to keep what overlaps where masks do."""
    return [f"layout: {layout.name}", *(["overlap: regions"] if masks_overlap(layout) else [])]


def _describe_channels(proposal: ChannelProposal) -> list[str]:
    """The rules, and what is known of them."""
    lines = [
        f"# Which {'series of a study' if proposal.unit == 'studies' else 'files'} are the channels of a case, in the "
        f"model's order (docs/conversion.md). They fit {proposal.matching} of",
        f"# {proposal.studies} {proposal.unit}. Take out a channel that you do not need, before the first training.",
        "channels:",
    ]
    rules = format_yaml({name: dict(rule) for name, rule in proposal.rules.items()})
    overlap = ["overlap: regions"] if proposal.has_overlaps else []
    return [*lines, *(f"  {line}" for line in rules.splitlines()), *overlap]


def _describe_label_names(source: Path) -> list[str]:
    """The names of label values, where ITK-SNAP's or 3D Slicer's file of them lies in the source folder itself.

    Else a proposal, where the values are not counted from 1.
    """
    for file in sorted(file for file in source.iterdir() if file.suffix.lower() in DESCRIPTION_SUFFIXES):
        names = read_label_descriptions(file) if file.is_file() and file.stat().st_size < MAX_DESCRIPTION else None
        if names:
            return [f"labels: {json.dumps(names, ensure_ascii=False)}"]
    proposal = propose_label_values(source)
    if not proposal:
        return []
    line = format_proposal(proposal)
    say(f"label files hold the value(s) {join_names([str(value) for value in proposal])}, which are not counted from 1")
    say(f"  convert.{line} in params.yaml numbers them: put in the classes' names")
    return [line]


def _state_conversion(block: str, lines: Sequence[str]) -> str:
    """Write lines below ``convert`` of a block; a key that stands there already keeps its value."""
    keys = set(re.findall(r"^      (\w+):", block, re.MULTILINE))
    new_lines = [line for line in lines if line.partition(":")[0] not in keys]
    text = "".join(f"      {line}\n" for line in new_lines)
    # As a function: a name may hold a backslash.
    return (
        re.sub(r"^    convert:(?: \{\})?\n", lambda _: f"    convert:\n{text}", block, flags=re.MULTILINE)
        if text
        else block
    )


def _copy_templates(part: str, target: Path, words: Mapping[str, str]) -> None:
    """Copy a folder of templates with its words filled in; scripts can be run."""
    shutil.copytree(TEMPLATES / part, target, ignore=_NOT_COPIED, dirs_exist_ok=True)
    for file in target.rglob("*.*"):
        if file.is_file():
            file.write_text(_fill_words(file.read_text(encoding="utf-8"), words), encoding="utf-8")
    for script in target.glob("commands/*.sh"):
        script.chmod(script.stat().st_mode | 0o111)


def _collect_words(name: str, source: str, description: str) -> dict[str, str]:
    # A JSON string is a YAML string.
    return {"WORKSPACE": name, "SOURCE": source, "DESCRIPTION": description, "SOURCE_YAML": json.dumps(source)}


def _fill_words(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
