"""Holds a run of a bundle to its stage: it loads the stage's weights, reads the stage's cases, writes to its folder.

A bundle's configuration is a program, with ids, paths and expressions of its own. What can be seen before the run is
replaced (:mod:`voxflow.bundle.redirect`). The rest is held here, at the doors by which a run passes: ``torch.load``,
``torch.save``, ``LoadImage``, ``ImageWriter``, and Python's own events of files that are opened, moved and removed.
What goes elsewhere ends the run with the path and the id that names it. Worker processes are held, too, however they
are started. A library that opens files in C is not seen here; :mod:`voxflow.bundle.verify` compares the files.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from filecmp import cmp
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from voxflow.bundle.reading import walk_texts
from voxflow.errors import ConfigError, DataError
from voxflow.torch_files import explain_torch_error
from voxflow.tracking import get_tracking_uri
from voxflow.volumes import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT
IMAGE_SUFFIXES = (*VOLUME_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".svs")
# Events of Python's audit hooks, with the arguments that hold a path which is written, and that of its folder's number.
WRITE_EVENTS = {
    "os.link": ((1,), 3),
    "os.mkdir": ((0,), 2),
    "os.rename": ((0, 1), 3),
    "os.symlink": ((1,), 2),
    "os.truncate": ((0,), None),
    "sqlite3.connect": ((0,), None),
    "shutil.copyfile": ((1,), None),
    "shutil.copytree": ((1,), None),
    "shutil.make_archive": ((0,), None),
    "shutil.move": ((0, 1), None),
    "shutil.unpack_archive": ((1,), None),
}
REMOVE_EVENTS = {"os.remove": ((0,), 1), "os.rmdir": ((0,), 1), "shutil.rmtree": ((0,), 1)}
SQLITE, ARTIFACT_FOLDERS = "sqlite:///", ("mlartifacts", "mlruns")
# Where libraries keep what they download or compile; no bundle's result lies there.
CACHE_VARIABLES = ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "MPLCONFIGDIR", "TRITON_CACHE_DIR", "NUMBA_CACHE_DIR")


@dataclass
class StageBounds:
    """What a run may load, read and write.

    Attributes:
        folders: everything that is written goes below one of these.
        weights: the only file that the evaluator's weights may come from; None in a training, which may begin with any.
        inputs: the images and labels of the stage's cases; empty where the configuration's own are used.
        protected: folders whose files must be the same after the run; none that ``folders`` lie in.
        image_root: the folder that all images lie below; None where there are none.
        load_count: how often ``weights`` was loaded.
        other_loads: files of other weights that were loaded.
        has_verified_weights: whether the evaluator's network was seen with ``weights`` in it.
        saved_images: the images that were written.
        faults: what was refused, which may have been caught by the bundle's own code.
        parser: MONAI's ConfigParser, to name ids in messages.
    """

    folders: tuple[Path, ...]
    weights: Path | None = None
    inputs: frozenset[Path] = frozenset()
    protected: tuple[Path, ...] = ()
    image_root: Path | None = None
    load_count: int = 0
    other_loads: list[Path] = field(default_factory=list)
    has_verified_weights: bool = False
    saved_images: set[Path] = field(default_factory=set)
    faults: list[ConfigError] = field(default_factory=list)
    parser: Any = None

    def __post_init__(self) -> None:
        self.folders = tuple(folder.resolve() for folder in self.folders)
        protected = [folder.resolve() for folder in self.protected]
        # A folder that the stage's own lies in has other writers, Voxflow among them.
        self.protected = tuple(f for f in protected if not any(stage.is_relative_to(f) for stage in self.folders))

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process that begins anew: a parser holds whole networks."""
        return self.__dict__ | {"parser": None}

    @property
    def cache(self) -> Path:
        """The folder for what datasets keep on the disk during the run."""
        return self.folders[0] / ".cache"

    def refuse(self, message: str, path: Path, advice: str = "set another value below `set`") -> NoReturn:
        """Refuse a file.

        Raises:
            ConfigError: always; the message names the ids of the configuration that lead to the file.
        """
        ids = find_ids(self.parser, path) if self.parser is not None else []
        named = f" ({'id' if len(ids) == 1 else 'ids'} {', '.join(ids)}: {advice})" if ids else ""
        self.faults.append(ConfigError(message + named))
        raise self.faults[-1]

    def is_protected(self, path: Path) -> bool:
        """Whether a path is beside the inputs or in a protected folder, or a folder that holds such files."""
        resolved = path.resolve()
        is_beside = any(s.parent == resolved.parent or s.is_relative_to(resolved) for s in self.inputs)
        folders = self.protected
        return is_beside or any(resolved.is_relative_to(f) or f.is_relative_to(resolved) for f in folders)

    def may_write(self, path: Path) -> bool:
        """Whether a path lies below one of the stage's folders."""
        return any(path.resolve().is_relative_to(folder) for folder in self.folders)

    def check_write(self, path: object) -> None:
        """Raise a ConfigError for a file outside of the stage's folder."""
        if isinstance(path, (str, os.PathLike)) and not self.may_write(Path(path)):
            resolved = Path(path).resolve()
            self.refuse(f"the bundle writes {resolved}, outside of {self.folders[0]}", resolved)

    def check_image_write(self, path: object) -> None:
        """Raise a ConfigError for an image outside of the stage's folder, and one written over another case's."""
        self.check_write(path)
        if self.weights is None or not isinstance(path, (str, os.PathLike)):
            return
        resolved = Path(path).resolve()
        if resolved in self.saved_images:
            advice = "give SaveImage data_root_dir, separate_folder or output_postfix, so that each image has a file"
            self.refuse(f"the bundle writes {resolved} twice, for two cases or fields; {advice}", resolved)
        self.saved_images.add(resolved)

    def check_weights(self, source: object) -> None:
        """Count a file of weights that is loaded: the stage's, or another; a file of the same bytes is as good.

        Raises:
            ConfigError: other weights are loaded once the evaluator runs.
        """
        path = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
        if self.weights is None or not isinstance(path, (str, os.PathLike)) or not Path(path).is_file():
            return
        if self.may_write(Path(path)):  # what a dataset of the run keeps there
            return
        if cmp(path, self.weights, shallow=False):
            self.load_count += 1
            return
        self.other_loads.append(Path(path).resolve())
        if self.has_verified_weights:
            self.refuse_weights()

    def refuse_weights(self) -> NoReturn:
        """Raise the ConfigError of a run that does not judge the stage's weights."""
        weights = self.weights
        if self.other_loads:
            path = self.other_loads[-1]
            advice = "`load_path` names the id of a path, or use a CheckpointLoader"
            self.refuse(f"the bundle loads {path}, where {weights} is to be judged", path, advice)
        message = f"the configuration loaded no weights, so that {weights} was not judged; give it a CheckpointLoader"
        if self.load_count:
            message = f"the evaluator's network does not hold the weights of {weights}, which the configuration loaded"
        self.faults.append(ConfigError(message))
        raise self.faults[-1]

    def check_input(self, source: object) -> None:
        """Raise a ConfigError for an image that is none of the stage's cases."""
        paths = source if isinstance(source, (list, tuple)) else [source]
        for path in paths:
            resolved = Path(str(path)).resolve()
            if self.inputs and resolved not in self.inputs and not self.may_write(resolved):
                self.refuse(f"the bundle reads {resolved}, which is no case of the stage", resolved)


def list_input_files(data: Mapping[str, Sequence[Mapping[str, Any]]], field_name: str = "") -> frozenset[Path]:
    """List the files that cases name.

    Args:
        data: cases by id, each with paths by field.
        field_name: only those of this field; empty for all.
    """
    items = [item for part in data.values() for item in part]
    values = [value for item in items for value in ([item[field_name]] if field_name else item.values())]
    return frozenset(path for value in values for path in resolve_paths(value))


def resolve_paths(value: Any) -> list[Path]:
    """List the paths, made absolute, that a field of a case holds: one, several, or none where it holds a number."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    return [Path(text).resolve() for text in texts if isinstance(text, (str, os.PathLike))]


def find_ids(parser: Any, path: Path) -> list[str]:
    """List the ids of a configuration that lead to a file: whose text names it, or whose value is its nearest folder.

    Args:
        parser: MONAI's ConfigParser.
        path: absolute.
    """
    texts = list(walk_texts(parser.get()))
    for part in (str(path), path.name):
        ids = [name for name, text in texts if part in text]
        if ids:
            return ids[:3]
    values = {name: value for name, value in parser.ref_resolver.resolved_content.items() if value}
    folders = {
        name: Path(value).resolve() for name, value in values.items() if isinstance(value, (str, os.PathLike)) and value
    }
    leading = {name: folder for name, folder in folders.items() if folder == path or folder in path.parents}
    depth = max((len(folder.parts) for folder in leading.values()), default=0)
    return [name for name, folder in leading.items() if len(folder.parts) == depth][:3]


# An audit hook can't be removed, so that one for all runs looks at the bounds of the present one.
_present_bounds: list[StageBounds] = []
_hooks: list[Callable[[str, tuple[Any, ...]], None]] = []
_lifted = threading.local()


@contextlib.contextmanager
def lift_bounds() -> Iterator[None]:
    """Let Voxflow's own code write in this thread, such as the curves of a training."""
    before, _lifted.is_lifted = getattr(_lifted, "is_lifted", False), True
    try:
        yield
    finally:
        _lifted.is_lifted = before


@contextlib.contextmanager
def hold_to_bounds(bounds: StageBounds) -> Iterator[None]:
    """Check what is loaded, read and written while a bundle runs, in its worker processes, too.

    Temporary files go to a folder that is removed afterwards.
    """
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voxflow-"))).resolve()
        bounds.folders = (*bounds.folders, scratch)
        stack.callback(setattr, bounds, "folders", bounds.folders[:-1])
        _use_temporary_folder(scratch, stack)
        _replace_functions(bounds, stack)
        _present_bounds.append(bounds)
        stack.callback(_present_bounds.remove, bounds)
        if not _hooks:
            _hooks.append(_check_event)
            sys.addaudithook(_check_event)
        yield


def _use_temporary_folder(folder: Path, stack: contextlib.ExitStack) -> None:
    stack.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
    tempfile.tempdir = str(folder)
    before = os.environ.get("TMPDIR")
    stack.callback(os.environ.pop if before is None else os.environ.__setitem__, "TMPDIR", before)  # type: ignore[arg-type]
    os.environ["TMPDIR"] = str(folder)


def _replace_functions(bounds: StageBounds, stack: contextlib.ExitStack) -> None:
    """Put checks before the functions that load, read and write."""
    import torch
    from monai.data import ImageWriter
    from monai.transforms import LoadImage
    from torch.jit import _script
    from torch.utils.data import DataLoader

    doors: list[tuple[Any, str, Callable[[Any], None], int]] = [
        (torch, "load", bounds.check_weights, 0),
        (torch.jit, "load", bounds.check_weights, 0),
        (torch, "save", bounds.check_write, 1),
        (torch.jit, "save", bounds.check_write, 1),
        (_script.RecursiveScriptModule, "save", bounds.check_write, 1),
        (LoadImage, "__call__", bounds.check_input, 1),
        (ImageWriter, "write", bounds.check_image_write, 1),
    ]
    if itk := sys.modules.get("SimpleITK"):
        doors += [
            (itk, "ReadImage", bounds.check_input, 0),
            (itk, "WriteImage", bounds.check_write, 1),
            (itk.ImageFileReader, "SetFileName", bounds.check_input, 1),
            (itk.ImageFileWriter, "SetFileName", bounds.check_write, 1),
        ]
    for owner, name, check, position in doors:
        original = getattr(owner, name)
        stack.callback(setattr, owner, name, original)
        setattr(owner, name, _check_first(original, check, position))
    torch.load = _explain_refusal(torch.load)
    original_init = DataLoader.__init__
    stack.callback(setattr, DataLoader, "__init__", original_init)

    @wraps(original_init)
    def init_with_guard(*args: Any, **kwargs: Any) -> None:
        arguments = signature(original_init).bind(*args, **kwargs)
        arguments.arguments["worker_init_fn"] = _WorkerStart(bounds, arguments.arguments.get("worker_init_fn"))
        original_init(*arguments.args, **arguments.kwargs)

    DataLoader.__init__ = init_with_guard  # type: ignore[method-assign]


@dataclass
class _WorkerStart:
    """Begins a worker process of a DataLoader; one that was not forked has to be held anew."""

    bounds: StageBounds
    start: Callable[[int], None] | None

    def __call__(self, worker: int) -> None:
        if not _present_bounds:
            stack = contextlib.ExitStack()
            stack.enter_context(hold_to_bounds(self.bounds))
            _worker_stacks.append(stack)
        if self.start is not None:
            self.start(worker)


_worker_stacks: list[contextlib.ExitStack] = []


def _check_first(function: Callable[..., Any], check: Callable[[Any], None], position: int) -> Callable[..., Any]:
    """The same function, which shows one of its arguments to a check before it begins."""

    @wraps(function)
    def call_checked(*args: Any, **kwargs: Any) -> Any:
        if not getattr(_lifted, "is_lifted", False):
            keywords = ("f", "filename", "fileName")
            check(args[position] if len(args) > position else next((kwargs[k] for k in keywords if k in kwargs), None))
        return function(*args, **kwargs)

    return call_checked


def _explain_refusal(load: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which does not advise to switch off the check that a file holds no code."""

    @wraps(load)
    def call_explained(*args: Any, **kwargs: Any) -> Any:
        try:
            return load(*args, **kwargs)
        except pickle.UnpicklingError as error:
            raise DataError(explain_torch_error(error), path=str(args[0]) if args else None) from error

    return call_explained


def _check_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Look at a file that Python opens, moves or removes."""
    if not _present_bounds or getattr(_lifted, "is_lifted", False):
        return
    if event == "open":
        _check_opened_file(arguments)
    elif event in WRITE_EVENTS:
        positions, folder = WRITE_EVENTS[event]
        for path in _list_paths(arguments, positions, folder):
            # A database that is there may only be read.
            if event not in ("os.mkdir", "sqlite3.connect") or not (path.exists() or str(path) == ":memory:"):
                _check_written_path(path)
    elif event in REMOVE_EVENTS:
        # Elsewhere, a temporary file of anybody may go at any time.
        positions, folder = REMOVE_EVENTS[event]
        for path in _list_paths(arguments, positions, folder):
            if any(not bounds.may_write(path) and bounds.is_protected(path) for bounds in _present_bounds):
                _check_written_path(path)


def _list_paths(arguments: tuple[Any, ...], positions: tuple[int, ...], folder: int | None) -> list[Path]:
    """The paths of an event; none where a file is named from an open folder, whose own event came before."""
    if folder is not None and len(arguments) > folder and arguments[folder] not in (None, -1):
        return []
    values = [arguments[position] for position in positions if position < len(arguments)]
    return [Path(os.fsdecode(value)) for value in values if isinstance(value, (str, bytes, os.PathLike))]


def _check_opened_file(arguments: tuple[Any, ...]) -> None:
    if not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    mode, flags = arguments[1], arguments[2]
    is_write = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITE_FLAGS)
    path = Path(os.fsdecode(arguments[0]))
    if is_write:
        _check_written_path(path)
    elif path.name.lower().endswith(IMAGE_SUFFIXES) and not _is_of_python(path):
        for bounds in _present_bounds:
            bounds.check_input(path)


def _is_of_python(path: Path) -> bool:
    """Whether a file came with a package, such as an icon."""
    return any(path.resolve().is_relative_to(prefix) for prefix in (sys.prefix, sys.base_prefix))


def _check_written_path(path: Path) -> None:
    # Modules beside the configuration are compiled there.
    if "__pycache__" in path.parts:
        return
    resolved = path.resolve()
    if all(bounds.may_write(resolved) for bounds in _present_bounds):
        return
    homes = [Path(os.environ[name]) for name in CACHE_VARIABLES if os.environ.get(name)]
    # The artifacts of a bundle's own MLFlowHandler lie beside the runs of all stages.
    uri = get_tracking_uri()
    runs = [Path(uri.removeprefix(SQLITE)).parent / name for name in ARTIFACT_FOLDERS] if uri.startswith(SQLITE) else []
    system = (Path("/dev"), Path("/proc"), Path("~/.cache").expanduser(), Path("~/.config").expanduser())
    if any(resolved.is_relative_to(folder.resolve()) for folder in (*system, *homes, *runs)):
        return
    for bounds in _present_bounds:
        bounds.check_write(resolved)
