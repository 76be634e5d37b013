"""Exports a bundle as TorchScript by monai.bundle, and compares it with the network in torch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from voxflow.bundle.engines import BundleExportOptions, export_bundle_engines
from voxflow.bundle.guard import StageBounds, hold_to_bounds
from voxflow.bundle.options import list_config_files
from voxflow.bundle.reading import use_bundle
from voxflow.errors import DataError, ParityError

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.bundle.options import BundleOptions

MODEL, SCRIPT = "model.pt", "model.ts"
MOST = 1e-4
# What savers call the network beside an optimizer or a logger.
STATE_NAMES = ("model", "network", "net", "state_dict")


def export_bundle(
    bundle: Path, model: Path, out: Path, options: BundleOptions, export_options: BundleExportOptions | None = None
) -> dict[str, Any]:
    """Export the trained network and compare.

    Args:
        bundle: its folder.
        model: the folder of its checkpoints.
        out: an existing folder; gets model.ts, which holds the configurations too.
        options: those of the training.
        export_options: which engines are made beside TorchScript; None: none.

    Returns:
        The greatest difference of the logits, relative to the largest, the number of cases, and a block for each engine
        beside TorchScript, as :meth:`voxflow.export.ParityReport.metrics` has it.

    Raises:
        DataError: there is no trained model.
        ParityError: the exported network answers otherwise; the file is removed.
    """
    import torch
    from monai.bundle import ckpt_export

    if not (model / MODEL).is_file():
        raise DataError("file not found; train first", path=model / MODEL)
    files = [str(file) for file in list_config_files(bundle, "train", options)]
    meta = bundle / "configs" / "metadata.json"
    values = {"bundle_root": str(bundle.resolve()), **options.set}
    bounds = StageBounds((out,), protected=(bundle, model))
    with warnings.catch_warnings(), use_bundle(bundle), hold_to_bounds(bounds):
        # torch and MONAI warn of TorchScript's age; the format stays a deliverable while torch, pinned, writes it.
        warnings.simplefilter("ignore")
        shape = _find_input_shape(meta)
        state, key = _read_state(model / MODEL)
        ckpt_export(
            net_id=options.network,
            filepath=str(out / SCRIPT),
            ckpt_file=str(model / MODEL),
            meta_file=str(meta),
            config_file=files,
            key_in_ckpt=key,
            **values,
        )
        network = _build_network(files, values, options.network)
        network.load_state_dict(state)
        scripted: Any = torch.jit.load(str(out / SCRIPT), map_location="cpu")  # type: ignore[no-untyped-call]
    difference = _compare_logits(network, scripted, shape)
    if difference > MOST:
        (out / SCRIPT).unlink()
        raise ParityError(f"{out / SCRIPT}: differs from torch by {difference:.2g} (at most {MOST})")
    report = export_bundle_engines(network, shape, out, export_options or BundleExportOptions())
    engines = report.metrics() if report else {}
    return engines | {"torchscript_max_logit_difference": difference, "cases": 1}


def _build_network(files: list[str], values: dict[str, Any], name: str) -> Any:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(files)
    parser.update(values)
    return parser.get_parsed_content(name)


def _read_state(path: Path) -> tuple[dict[str, Any], str | None]:
    """A checkpoint's weights, and the name that they have in it; None where it holds nothing else."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    key = next((name for name in STATE_NAMES if isinstance(content.get(name), dict)), None)
    return (content[key] if key else content), key


def _compare_logits(network: Any, scripted: Any, shape: tuple[int, ...]) -> float:
    """The greatest difference of two networks' logits on noise, relative to the largest logit where that is above 1."""
    import torch

    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, received = network.eval()(example), scripted.eval()(example)
    return float((expected - received).abs().max() / max(1.0, float(expected.abs().max())))


def _find_input_shape(meta: Path) -> tuple[int, ...]:
    """An input that the metadata allows: one image, its channels, its size with the formulas filled in."""
    from monai.bundle import ConfigParser
    from monai.bundle.scripts import _get_fake_input_shape

    if not meta.is_file():
        raise DataError("file not found; a bundle says there what its network takes", path=meta)
    parser = ConfigParser()
    parser.read_meta(str(meta))
    return tuple(int(n) for n in _get_fake_input_shape(parser=parser))
