"""Reads nnU-Net's postprocessing.pkl without running code: the functions that it names are never called."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.prediction import class_values

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.spec import ModelSpec

_MODULE = "nnunetv2.postprocessing.remove_connected_components"
_LARGEST = "remove_all_but_largest_component_from_segmentation"
# Far more than a list of steps takes.
MOST_BYTES = 1 << 20


class _Named(str):
    """A function's name, in the place of the function."""

    __slots__ = ()


class _PlainUnpickler(pickle.Unpickler):
    """Makes plain values, and of functions their names alone; nothing is imported or called."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == (_MODULE, _LARGEST):
            return _Named(global_name)
        raise DataError(f"it names {module_name}.{global_name}, and Voxflow runs no code of a file")


def read_postprocessing(path: Path) -> tuple[tuple[int, ...], ...]:
    """Read which label values are reduced to their largest component, one step after the other.

    Returns:
        Of each step the values that together are one object.

    Raises:
        DataError: it is damaged, names other functions, or holds code.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"no postprocessing of nnU-Net: larger than {MOST_BYTES} bytes", path=path)
        with path.open("rb") as stream:
            content = _PlainUnpickler(stream).load()
    except DataError as error:
        raise DataError(error.message, path=path) from error
    except OSError:
        raise
    except Exception as error:  # the reader of damaged pickles raises whatever their bytes lead it to
        raise DataError(f"no postprocessing of nnU-Net: {type(error).__name__}", path=path) from error
    if not isinstance(content, tuple) or len(content) != 2:
        raise DataError("no postprocessing of nnU-Net: needs functions and their arguments", path=path)
    functions, arguments = content
    if not isinstance(functions, list) or not isinstance(arguments, list) or len(functions) != len(arguments):
        raise DataError("no postprocessing of nnU-Net: needs as many arguments as functions", path=path)
    return tuple(_read_step(number, step, path) for number, step in enumerate(zip(functions, arguments, strict=True)))


def read_largest(path: Path, spec: ModelSpec) -> list[str]:
    """Read the classes of which the largest component is kept, as ``clean.largest_component`` takes them.

    Args:
        path: a postprocessing.pkl.
        spec: of the model, for its classes.

    Raises:
        DataError: it can't be read, or a step is none of one class.
    """
    names, classes = [], class_values(spec)
    for step in read_postprocessing(path):
        name = next((name for name, values in classes.items() if sorted(values) == sorted(step)), None)
        if name is None:
            message = f"keeps the largest component of the values {list(step)} together, which is none of the classes"
            raise DataError(message, path=path)
        names.append(name)
    return names


def _read_step(number: int, step: tuple[Any, Any], path: Path) -> tuple[int, ...]:
    function, arguments = step
    place = f"step {number}"
    if not isinstance(function, _Named) or not isinstance(arguments, dict):
        raise DataError("needs a function and its arguments", path=path, where=place)
    labels = arguments.get("labels_or_regions")
    background = arguments.get("background_label", 0)
    unknown = sorted(map(str, arguments.keys() - {"labels_or_regions", "background_label"}))
    if unknown or background != 0:
        raise DataError(
            f"arguments that are not known: {', '.join(unknown) or 'background_label'}", path=path, where=place
        )
    values: list[Any] = []
    for entry in labels if isinstance(labels, list) else [labels]:
        values.extend(entry if isinstance(entry, tuple) else [entry])
    try:
        return tuple(dict.fromkeys(int(value) for value in values))
    except (TypeError, ValueError) as error:
        raise DataError(f"needs label values, received {labels!r}", path=path, where=place) from error
