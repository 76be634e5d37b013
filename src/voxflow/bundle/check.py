"""``voxflow check`` of a bundle: everything that can be told wrong of it without running any of its code.

The configurations of each stage are merged as the stage merges them, the stage's values are put in, and what is left
is read: references, expressions, components, packages. MONAI is imported, the bundle never is.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from voxflow.bundle.expressions import check_expressions, list_import
from voxflow.bundle.guard import StageBounds
from voxflow.bundle.needs import check_effects, check_engine, check_needs, find_vain_values, note_vain_values
from voxflow.bundle.options import DEFAULT_EVALUATOR, BundleOptions, list_config_files
from voxflow.bundle.packages import check_requirements, describe_missing, find_reader_module, is_installed
from voxflow.bundle.program import list_code
from voxflow.bundle.reading import (
    CONFIG_SUFFIXES,
    BundleConfig,
    has_item,
    merge_config_files,
    read_config_file,
    set_item,
)
from voxflow.bundle.redirect import Redirection, list_parts, read_literal
from voxflow.bundle.references import StageReading, check_references, expand_macros, trace_stage
from voxflow.bundle.targets import TargetFinder, find_argument_faults, find_lazy_package
from voxflow.bundle.workflows import describe_workflow, find_workflow_class
from voxflow.errors import ConfigError
from voxflow.findings import FaultyConfigError, Finding, FindingCollector
from voxflow.lint import CheckReport
from voxflow.places import PARAMS, read_workspaces
from voxflow.texts import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voxflow.bundle.targets import Target
    from voxflow.findings import Severity

STAGES = ("train", "evaluate", "infer")
METADATA = "configs/metadata.json"
_RANK = ("note", "warning", "error")
MOST_ALIKE = 50
# By the words of a configuration's name; all others are for training.
_STAGE_WORDS = {"infer": "infer", "inference": "infer", "evaluate": "evaluate", "eval": "evaluate", "test": "evaluate"}
# What MONAI's ckpt_export and the comparison after it read of metadata.json.
_EXPORT_IDS = (
    "inputs#image#num_channels",
    "inputs#image#spatial_shape",
    "inputs#image#dtype",
    "outputs#pred#num_channels",
    "outputs#pred#dtype",
)


@dataclass(frozen=True)
class BundleTarget:
    """A bundle to check.

    Attributes:
        name: as the user named it.
        folder: the bundle's, which holds configs/.
        workspace: its name in params.yaml; empty for a folder that no workspace is made of.
        block: what params.yaml says of it.
        overrides: values that win over ``set`` of all stages.
        config: the only configuration to check; empty: those of all stages.
    """

    name: str
    folder: Path
    workspace: str = ""
    block: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""

    def place(self, *keys: str) -> str:
        """The JSON path of a key in params.yaml; empty without a workspace."""
        return ".".join(["workspaces", self.workspace, *keys]) if self.workspace else ""


def find_bundle(workspace: str) -> BundleTarget | None:
    """Find the bundle that a user names: a workspace of ``kind: bundle``, or a bundle's folder.

    Args:
        workspace: a name in params.yaml, or a path.

    Returns:
        None where it is no bundle.

    Raises:
        ConfigError: the workspace is a bundle, and its folder is missing.
    """
    path = Path(workspace)
    if any((path / "config" / name).is_file() for name in ("config_train.json", "config_validation.json")):
        return None  # an MMAR
    blocks = {str(name): block for name, block in read_workspaces().items() if isinstance(block, dict)}
    for name, block in blocks.items():
        mmar = Path("mmars") / name
        is_meant = workspace.rstrip("/") == name or path.resolve() in {mmar.resolve(), (mmar / "config").resolve()}
        if is_meant and block.get("kind") != "bundle":
            return None
        if is_meant and not (mmar / "config").is_dir():
            raise ConfigError("no such folder; copy the whole bundle there", path=mmar / "config")
        if is_meant:
            return BundleTarget(workspace, mmar / "config", name, block)
    folders = (folder for folder in (path, path / "config") if _list_configs(folder))
    return next((BundleTarget(workspace, folder) for folder in folders), None)


def _list_configs(bundle: Path) -> list[Path]:
    files = (file for file in (bundle / "configs").glob("*") if file.suffix.lower() in CONFIG_SUFFIXES)
    # A name that a terminal would obey is none that a stage reads by default.
    return sorted(file for file in files if file.is_file() and file.name.isprintable())


def check_bundle(target: BundleTarget) -> CheckReport:
    """Check a bundle's configurations for each stage; nothing of the bundle is run or imported.

    Args:
        target: the bundle, and what params.yaml says of it.

    Returns:
        Every finding, those of one file together.
    """
    with _hide_from_imports(target.folder):
        check = _BundleCheck(target)
        check.run()
    report = CheckReport(target.name)
    report.add(_merge_findings(check.findings))
    report.sort()
    return report


@contextlib.contextmanager
def _hide_from_imports(bundle: Path) -> Iterator[None]:
    """Take the bundle off Python's path, where a user's PYTHONPATH or present folder may have put it."""
    before = list(sys.path)
    folder = bundle.resolve()
    # An environment, or Voxflow itself, may lie below the folder that is checked.
    environments = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(__file__).resolve().parents[2])

    def is_hidden(entry: str) -> bool:
        path = Path(entry or ".").resolve()
        return path.is_relative_to(folder) and not any(path.is_relative_to(place) for place in environments)

    sys.path[:] = [entry for entry in before if not is_hidden(entry)]
    try:
        yield
    finally:
        sys.path[:] = before


def _merge_findings(findings: list[Finding]) -> list[Finding]:
    """One finding of several stages is one, with the gravest severity, in printable characters."""
    merged: dict[tuple[str, ...], Finding] = {}
    for finding in findings:
        where, message, fix = map(escape, (finding.where, finding.message, finding.fix))
        key = (finding.code, str(finding.file), where, message)
        before = merged.get(key)
        if before is None or _RANK.index(finding.severity) > _RANK.index(before.severity):
            merged[key] = replace(finding, where=where, message=message, fix=fix)
    return _cap(list(merged.values()))


def _cap(findings: list[Finding]) -> list[Finding]:
    """The first of each kind in each file, and how many more there are."""
    counts: Counter[tuple[str, str, Path]] = Counter()
    capped: list[Finding] = []
    for finding in findings:
        kind = (finding.code, finding.severity, finding.file)
        counts[kind] += 1
        capped += [finding] if counts[kind] <= MOST_ALIKE else []
    more = {kind: count - MOST_ALIKE for kind, count in counts.items() if count > MOST_ALIKE}
    for (code, severity, file), count in more.items():
        capped.append(Finding(code, severity, file, "", f"and {count} more like this"))  # type: ignore[arg-type]
    return capped


class _BundleCheck:
    """One check: what the stages share, and what is found."""

    def __init__(self, target: BundleTarget) -> None:
        self.target = target
        self.findings: list[Finding] = []
        self.finder = TargetFinder(target.folder)
        self.contents = {file: content for file in _list_configs(target.folder) if (content := self._read(file))}
        self.metadata = self.contents.get(target.folder / METADATA, {})
        # Of each stage that could be read, the values of the command line that nothing reads, with advice.
        self.vain: list[dict[str, str]] = []
        self.read_files: set[Path] = set()

    def _read(self, file: Path) -> dict[str, Any]:
        notes = FindingCollector(file, self.findings)
        try:
            return read_config_file(file, notes)
        except FaultyConfigError as error:
            # A list in configs/ is a datalist or the like, which MONAI reads by itself.
            self.findings += [] if "received a list" in str(error) else error.faults
            return {}

    def run(self) -> None:
        """Check all of it."""
        self._check_params()
        stated = {key: value for content in self.contents.values() for key, value in content.items()}
        workflow = find_workflow_class(self.target.folder, {**stated, **self.metadata})
        if workflow:
            fault = Finding("workflow-class", "error", self.target.folder, "", *describe_workflow(workflow))
            self.findings.append(fault)
        for stage in STAGES:
            self._check_stage(stage, is_configured=not workflow)
        if not self.target.workspace and not self.target.config:
            self._check_other_files()
        if workflow:
            self._check_scripts({workflow})
        for key in self.target.overrides if self.vain else ():
            if all(key in vain for vain in self.vain):
                fixes = (vain[key] for vain in self.vain if vain[key])
                message = f"no configuration has an id {key!r}, and nothing refers to it"
                fault = Finding("unknown-id", "error", self.target.folder, f"--set {key}", message, next(fixes, ""))
                self.findings.append(fault)
        self._check_metadata()
        # What a bundle is stands above all that is wrong with it.
        contents = {file: content for file, content in self.contents.items() if file in self.read_files}
        self.findings[:0] = list_code(self.target.folder, contents, self.finder)

    def _check_params(self) -> None:
        findings = FindingCollector(PARAMS, self.findings)
        if self.target.workspace and self.target.block.get("trust") is not True:
            message = "the stages refuse a bundle that is not trusted: running it runs its code"
            findings.error(
                "not-trusted", self.target.place("trust"), message, "look through it, then write trust: true"
            )
        if not is_installed("ignite") or not is_installed("fire"):
            message = "MONAI's engines need pytorch-ignite and fire"
            findings.error("missing-package", "", message, 'pip install "voxflow[bundle]"')

    def _check_stage(self, stage: str, *, is_configured: bool) -> None:
        target, notes = self.target, FindingCollector(PARAMS, self.findings)
        options = self._read_options(stage)
        files = self._list_files(stage, options) if options else []
        missing = [file for file in files if not file.is_file()]
        if missing and is_configured:
            self._note_missing_files(stage, missing)
        if options is None or not files or missing:
            return
        try:
            self.read_files.update(files)
            config = merge_config_files(files, notes)
            config.content["_meta_"] = deepcopy(self.metadata)
            config.set_origin("_meta_", target.folder / METADATA)
            used = {file.resolve() for file in files}
            unread = {file: content for file, content in self.contents.items() if file.resolve() not in used}
            reading = StageReading(target.folder, stage, config, unread, self.findings)
            vain = find_vain_values(reading, options, self.finder)
            self.vain.append(vain)
            in_params = {key: fix for key, fix in vain.items() if key not in target.overrides}
            note_vain_values(reading, in_params, target.place(stage))
            effective = {key: value for key, value in options.set.items() if key not in vain}
            self._check_reading(reading, options.model_copy(update={"set": effective}), is_configured=is_configured)
        except FaultyConfigError as error:
            self.findings += error.faults
        except RecursionError:
            self.findings.append(Finding("syntax", "error", files[0], "", "its values are nested too deep"))

    def _read_options(self, stage: str) -> BundleOptions | None:
        block = self.target.block.get(stage) or {}
        try:
            options = BundleOptions.model_validate(block)
        except ValidationError as error:
            FindingCollector(PARAMS, self.findings).add_validation(error, self.target.place(stage))
            return None
        return options.model_copy(update={"set": {**options.set, **self.target.overrides}})

    def _list_files(self, stage: str, options: BundleOptions) -> list[Path]:
        """The stage's configurations; with one to check, those that it is read over."""
        folder, config = self.target.folder, Path(self.target.config)
        if not self.target.config:
            return list_config_files(folder, stage, options)
        file = config if config.is_file() and not (folder / config).is_file() else folder / config
        words = file.stem.replace("-", "_").split("_")
        if next((_STAGE_WORDS[word] for word in words if word in _STAGE_WORDS), "train") != stage:
            return []
        base = list_config_files(folder, stage, options.model_copy(update={"config": ()}))
        below = [path for path in base if path.is_file() and path.resolve() != file.resolve()]
        is_override = words[0] == "multi" or words[-1] == "trt" or stage == "evaluate"
        return [*below, file] if is_override else [file]

    def _note_missing_files(self, stage: str, missing: list[Path]) -> None:
        folder = self.target.folder
        names = [file.relative_to(folder).as_posix() for file in self.contents if file != folder / METADATA]
        # A folder alone says nothing of the stages that will be run on it.
        severity: Severity = "error" if self.target.workspace or self.target.config else "warning"
        fix = f"{stage}.config names others: {', '.join(names)}" if names else "copy the whole bundle there"
        message = f"file not found; the stage {stage} reads it"
        self.findings += [Finding("missing-file", severity, file, "", message, fix) for file in missing]

    def _check_reading(self, reading: StageReading, options: BundleOptions, *, is_configured: bool) -> None:
        mmar = Path("mmars") / (self.target.workspace or "NAME")
        model = mmar / "models/train"
        out = mmar / "eval" / ("test" if reading.stage == "evaluate" else "infer")
        weights = None if reading.stage == "train" else model / "model.pt"
        folders = {"checkpoints": model, "outputs": out}
        if weights is None:  # where both are one id, checkpoints decide
            folders = {"outputs": model / "events", "checkpoints": model}
        images = Path("the folder of its images") if weights else None
        bounds = StageBounds((), weights=weights, image_root=images)
        bounds.folders = (out if weights else model,)  # as messages name them
        redirection = Redirection(reading.content, options, reading.stage, bounds, reading.note)
        with contextlib.suppress(KeyError):
            set_item(reading.content, "bundle_root", str(reading.bundle))
        redirection.put_set()
        lacking, _ = redirection.put_folders(folders)
        expand_macros(reading)
        if is_configured:
            check_needs(reading, options, self.target.place(reading.stage))
        parts = list_parts(reading.stage, options)
        fields = [options.image_key, *([options.label_key] if reading.stage != "infer" else [])]
        redirection.put_cases({name: [] for _, name, _ in parts}, fields if options.image_key else ())
        redirection.redirect_components(lacking)
        evaluator = options.evaluator or DEFAULT_EVALUATOR[reading.stage]
        engine = options.trainer if reading.stage == "train" else evaluator
        trace_stage(reading, [options.init_id, options.run_id, options.final_id])
        if is_configured and has_item(reading.content, options.run_id) and has_item(reading.content, engine):
            check_engine(reading, options, engine)
        trace_stage(reading, [engine, evaluator])
        check_references(reading)
        targets = self._check_code(reading)
        if is_configured:
            check_effects(reading, targets, weights)

    def _check_other_files(self) -> None:
        """Look at the code in configurations that no stage reads by itself; what they refer to stands elsewhere."""
        unread = self.contents.keys() - self.read_files - {self.target.folder / METADATA}
        self.read_files |= unread
        for file in sorted(unread):
            reading = StageReading(self.target.folder, "", BundleConfig(self.contents[file], file), {}, self.findings)
            self._check_code(reading, is_whole=False)

    def _check_code(self, reading: StageReading, *, is_whole: bool = True) -> dict[str, Target]:
        expressions = check_expressions(reading, self.finder, is_whole=is_whole)
        targets = self._check_components(reading)
        names = {target.path for target in targets.values()}
        names |= {list_import(expression.statement)[1] for expression in expressions if expression.statement}
        self._check_scripts(names)
        return targets

    def _check_components(self, reading: StageReading) -> dict[str, Target]:
        targets: dict[str, Target] = {}
        for name, component in reading.list_components():
            path, place = component["_target_"], f"{name}#_target_"
            if not isinstance(path, str):
                reading.note_reached("unknown-component", place, f"{path!r} names no class")
            if not isinstance(path, str) or path.startswith(("$", "@")):
                continue
            target = targets[name] = self.finder.find(path)
            if target.fault:
                reading.note_reached(target.code, place, f"{path!r}: {target.fault[0]}", target.fault[1])
                continue
            for code, argument, message, fix in find_argument_faults(target, component):
                reading.note_reached(code, f"{name}#{argument}" if argument else name, message, fix)
            modules = {place: find_lazy_package(target)}
            if "reader" in component:
                reader = f"{name}#reader"
                modules[reader] = find_reader_module(str(read_literal(reading.content, reader)))
            for argument, module in modules.items():
                if module:
                    missing, install = describe_missing(module)
                    reading.note("warning", "missing-package", argument, f"{path!r} may need it: {missing}", install)
        return targets

    def _check_scripts(self, names: set[str]) -> None:
        """Note the packages that the bundle's own modules import and that are not installed."""
        for path in sorted(filter(self.finder.is_own, names)):
            for file, line, module in self.finder.find_script_gaps(path):
                message, install = describe_missing(module)
                text = f"imports {module}: {message}"
                self.findings.append(Finding("missing-package", "error", file, f"line {line}", text, install))

    def _check_metadata(self) -> None:
        """The packages that metadata.json names, and what the export reads there."""
        file = self.target.folder / METADATA
        notes = FindingCollector(file, self.findings)
        if not file.is_file():
            message = "file not found; the export reads the size of the network's input there"
            notes.warning("missing-file", "", message)
            return
        for place, message, install in check_requirements(self.metadata):
            notes.warning("missing-package", place, message, install)
        lacking = [name for name in _EXPORT_IDS if not has_item(self.metadata, f"network_data_format#{name}")]
        if self.metadata and lacking:
            message = f"lacks {', '.join(lacking)}, which the export reads"
            notes.warning("metadata", "network_data_format", message)
