"""Opens a bundle: MONAI parses its configurations, and Voxflow puts its folders and cases in."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from voxflow.bundle.guard import hold_to_bounds, list_components, redirect_components
from voxflow.bundle.options import list_config_files
from voxflow.bundle.workflows import advise_workflow
from voxflow.errors import ConfigError, MissingDependencyError, VoxflowError
from voxflow.findings import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from voxflow.bundle.guard import StageBounds
    from voxflow.bundle.options import BundleOptions
    from voxflow.datalist import Case

BundleItem = dict[str, Any]
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
    from importlib.util import find_spec

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
    """Open a bundle's configurations for one stage.

    Args:
        bundle: its folder, which holds configs/.
        stage: "train", "evaluate" or "infer".
        options: which configurations, what wins.
        folders: a path by id; where the configuration has no such id there is an error.
        data: lists of items by id; where the configuration has no such id there is an error.
        bounds: what the run may load, read and write, until the workflow is closed.

    Yields:
        MONAI's ConfigWorkflow, initialised.

    Raises:
        ConfigError: a configuration is missing or has no such id.
    """
    from monai.bundle import ConfigWorkflow

    bundle = bundle.resolve()
    files = list_config_files(bundle, stage, options)
    for file in files:
        if not file.is_file():
            message = f"file not found; workspaces.*.{stage}.config names the configurations{advise_workflow(bundle)}"
            raise ConfigError(message, path=file)
    # A bundle's own modules stand beside configs/ and are imported by their names.
    before, sys.path[:] = list(sys.path), [str(bundle), *sys.path]
    try:
        workflow = ConfigWorkflow(
            config_file=[str(file) for file in files],
            logging_file=False,
            init_id=options.init_id,
            run_id=options.run_id,
            final_id=options.final_id,
            workflow_type=None,
            bundle_root=str(bundle),
        )
        _require_entry(workflow.parser, files[0], options)
        _fill_in(workflow.parser, files[0], options, folders=folders, data=data)
        with hold_to_bounds(bounds):
            redirect_components(workflow.parser, files[0], bounds)
            # Once more: what the user sets wins over what was redirected, and is held to the bounds all the same.
            for name, value in options.set.items():
                workflow.parser[name] = value
            _as_one_line(workflow.initialize)
            yield workflow
    finally:
        sys.path[:] = before


def _require_entry(parser: Any, config: Path, options: BundleOptions) -> None:
    """Refuse a configuration that does not say what to run, before anything of it is built."""
    if has_id(parser, options.run_id) or options.run_id in options.set:
        return
    message = f"no id {options.run_id!r} to run; run_id names it where the bundle calls it otherwise"
    raise ConfigError(message + advise_workflow(config.parents[1]), path=config)


def _fill_in(
    parser: Any,
    config: Path,
    options: BundleOptions,
    *,
    folders: Mapping[str, Path],
    data: Mapping[str, list[BundleItem]],
) -> None:
    """Put Voxflow's folders and cases, and what ``set`` says, into a configuration."""
    for name, folder in folders.items():
        if not has_id(parser, name):
            # No advice: another folder's id, since both would be one, and a folder that the bundle reads from.
            used = {*folders, options.checkpoints, options.outputs}
            ids = [key for key in parser.get() if key.endswith("dir") and not key.startswith(("data", "bundle"))]
            near = suggest(name, set(ids) - used)
            message = f"no id {name!r} that Voxflow could put its folder in{near}"
            raise ConfigError(message, path=config)
        parser[name] = str(folder.resolve())
    for name, items in data.items():
        if name in options.set:
            continue
        if not has_id(parser, name):
            ids = [f"{place}#data" for place, component in list_components(parser.get()) if "data" in component]
            message = (
                f"no id {name!r} that the split's cases could be put in{suggest(name, ids)}; name it by train_data, "
                f"validate_data or infer_data (data sets here: {', '.join(ids) or 'none'}), or say data: own"
            )
            raise ConfigError(message, path=config)
        parser[name] = items
    for name, value in options.set.items():
        parser[name] = value


def run_workflow(workflow: Any) -> None:
    """Do what the configuration says under ``run`` and ``finalize``.

    Raises:
        VoxflowError: something in it failed; the message is the first cause.
    """
    _as_one_line(workflow.run)
    _as_one_line(workflow.finalize)


def _as_one_line(call: Callable[[], Any]) -> Any:
    """Call something of the bundle's; MONAI wraps what fails in an error a level, and the innermost says what it is."""
    try:
        return call()
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        text = (str(first).splitlines() or [""])[0]
        raise VoxflowError(f"the bundle's own configuration failed: {type(first).__name__}: {text}") from error


def has_id(parser: Any, name: str) -> bool:
    """Whether a configuration states an id."""
    return name in parser


def get_part(workflow: Any, name: str) -> Any:
    """An object of the configuration, such as its trainer.

    Raises:
        ConfigError: the configuration has no such id.
    """
    if not has_id(workflow.parser, name):
        raise ConfigError(f"no id {name!r}", path=workflow.config_root_path)
    return _as_one_line(lambda: workflow.parser.get_parsed_content(name))


def list_items(cases: Sequence[Case], *, with_label: bool = True) -> list[BundleItem]:
    """List cases as MONAI's datasets take them: paths by field.

    Args:
        cases: of a datalist.
        with_label: a mask's path, or the findings, go with the image.
    """
    items: list[BundleItem] = []
    for case in cases:
        images = [str(path.resolve()) for path in case.image]
        item: BundleItem = {"image": images[0] if len(images) == 1 else images}
        if with_label and case.label is not None:
            item["label"] = list(case.label) if isinstance(case.label, tuple) else str(case.label.resolve())
        items.append(item)
    return items
