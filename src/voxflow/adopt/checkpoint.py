"""Reads nnU-Net's checkpoints without running code, and gives their weights the names of Voxflow's networks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.adopt.plans import is_whole
from voxflow.errors import DataError
from voxflow.texts import escape
from voxflow.torch_files import read_torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

# What a checkpoint of nnU-Net holds beside tensors and plain values: the scalars of its log.
_KEYS = {"network_weights": dict, "init_args": dict, "trainer_name": str}
# The encoder stands twice in a network of dynamic_network_architectures, and so does each layer of a block.
_REPEATED = re.compile(r"^decoder\.encoder\.|\.all_modules\.\d+\.")
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class NnunetCheckpoint:
    """One fold's checkpoint.

    Attributes:
        path: the file.
        weights: of the network, each once.
        configuration: of the plans that it was trained by, such as "3d_fullres".
        trainer: the class that trained it.
        mirrored: axes of the network along which its predictions are averaged over mirror images.
        epochs: how many it was trained.
    """

    path: Path
    weights: dict[str, torch.Tensor]
    configuration: str
    trainer: str
    mirrored: tuple[int, ...]
    epochs: int


def read_nnunet_checkpoint(path: Path) -> NnunetCheckpoint:
    """Read a checkpoint_final.pth or checkpoint_best.pth.

    Raises:
        DataError: it is damaged, holds code, or is none of nnU-Net v2.
    """
    import zipfile

    if not path.is_file():
        raise DataError("file not found", path=path)
    if not zipfile.is_zipfile(path):
        raise DataError("no checkpoint of nnU-Net v2, or only a part of one", path=path)
    _check_sums(path)
    content = read_torch(path, "checkpoint that can be adopted", allowed=_list_allowed())
    if not isinstance(content, dict):
        raise DataError(f"no checkpoint of nnU-Net v2: it holds a {type(content).__name__}", path=path)
    for key, kind in _KEYS.items():
        if not isinstance(content.get(key), kind):
            raise DataError("missing; no checkpoint of a version of nnU-Net v2 that is known", path=path, where=key)
    configuration = content["init_args"].get("configuration")
    if not isinstance(configuration, str):
        raise DataError("needs the name of a configuration", path=path, where="init_args.configuration")
    return NnunetCheckpoint(
        path=path,
        weights=_name_weights(content["network_weights"], path),
        configuration=configuration,
        trainer=content["trainer_name"],
        mirrored=_read_mirrored(content.get("inference_allowed_mirroring_axes"), path),
        epochs=int(content["current_epoch"]) if isinstance(content.get("current_epoch"), int) else 0,
    )


def _check_sums(path: Path) -> None:
    """Refuse a file with a byte that is not as it was written: torch itself reads such weights without a word."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise DataError("no checkpoint of nnU-Net v2: its parts are compressed", path=path)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise DataError(f"damaged: {(str(error).splitlines() or ['no archive'])[0]}", path=path) from error
    if damaged is not None:
        raise DataError(f"damaged: the checksum of its part {escape(damaged)} is not that of its bytes", path=path)


def _list_allowed() -> list[Any]:
    """What makes NumPy's numbers, and arrays of them, by their names of NumPy 1 and 2."""
    import numpy as np
    from numpy._core.multiarray import _reconstruct, scalar

    kinds = [
        getattr(np.dtypes, name) for name in np.dtypes.__all__ if re.fullmatch(r"(U?Int|Float|Bool|Str)\d*DType", name)
    ]
    makers = [(make, f"numpy.core.multiarray.{make.__name__}") for make in (scalar, _reconstruct)]
    return [scalar, _reconstruct, *makers, np.ndarray, np.dtype, *kinds]


def _name_weights(content: Mapping[Any, Any], path: Path) -> dict[str, torch.Tensor]:
    """The weights by name, each once; a copy that differs is a damaged file."""
    import torch

    weights: dict[str, torch.Tensor] = {}
    repeated: dict[str, torch.Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise DataError("needs tensors by name", path=path, where="network_weights")
        name = key
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
        place = f"network_weights.{escape(name)}"
        if not _is_plain(value):
            raise DataError("needs a dense array of real numbers", path=path, where=place)
        if not bool(torch.isfinite(value).all()):
            raise DataError("holds values that are no numbers", path=path, where=place)
        # nnU-Net copies weights of any precision into networks of single precision.
        single = value.float() if value.is_floating_point() else value
        (repeated if _REPEATED.search(name) else weights)[name] = single
    for name, value in repeated.items():
        plain = name.removeprefix("decoder.encoder.") if name.startswith("decoder.encoder.") else None
        original = weights.get(f"encoder.{plain}") if plain and ".all_modules." not in plain else None
        if original is not None and not torch.equal(original, value):
            raise DataError("differs from its own copy", path=path, where=f"network_weights.{escape(name)}")
    return weights


def _is_plain(value: torch.Tensor) -> bool:
    """Whether a tensor holds each of its numbers: none that is sparse, quantised, complex, or one number repeated."""
    import torch

    if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _read_mirrored(axes: Any, path: Path) -> tuple[int, ...]:
    if axes is None:
        return ()
    is_list = isinstance(axes, tuple | list) and all(is_whole(axis) and axis in (0, 1, 2) for axis in axes)
    if not is_list or len(set(axes)) < len(axes):
        message = f"needs axes 0, 1, 2, each once, received {escape(repr(axes))}"
        raise DataError(message, path=path, where="inference_allowed_mirroring_axes")
    return tuple(axes)
