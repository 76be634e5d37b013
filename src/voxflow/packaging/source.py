"""Finds the exported files of a model that may be given to others, with the record of their comparison with torch."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.engines import find_kind_of_file, list_exported_kinds, open_networks
from voxflow.errors import DataError, ParityError
from voxflow.files import read_json_or_none
from voxflow.inference import find_calibration
from voxflow.mmar import ExportNames, resolve_model

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import EngineKind
    from voxflow.spec import ModelSpec


@dataclass(frozen=True)
class PackagedModel:
    """A model that has passed the comparison with torch.

    Attributes:
        name: of the workspace, or of the folder or file; it can name a folder.
        files: the file of each engine, by the engine's name.
        spec: what all of the files say of the model.
        parity: how near each engine is to torch, as parity.json has it.
        root: the MMAR; None where the model lies in none.
        calibration: trust.json, beside the model or in its MMAR; None where there is none.
    """

    name: str
    files: dict[str, Path]
    spec: ModelSpec
    parity: dict[str, Any]
    root: Path | None
    calibration: Path | None = None


def find_packaged_model(path: Path, name: str = "") -> PackagedModel:
    """Find a model's exported files, and check that they may be given to others.

    Args:
        path: an MMAR, a folder of exported models, or one exported file.
        name: what the package calls it; empty: as the workspace.

    Raises:
        DataError: nothing is exported, or nothing says that it equals torch.
        ParityError: an engine differs from torch by more than its bound.
    """
    model = resolve_model(path)
    if not model.exists():
        raise DataError("no such model file or folder", path=model)
    files = _list_files(path, model)
    if not files:
        raise DataError("no exported model that runs on every machine; run voxflow export first", path=path)
    parity = _read_parity(model)
    _require_parity(files, parity, model)
    root = next((parent.parent for parent in model.absolute().parents if parent.name == "models"), None)
    name = make_model_name(name or (root.name if root else model.name.partition(".")[0]))
    named_files = {kind.name: file for kind, file in files.items()}
    return PackagedModel(name, named_files, _read_spec(files), parity, root, find_calibration([model]))


def make_model_name(text: str) -> str:
    """Make a name that a folder, an address, Triton and a MONAI Application Package take: no blanks, at most 128 bytes.

    Example:
        >>> make_model_name("Leber Größe 1"), make_model_name("spleen_ct"), make_model_name("../肝")
        ('Leber-Groe-1', 'spleen_ct', 'model')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.]+", "-", plain).strip("-.")[:128] or "model"


def _list_files(path: Path, model: Path) -> dict[EngineKind, Path]:
    """The files that run on other machines without a comparison there; of an MMAR all, of a file that one."""
    kinds = [kind for kind in list_exported_kinds() if kind.is_portable and kind.is_reproducible]
    if path.is_file():
        kind = find_kind_of_file(path)
        return {kind: path} if kind in kinds else {}
    if model.is_dir():
        places = {kind: model / kind.file for kind in kinds}
    else:
        names = ExportNames(model.name.partition(".")[0])
        places = {kind: model.with_name(names.file(kind)) for kind in kinds}
    return {kind: file for kind, file in places.items() if file.is_file() and kind.format}


def _read_parity(model: Path) -> dict[str, Any]:
    """What the export wrote of the comparison with torch; empty where there is none."""
    base = model.name.partition(".")[0]
    places = [model / "parity.json", model.parent / f"{base}.parity.json", model.parent / "parity.json"]
    if model.parent.name == "export":
        places.append(model.parent.parent / "parity.json")
    record = next(filter(None, map(read_json_or_none, places)), None)
    return record if isinstance(record, dict) else {}


def _require_parity(files: dict[EngineKind, Path], parity: dict[str, Any], model: Path) -> None:
    if not parity:
        raise DataError("no parity.json lies beside it, so nothing says that it equals torch; export again", path=model)
    engines = {name: block for name, block in parity.items() if isinstance(block, dict)}
    failed = [kind.name for kind in list_exported_kinds() if engines.get(kind.name, {}).get("published") == 0]
    if failed:
        raise ParityError(
            f"{model}: {', '.join(failed)} differed from torch in the export; correct it, and export again"
        )
    uncompared = [kind.name for kind in files if kind.name not in engines]
    if uncompared:
        raise DataError(f"parity.json does not name {', '.join(uncompared)}; export again", path=model)


def _read_spec(files: dict[EngineKind, Path]) -> ModelSpec:
    """Load every file, so that none is damaged; all say the same of the model.

    Raises:
        DataError: a file is no model, or two are of different models.
    """
    specs = {file: open_networks(file, kind.open_uncompared).spec for kind, file in files.items()}
    first, *others = specs
    for other in others:
        if specs[other] != specs[first]:
            raise DataError(f"it is another model than {first.name} beside it; export again", path=other)
    return specs[first]
