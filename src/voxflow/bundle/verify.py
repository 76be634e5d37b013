"""Proves what a bundle's run did: it judged the stage's weights on all of its cases, and changed no file elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from functools import wraps
from typing import TYPE_CHECKING, Any

from voxflow.bundle.guard import lift_bounds, list_input_files, resolve_paths
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from voxflow.bundle.guard import StageBounds
    from voxflow.bundle.parts import BundleItem

WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel, of torch.compile
MOST_CHANGES = 5


@contextlib.contextmanager
def meet_engine(
    parser: Any, name: str, begin: Callable[[Any], None], begin_other: Callable[[Any], None] = lambda _: None
) -> Iterator[None]:
    """Call a function with an engine of the configuration when it starts to run.

    Not before: the configuration may seed its random numbers in the same list of expressions that runs the engine,
    and a network that was built before would have other weights than by MONAI's own command line.

    Args:
        parser: MONAI's ConfigParser, which builds the engine when it is needed.
        name: the engine's id.
        begin: gets the engine, once.
        begin_other: gets each other engine, whenever it runs.
    """
    from ignite.engine import Engine

    original = Engine.run
    met: list[Any] = []

    @wraps(original)
    def run(engine: Any, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(engine, "data_loader"):  # an engine of ignite's, which is given its data now
            engine.data_loader = kwargs.get("data", args[0] if args else None)
        if find_built(parser, name) is not engine:
            begin_other(engine)
        elif not met:
            met.append(engine)
            begin(engine)
        return original(engine, *args, **kwargs)

    Engine.run = run
    try:
        yield
    finally:
        Engine.run = original


def find_built(parser: Any, name: str) -> Any:
    """Return an object of the configuration; None where it was not built yet."""
    return parser.ref_resolver.resolved_content.get(parser.ref_resolver.normalize_id(name))


class EngineProof:
    """Watches the engine that a stage asks for.

    Args:
        name: its id.
        bounds: of the stage.
        items: the cases that its data set must hold; none where the configuration's own are used.

    Attributes:
        engine: what was watched; None before.
        has_ended: whether it came to the end of its run.
    """

    def __init__(self, name: str, bounds: StageBounds, items: Sequence[BundleItem] = ()) -> None:
        self.name, self.bounds, self.items = name, bounds, items
        self.engine: Any = None
        self.has_ended = False

    def attach(self, engine: Any) -> None:
        """Watch an ignite engine that is about to run."""
        from ignite.engine import Events

        if self.items:
            check_dataset(engine, self.items, self.name, self.bounds)
        self.engine = engine
        engine.add_event_handler(Events.COMPLETED, self._note_end)
        self.attach_to_other(engine)

    def attach_to_other(self, engine: Any) -> None:
        """Let another engine judge no other weights: its results stand beside those of the stage's."""
        from ignite.engine import Events

        if self.bounds.weights is not None:
            # After the bundle's own handlers, which load the weights in the same event.
            engine.add_event_handler(Events.STARTED, self._check_weights)

    def _note_end(self, _engine: Any) -> None:
        self.has_ended = True

    def _check_weights(self, engine: Any) -> None:
        network, weights = getattr(engine, "network", None), self.bounds.weights
        if weights is None or network is None or not hasattr(network, "state_dict"):
            return
        with lift_bounds():
            is_equal = compare_weights(network.state_dict(), weights)
        if is_equal is False:
            self.bounds.refuse_weights()
        self.bounds.has_verified_weights |= is_equal is True and engine is self.engine

    def require(self) -> None:
        """Require that the run was the stage's.

        Raises:
            ConfigError: it judged other weights, or another engine ran.
        """
        bounds = self.bounds
        if bounds.faults:  # caught by the bundle's own code
            raise bounds.faults[0]
        if self.engine is None:
            message = f"the configuration ran no engine {self.name!r}; `trainer` and `evaluator` name what it runs"
            raise ConfigError(message)
        is_in_doubt = not bounds.has_verified_weights and (bounds.other_loads or not bounds.load_count)
        if bounds.weights is not None and is_in_doubt:
            bounds.refuse_weights()
        if not self.has_ended:
            raise ConfigError(f"the run of {self.name!r} did not come to its end")


def compare_weights(state: Mapping[str, Any], path: Path) -> bool | None:
    """Compare a network's weights with those of a checkpoint.

    Args:
        state: tensors by name.
        path: the checkpoint: tensors by name, or several such dictionaries by name.

    Returns:
        Whether they are equal; None where the checkpoint has none for all of the network's names.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - it holds more than weights, such as a logger; the loads decide
        return None
    required = {_unwrap(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    verdict: bool | None = None
    for stated in _list_states(content):
        if not required or not required.keys() <= stated.keys():
            continue
        if all(_is_equal(value, stated[name]) for name, value in required.items()):
            return True
        verdict = False
    return verdict


def _unwrap(name: str) -> str:
    for prefix in WRAPPERS:
        name = name.removeprefix(prefix)
    return name


def _list_states(content: Any) -> Iterator[dict[str, Any]]:
    import torch

    if not isinstance(content, Mapping):
        return
    tensors = {_unwrap(str(name)): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield tensors
    for value in content.values():
        yield from _list_states(value)


def _is_equal(value: Any, stated: Any) -> bool:
    import torch

    value = value.detach().cpu()
    return value.shape == stated.shape and torch.equal(value, stated.to(value.dtype))


def check_dataset(
    engine: Any, items: Sequence[BundleItem], name: str, bounds: StageBounds, *, part: str = "stage"
) -> None:
    """Require that an engine goes through a stage's cases, before it runs.

    Args:
        engine: with a data loader, or without one that can be looked at.
        items: the cases.
        name: the engine's id, for messages.
        bounds: of the stage.
        part: what the cases are, for messages.

    Raises:
        ConfigError: its data set holds other files, or lacks some.
    """
    dataset = getattr(getattr(engine, "data_loader", None), "dataset", None)
    files = list_dataset_files(dataset)
    if files is None:
        return
    expected = list_input_files({"": items})
    for path in sorted(files - expected):
        bounds.refuse(f"the bundle reads {path}, which is no case of the {part}", path)
    images = list_input_files({"": items}, "image")
    if missing := sorted(images - files):
        count = f"{len(images) - len(missing)} of the {part}'s {len(images)} images"
        raise ConfigError(f"{name!r} goes through {count}: it reads other data")


def list_dataset_files(dataset: Any) -> frozenset[Path] | None:
    """List the files that a data set is made of; None where it can't be known.

    Args:
        dataset: of torch or MONAI: items, or other data sets.
    """
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):  # torch's Subset
        inner = getattr(dataset.dataset, "data", dataset.dataset)
        if not isinstance(inner, Sequence):
            return None
        return _list_item_files([inner[index] for index in dataset.indices])
    parts, data = getattr(dataset, "datasets", None), getattr(dataset, "data", None)
    rows = data if isinstance(data, Sequence) and not isinstance(data, str) else None
    if not isinstance(parts, Iterable) and rows and all(hasattr(item, "data") for item in rows):  # MONAI's ZipDataset
        parts = rows
    if isinstance(parts, Iterable):
        files = [list_dataset_files(part) for part in parts]
        return frozenset().union(*(part for part in files if part)) if None not in files else None
    if rows is not None:
        return _list_item_files(rows)
    return None if data is None or isinstance(data, (str, Mapping)) else list_dataset_files(data)


def _list_item_files(items: Sequence[Any]) -> frozenset[Path] | None:
    rows = [item if isinstance(item, Mapping) else {"": item} for item in items]
    values = [value for row in rows for value in row.values()]
    if not all(isinstance(row.get("", ""), (str, os.PathLike, list, tuple)) for row in rows) or not values:
        return None
    return frozenset(path for value in values for path in resolve_paths(value))


def count_cases(engine: Any, data: Mapping[str, Sequence[BundleItem]], name: str) -> int:
    """Count the cases that an engine went through, which must be the ones that were put in.

    Args:
        engine: after its run.
        data: the cases by id; empty where the configuration's own were used.
        name: the engine's id, for messages.

    Raises:
        ConfigError: it went through more or fewer.
    """
    loader = getattr(engine, "data_loader", None)
    dataset, batch = getattr(loader, "dataset", None), getattr(loader, "batch_size", None)
    expected = sum(len(cases) for cases in data.values())
    steps = getattr(getattr(engine, "state", None), "iteration", expected)
    count = len(dataset) if isinstance(dataset, Sized) else int(steps)
    if batch:  # a loader may drop the last batch, and an engine may stop before the end
        count = min(count, steps * batch)
    if data and count != expected:
        message = f"the evaluator went through {count} cases, and the stage has {expected}: it reads other data"
        raise ConfigError(message, where=name)
    return count


@contextlib.contextmanager
def require_unchanged(bounds: StageBounds) -> Iterator[None]:
    """Compare the names, sizes and times of protected files before and after a run, whoever wrote them.

    Raises:
        ConfigError: some were written, changed or removed.
    """
    before = _list_files(bounds)
    yield
    after = _list_files(bounds)
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if changed:
        more = f" and {len(changed) - MOST_CHANGES} more" if len(changed) > MOST_CHANGES else ""
        names = ", ".join(map(str, changed[:MOST_CHANGES]))
        bounds.refuse(f"the bundle wrote, changed or removed {names}{more}, outside of {bounds.folders[0]}", changed[0])


def _list_files(bounds: StageBounds) -> dict[Path, tuple[float, ...]]:
    """Size and time by file: of the stage's inputs, and of all in folders that nobody else writes to meanwhile."""
    paths = {path for folder in bounds.protected for path in folder.rglob("*") if "__pycache__" not in path.parts}
    stats: dict[Path, tuple[float, ...]] = {}
    for path in (*paths, *bounds.inputs):
        with contextlib.suppress(OSError):
            stat = path.stat()
            stats[path] = (stat.st_size, stat.st_mtime_ns) if path.is_file() else ()
    return stats
