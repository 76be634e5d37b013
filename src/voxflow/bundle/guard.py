"""Holds a run of a bundle to its stage: it loads the stage's weights, reads the stage's cases, writes to its folder.

A bundle's configuration is a program, with ids, paths and expressions of its own. What Voxflow can see before the run,
it replaces: the path of each CheckpointLoader, the root of each SaveImage. The rest is held at the doors by which a
run of MONAI passes (``torch.load``, ``LoadImage``, ``ImageWriter``, ``torch.save``, opening a file to write): what
goes elsewhere ends the run with the path, and never with a number that stands for something else.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass
from filecmp import cmp
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# Arguments of MONAI's handlers, transforms and of TensorBoard that name a folder to write to.
WRITING_ARGUMENTS = ("save_dir", "output_dir", "log_dir")
IMAGE_SAVERS = ("SaveImage", "SaveImaged")
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class StageBounds:
    """What a run may load, read and write.

    Attributes:
        folders: everything that is written goes below one of these.
        weights: the only file that weights may come from; None in a training, which may begin with any.
        inputs: the images and labels of the stage's cases; empty where the configuration's own are used.
        protected: folders in which no file may be opened to write, unless they belong to ``folders``.
        load_count: how often ``weights`` was loaded.
    """

    folders: tuple[Path, ...]
    weights: Path | None = None
    inputs: frozenset[Path] = frozenset()
    protected: tuple[Path, ...] = ()
    load_count: int = 0

    def __post_init__(self) -> None:
        self.folders = tuple(folder.resolve() for folder in self.folders)
        protected = [folder.resolve() for folder in self.protected]
        # A folder that the stage's own lies in has other writers, Voxflow among them.
        self.protected = tuple(f for f in protected if not any(own.is_relative_to(f) for own in self.folders))

    @property
    def input_root(self) -> Path | None:
        """The folder that all inputs lie below; None where there are none."""
        return Path(os.path.commonpath([path.parent for path in self.inputs])) if self.inputs else None

    def may_write(self, path: Path) -> bool:
        """Whether a path lies below one of the folders, or is temporary."""
        temporary = Path(tempfile.gettempdir()).resolve()
        is_temporary_run = any(folder.is_relative_to(temporary) for folder in self.folders)
        folders = self.folders if is_temporary_run else (*self.folders, temporary)
        return any(path.resolve().is_relative_to(folder) for folder in folders)

    def check_write(self, path: object) -> None:
        """Refuse a file outside of the stage's folder.

        Raises:
            ConfigError: it is one.
        """
        if isinstance(path, (str, os.PathLike)) and not self.may_write(Path(path)):
            raise ConfigError(f"the bundle writes {Path(path).resolve()}, outside of {self.folders[0]}")

    def check_weights(self, source: object) -> None:
        """Refuse weights that are not the stage's; a file of the same bytes is as good.

        Raises:
            ConfigError: they are others.
        """
        path = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
        if self.weights is None or not isinstance(path, (str, os.PathLike)) or not Path(path).is_file():
            return
        if not cmp(path, self.weights, shallow=False):
            raise ConfigError(f"the bundle loads {Path(path).resolve()}, where {self.weights} is to be judged")
        self.load_count += 1

    def check_input(self, source: object) -> None:
        """Refuse an image that is none of the stage's cases.

        Raises:
            ConfigError: it is none.
        """
        paths = source if isinstance(source, (list, tuple)) else [source]
        for path in paths:
            if self.inputs and Path(str(path)).resolve() not in self.inputs:
                raise ConfigError(f"the bundle reads {Path(str(path)).resolve()}, which is no case of the stage")


def list_input_files(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> frozenset[Path]:
    """List the files that cases name.

    Args:
        data: cases by id, each with paths by field.
    """
    paths: set[Path] = set()
    for items in data.values():
        for item in items:
            for value in item.values():
                texts = value if isinstance(value, (list, tuple)) else [value]
                paths.update(Path(text).resolve() for text in texts if isinstance(text, str))
    return frozenset(paths)


def redirect_components(parser: Any, config: Path, bounds: StageBounds) -> None:
    """Point what loads weights and what saves images at the stage, and refuse what writes to another folder.

    Args:
        parser: MONAI's ConfigParser, with the stage's folders and cases in it.
        config: the configuration, for messages.
        bounds: of the stage.

    Raises:
        ConfigError: a component writes outside of the stage's folder; the message names its id.
    """
    for name, component in list(list_components(parser.get())):
        target = str(component["_target_"]).rsplit(".", 1)[-1]
        if target == "CheckpointLoader" and bounds.weights is not None:
            parser[f"{name}#load_path"] = str(bounds.weights)
        # An evaluation must not write over the checkpoints that it judges.
        if target == "CheckpointSaver" and bounds.weights is not None:
            parser[f"{name}#save_dir"] = str(bounds.folders[0])
        if target in IMAGE_SAVERS and component.get("data_root_dir") and bounds.input_root is not None:
            parser[f"{name}#data_root_dir"] = str(bounds.input_root)
    for name, component in list_components(parser.get()):
        for argument in WRITING_ARGUMENTS:
            if component.get(argument) and component.get("_disabled_") is not True:
                _check_folder(parser, f"{name}#{argument}", config, bounds)


def _check_folder(parser: Any, name: str, config: Path, bounds: StageBounds) -> None:
    try:
        folder = parser.get_parsed_content(name)
    except Exception:  # noqa: BLE001 - an expression that fails now fails in the run, too, which then says why
        return
    if isinstance(folder, (str, os.PathLike)) and not bounds.may_write(Path(folder)):
        message = (
            f"writes to {Path(folder).resolve()}; the stage's folder is {bounds.folders[0]}: set this id below `set`"
        )
        raise ConfigError(message, path=config, where=name)


def list_components(value: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """List all dictionaries of a configuration with a ``_target_``, each with its id.

    Example:
        >>> [name for name, _ in list_components({"net": {"_target_": "UNet"}, "all": [{"_target_": "Dataset"}]})]
        ['net', 'all#0']
    """
    if isinstance(value, dict):
        if isinstance(value.get("_target_"), str):
            yield name, value
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)  # type: ignore[assignment]
    else:
        return
    for key, child in children:
        yield from list_components(child, f"{name}#{key}" if name else str(key))


@contextlib.contextmanager
def hold_to_bounds(bounds: StageBounds) -> Iterator[None]:
    """Check what is loaded, read and written while a bundle runs; worker processes that it forks are held, too."""
    import torch
    from monai.data import ImageWriter
    from monai.transforms import LoadImage

    doors: list[tuple[Any, str, Callable[[Any], None], int]] = [
        (torch, "load", bounds.check_weights, 0),
        (torch.jit, "load", bounds.check_weights, 0),
        (torch, "save", bounds.check_write, 1),
        (LoadImage, "__call__", bounds.check_input, 1),
        (ImageWriter, "write", bounds.check_write, 1),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, check, position in doors:
            original = getattr(owner, name)
            setattr(owner, name, _check_first(original, check, position))
            stack.callback(setattr, owner, name, original)
        stack.enter_context(_watch_opened_files(bounds))
        yield


def _check_first(function: Callable[..., Any], check: Callable[[Any], None], position: int) -> Callable[..., Any]:
    """The same function, which shows one of its arguments to a check before it begins."""

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        keywords = ("f", "filename")
        check(args[position] if len(args) > position else next((kwargs[k] for k in keywords if k in kwargs), None))
        return function(*args, **kwargs)

    return checked


# An audit hook can't be removed, so that one for all runs looks at the bounds of the present one.
_present_bounds: list[StageBounds] = []
_hooks: list[Callable[[str, tuple[Any, ...]], None]] = []


@contextlib.contextmanager
def _watch_opened_files(bounds: StageBounds) -> Iterator[None]:
    if not _hooks:
        _hooks.append(_check_opened_file)
        sys.addaudithook(_check_opened_file)
    _present_bounds.append(bounds)
    try:
        yield
    finally:
        _present_bounds.remove(bounds)


def _check_opened_file(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _present_bounds or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    mode, flags = arguments[1], arguments[2]
    is_write = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITE_FLAGS)
    if not is_write:
        return
    path = Path(os.fsdecode(arguments[0]))
    # Modules beside the configuration are compiled there.
    if "__pycache__" in path.parts:
        return
    for bounds in _present_bounds:
        is_protected = any(path.resolve().is_relative_to(folder) for folder in bounds.protected)
        if is_protected and not bounds.may_write(path):
            bounds.check_write(path)
