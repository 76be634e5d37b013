"""Opens a bundle: MONAI parses its configurations, and Voxflow puts its folders and cases in."""

from __future__ import annotations

import contextlib
import importlib
import os
import pydoc
import re
import shutil
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from voxflow.bundle.guard import hold_to_bounds
from voxflow.bundle.options import list_config_files
from voxflow.bundle.reading import get_item, has_item
from voxflow.bundle.redirect import Redirection, list_components, rename_fields
from voxflow.bundle.workflows import advise_workflow
from voxflow.errors import ConfigError, DataError, MissingDependencyError, VoxflowError
from voxflow.findings import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from voxflow.bundle.guard import StageBounds
    from voxflow.bundle.options import BundleOptions
    from voxflow.datalist import Case
    from voxflow.findings import Severity

BundleItem = dict[str, Any]
# Ids that the model zoo's bundles run by.
USUAL_ENTRIES = ("run", "training", "evaluating", "inference")
_REFUSED_IN_WORKER = re.compile(r"voxflow\.errors\.ConfigError: (.*)")
_CAUSE_IN_WORKER = re.compile(r"^([\w.]+(?:Error|Exception): .*)", re.MULTILINE)
NOT_TRUSTED = (
    "running a bundle runs the code in its configurations ('$' expressions, any class that '_target_' names); look "
    "through them, then say trust: true beside kind: bundle"
)


def require_trust(*, trust: bool, json_path: str) -> None:
    """Let only a bundle run that the user trusts, and only where MONAI's engines are installed.

    Raises:
        ConfigError: it is not trusted.
        MissingDependencyError: pytorch-ignite is missing.
    """
    if trust is not True:
        raise ConfigError(NOT_TRUSTED, path="params.yaml", where=json_path)
    if find_spec("ignite") is None:
        raise MissingDependencyError("MONAI's engines need pytorch-ignite: pip install 'voxflow[bundle]'")


@contextlib.contextmanager
def open_bundle(
    bundle: Path,
    stage: str,
    options: BundleOptions,
    *,
    folders: Mapping[str, Path],
    data: Mapping[str, list[BundleItem]],
    bounds: StageBounds,
) -> Iterator[Any]:
    """Open a bundle's configurations for one stage, within :func:`voxflow.bundle.reading.use_bundle`.

    Args:
        bundle: its folder, which holds configs/.
        stage: "train", "evaluate" or "infer".
        options: which configurations, what wins.
        folders: where "checkpoints" and "outputs" lie; where both are one id, the last counts.
        data: lists of items by id; where the configuration has no such id there is an error.
        bounds: what the run may load, read and write, until the workflow is closed.

    Yields:
        MONAI's ConfigWorkflow, initialised.

    Raises:
        ConfigError: a configuration is missing or has no such id.
    """
    bundle = bundle.resolve()
    files = list_config_files(bundle, stage, options)
    for file in files:
        if not file.is_file():
            message = f"file not found; workspaces.*.{stage}.config names the configurations{advise_workflow(bundle)}"
            raise ConfigError(message, path=file)
    _forget_scripts()
    try:
        workflow = _read_workflow(bundle, files, options)
        bounds.parser = workflow.parser
        _require_entry(workflow.parser, files[0], stage, options)
        _import_writers([*files, *bundle.glob("scripts/**/*.py")])
        with hold_to_bounds(bounds):
            _fill_in(workflow.parser, files[0], stage, options, folders=folders, data=data, bounds=bounds)
            call_in_one_line(workflow.initialize, bounds)
            yield workflow
    finally:
        _forget_modules(bundle)
        shutil.rmtree(bounds.cache, ignore_errors=True)


def _read_workflow(bundle: Path, files: list[Path], options: BundleOptions) -> Any:
    from monai.bundle import ConfigWorkflow

    return ConfigWorkflow(
        config_file=[str(file) for file in files],
        logging_file=False,
        init_id=options.init_id,
        run_id=options.run_id,
        final_id=options.final_id,
        workflow_type=None,
        bundle_root=str(bundle),
    )


def _require_entry(parser: Any, config: Path, stage: str, options: BundleOptions) -> None:
    """Refuse a configuration that does not say what to run, before anything of it is built."""
    entries = [name for name in USUAL_ENTRIES if name in parser and name != options.run_id]
    advice = f" (here: {', '.join(entries)})" if entries else ""
    if not has_item(parser.get(), options.run_id) and options.run_id not in options.set:
        message = f"no id {options.run_id!r} to run; run_id names it where the bundle calls it otherwise{advice}"
        raise ConfigError(message + advise_workflow(config.parents[1]), path=config)
    text = str(options.set.get(options.run_id, parser.get(options.run_id))).replace("::", "#")
    if stage != "train" and re.search(rf"@{re.escape(options.trainer)}\b", text):
        message = f"runs {options.trainer!r}, which trains; run_id names what the stage {stage} is to run{advice}"
        raise ConfigError(message, path=config, where=options.run_id)


def _import_writers(files: list[Path]) -> None:
    """Import what writes images by itself, where a bundle uses it, so that it can be held to the bounds."""
    is_used = any("SimpleITK" in file.read_text(encoding="utf-8", errors="replace") for file in files)
    if is_used and find_spec("SimpleITK") is not None:
        importlib.import_module("SimpleITK")


def _forget_scripts() -> None:
    """Forget a package ``scripts`` that this process imported from elsewhere: it would stand for the bundle's own."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
        del sys.modules[name]


def _forget_modules(bundle: Path) -> None:
    """Forget a bundle's own modules: another bundle's have the same names."""
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if isinstance(spec, ModuleSpec):
            places = [spec.origin or "", *(spec.submodule_search_locations or ())]
            if any(place.startswith(f"{bundle}{os.sep}") for place in places):
                del sys.modules[name]


def _fill_in(
    parser: Any,
    config: Path,
    stage: str,
    options: BundleOptions,
    *,
    folders: Mapping[str, Path],
    data: Mapping[str, list[BundleItem]],
    bounds: StageBounds,
) -> None:
    """Put Voxflow's folders and cases, and what ``set`` says, into a configuration."""

    def evaluate(name: str) -> Any:
        parser.ref_resolver.reset()
        try:
            return parser.get_parsed_content(name)
        except Exception:  # noqa: BLE001 - an expression that fails now fails in the run, too, which then says why
            return None

    def refuse(severity: Severity, code: str, name: str, message: str, fix: str = "") -> None:
        if severity == "error":
            del code
            raise ConfigError(f"{message}: {fix}" if fix else message, path=config, where=name)

    redirection = Redirection(parser.get(), options, stage, bounds, refuse, evaluate)
    if lost := redirection.put_set():
        message = "sets a value inside of what the configuration does not have"
        raise ConfigError(message, path=config, where=f"set: {lost[0]}")
    lacking, missing = redirection.put_folders({option: folder.resolve() for option, folder in folders.items()})
    if missing:
        raise _describe_missing_folder(parser.get(), config, missing[0], options)
    # A component that is copied by %id is one of its own, with places of its own.
    call_in_one_line(parser.resolve_macro_and_relative_ids, bounds)
    redirection.content = parser.get()
    lists = {name: [rename_fields(item, options) for item in items] for name, items in data.items() if name}
    first = next((items[0] for items in lists.values() if items), None)
    missing = redirection.put_cases(lists, list(first) if isinstance(first, dict) else ())
    if missing:
        raise _describe_missing_list(parser.get(), config, missing[0])
    redirection.redirect_components(lacking)
    parser.ref_resolver.reset()


def _describe_missing_folder(content: Any, config: Path, option: str, options: BundleOptions) -> ConfigError:
    # No advice: another folder's id, since both would be one, and a folder that the bundle reads from.
    name, used = getattr(options, option), {options.checkpoints, options.outputs}
    ids = [key for key in content if key.endswith("dir") and not key.startswith(("data", "bundle"))]
    near = suggest(name, set(ids) - used)
    return ConfigError(f"no id {name!r} that Voxflow could put its folder in{near}", path=config)


def _describe_missing_list(content: Any, config: Path, name: str) -> ConfigError:
    ids = [f"{place}#data" for place, component in list_components(content) if "data" in component]
    # A data set may be the list itself, or an expression that takes the list from an id.
    parent = name.removesuffix("#data")
    dataset = get_item(content, parent) if has_item(content, parent) else ""
    ids += [parent] if isinstance(dataset, list) else []
    ids += [id_ for id_ in re.findall(r"@([\w#]+)", str(dataset)) if has_item(content, id_)]
    message = (
        f"no id {name!r} that the split's cases could be put in{suggest(name, ids)}; name it by train_data, "
        f"validate_data or infer_data (here: {', '.join(ids) or 'none'}), or say data: own"
    )
    return ConfigError(message, path=config)


def run_workflow(workflow: Any, bounds: StageBounds | None = None) -> None:
    """Do what the configuration says under ``run`` and ``finalize``.

    Raises:
        VoxflowError: something in it failed; the message is the first cause.
    """
    call_in_one_line(workflow.run, bounds)
    call_in_one_line(workflow.finalize, bounds)


def call_in_one_line(call: Callable[[], Any], bounds: StageBounds | None) -> Any:
    """Call something of the bundle's, and say in one line why it failed.

    MONAI wraps what fails in an error a level, and the innermost says what it is; a worker process sends a text.

    Raises:
        VoxflowError: it failed.
    """
    try:
        return call()
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        if isinstance(first, pydoc.ErrorDuringImport):
            raise first from None  # what opened the bundle says whether a package is missing
        if bounds is not None and bounds.faults:
            raise bounds.faults[0] from error
        refused = _REFUSED_IN_WORKER.search(str(error)) or _REFUSED_IN_WORKER.search(str(first))
        if refused:
            raise ConfigError(refused[1]) from error
        if isinstance(first, VoxflowError):
            raise first from None
        lines = str(first).splitlines() or [""]
        if lines[0].startswith("Caught ") and (causes := _CAUSE_IN_WORKER.findall(str(first))):
            lines = causes
        else:
            lines[0] = f"{type(first).__name__}: {lines[0]}"
        raise VoxflowError(f"the bundle's own configuration failed: {lines[0]}") from error


def require_engine(workflow: Any, name: str) -> None:
    """Require that a configuration has an engine, such as its trainer.

    Raises:
        ConfigError: the configuration has no such id.
    """
    if not has_item(workflow.parser.get(), name):
        kind = name.rsplit("#", 1)[-1]
        ids = [place for place, _ in list_components(workflow.parser.get()) if place.lower().endswith(kind)]
        advice = f"; `{kind}` names it (here: {', '.join(ids)})" if ids else ""
        raise ConfigError(f"no id {name!r}{advice}", path=workflow.config_root_path)


def list_items(cases: Sequence[Case], *, with_label: bool = True) -> list[BundleItem]:
    """List cases as MONAI's datasets take them: paths by field.

    Args:
        cases: of a datalist.
        with_label: a mask's path, or the findings, go with the image.

    Raises:
        DataError: voxels or classes of a mask were not labelled, which a bundle would take for background.
    """
    items: list[BundleItem] = []
    for case in cases:
        images = [str(path.resolve()) for path in case.image]
        item: BundleItem = {"image": images[0] if len(images) == 1 else images}
        if with_label and case.label is not None:
            if case.ignore is not None or case.labelled is not None:
                message = "is not labelled everywhere (ignore, labelled), which a bundle can't be told"
                raise DataError(f"case {case.id} {message}; train it with a template of Voxflow")
            item["label"] = list(case.label) if isinstance(case.label, tuple) else str(case.label.resolve())
        items.append(item)
    return items
