"""Exports an MMAR's checkpoint: writes the regular and the optimised model beside it, under Clara's names."""

from __future__ import annotations

import contextlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.components import read_network
from voxflow.config import load_workflow
from voxflow.datalist import Datalist
from voxflow.engines import get_engine_kind, list_exported_kinds
from voxflow.errors import ConfigError, DataError, VoxflowError
from voxflow.export import ExportOptions, export_model, require_one_network, write_triton_config
from voxflow.files import temporary_folder, write_json
from voxflow.inference import InferenceCase
from voxflow.locks import hold_outputs
from voxflow.mmar.artefacts import find_model
from voxflow.mmar.data import DATA_FILE, collect_facts, read_training_data
from voxflow.mmar.folder import find_repository
from voxflow.mmar.record import continue_record
from voxflow.progress import say
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from voxflow.datalist import Case
    from voxflow.engines import EngineKind
    from voxflow.export import ParityReport
    from voxflow.mmar.folder import Mmar

PARITY_FILE = "{name}.parity.json"


@dataclass(frozen=True)
class ExportNames:
    """What the files are called.

    Attributes:
        name: the model's base name; "model" is the best, "model_final" the last.
        regular: what a regular export's name goes on with; an ending ".pb" has no meaning here and drops.
        optimised: the same for an optimised model.
    """

    name: str = "model"
    regular: str = ".fzn.pb"
    optimised: str = ".trt.pb"

    def file(self, kind: EngineKind) -> str:
        """Return the name of one engine's file, such as model.trt.xml."""
        middle = (self.optimised if kind.is_optimised else self.regular).removesuffix(".pb")
        return self.name + middle + kind.suffix


@dataclass(frozen=True)
class MmarExport:
    """What an export left.

    Attributes:
        files: the files that can be loaded, by engine.
        report: how each compares with torch.
    """

    files: dict[str, Path]
    report: ParityReport

    def summary(self) -> str:
        """One line for a person."""
        compared_on = (
            f"{self.report.cases} case(s)" if self.report.cases else "noise, since no case of the training was found"
        )
        names = ", ".join(path.name for name, path in self.files.items() if name not in self.report.uncompared)
        left_out = f" ({', '.join(self.report.left_out)} left out)" if self.report.left_out else ""
        notes = self.report.describe_reduced() + left_out + self.report.describe_uncompared()
        return f"{names} equal torch on {compared_on}{notes}" if names else f"torch alone runs the model{notes}"


def export_checkpoint(folder: Path, names: ExportNames, options: ExportOptions) -> MmarExport:
    """Export a checkpoint; a file that is not the same model is not kept.

    Args:
        folder: the models folder; gets the exported files and NAME.parity.json.
        names: which checkpoint, and how the files are called.
        options: formats and bounds.

    Raises:
        DataError: no such folder or checkpoint.
        ParityError: an engine differs from torch by more than its bound; the others are there.
        VoxflowError: the network can't be expressed in a format.
    """
    if not folder.is_dir():
        raise DataError("no such folder of models", path=folder)
    checkpoint = find_model(folder / f"{names.name}.ckpt")
    cases, calibration = _read_cases(folder, options)
    with (
        hold_outputs(folder, "export", say),
        continue_record(folder, find_repository(folder.absolute())) as tracker,
    ):
        with temporary_folder(folder) as scratch:
            report = _export(checkpoint, scratch, options, cases, calibration)
            files = {
                kind.name: path
                for kind in reversed(list_exported_kinds())
                if (path := _move_files(kind, scratch, folder, names))
            }
        parity = folder / PARITY_FILE.format(name=names.name)
        write_json(parity, report.metrics())
        tracker.log_artifact(parity, "export")
        onnx_file = files.get("onnxruntime")
        is_whole = onnx_file is not None and len(get_engine_kind("onnxruntime").list_files(onnx_file)) == 1
        if onnx_file is not None and is_whole and names.name == "model":
            tracker.log_model(onnx_file)
    report.require_published()
    return MmarExport(files, report)


def export_file(
    checkpoint: Path, output: Path, options: ExportOptions, shape: Sequence[int] = (), mmar: Mmar | None = None
) -> MmarExport:
    """Export a checkpoint to one file of one's own name, as Clara 4's export.sh does.

    Args:
        checkpoint: the model, or a name that stands for one.
        output: the file; its ending says the format, such as .ts for TorchScript.
        options: bounds of the comparison with torch.
        shape: (batch, channel, *space) that the file must take; () any. Sizes stay open whatever it says.
        mmar: opened on the training configuration of a checkpoint of weights alone; None: it holds its network.

    Raises:
        ConfigError: no format has this ending, or the network can't take the shape.
        DataError: there is no checkpoint.
        ParityError: the file differs from torch by more than its bound.
    """
    kinds = [kind for kind in list_exported_kinds() if not kind.is_optimised and kind.suffix == output.suffix]
    if not kinds or not kinds[0].format:
        endings = ", ".join(kind.suffix for kind in list_exported_kinds() if not kind.is_optimised)
        raise ConfigError(f"--output_path ends in one of {endings}", path=output)
    kind, model = kinds[0], find_model(checkpoint)
    cases, calibration = _read_cases(model.parent, options)
    options = options.model_copy(update={"engines": (kind.format,)})
    with (
        hold_outputs(output.parent, "export", say),
        temporary_folder(output.parent) as scratch,
        _open_checkpoint(model, mmar) as whole,
    ):
        check_input_shape(shape, whole)
        report = _export(whole, scratch, options, cases, calibration)
        report.require_published()
        _replace_files(kind, scratch / kind.file, output)
    return MmarExport({kind.name: output}, report)


@contextlib.contextmanager
def _open_checkpoint(model: Path, mmar: Mmar | None) -> Iterator[Path]:
    """The checkpoint; of weights alone, one that the training configuration makes of them."""
    from voxflow.training import DataFacts, adopt_weights, has_only_weights

    if mmar is None or not mmar.config.is_file() or not has_only_weights(model):
        yield model
        return
    workflow = load_workflow(mmar.config, environment=mmar.environment, overrides=mmar.overrides, workspace=mmar.root)
    try:
        workflow, datalist = read_training_data(mmar, workflow)
        facts = collect_facts(workflow, datalist)
    except DataError:  # the data is gone; classes are numbered
        count = read_network(workflow.train.model).num_classes or 2
        facts = DataFacts(class_names=tuple(f"class_{n}" for n in range(count)))
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "model.pt"
        say(f"export: {adopt_weights(model, workflow, facts, whole)}")
        yield whole


def check_input_shape(shape: Sequence[int], model: Path) -> None:
    """Hold the shape of an input against the network that is exported.

    Args:
        shape: (batch, channel, *space), or (channel, *space); () says nothing.
        model: a checkpoint.

    Raises:
        ConfigError: another number of axes or channels, or sizes that the network can't halve often enough.
    """
    if not shape:
        return
    from voxflow.training import read_checkpoint

    spec = ModelSpec.model_validate_json(read_checkpoint(model)["spec"]).of_network
    axes = 3 if spec.task == "segmentation" else 2
    channels, space = list(shape[-axes - 1 : -axes]), list(shape[-axes:])
    if len(shape) not in (axes + 1, axes + 2) or channels != [spec.in_channels]:
        expected = ["batch", spec.in_channels, *(["size"] * axes)]
        raise ConfigError(f"input shape {list(shape)}, but the network takes {expected}", path=model)
    if min(space) < 1 or list(spec.round_up(space)) != space:
        multiples = f"{list(spec.divisors)}, axis by axis" if spec.divisors else f"{spec.divisor}"
        raise ConfigError(f"input shape {list(shape)}: each size is a multiple of {multiples}", path=model)


def configure_triton(folder: Path, names: ExportNames, model_name: str, shape: Sequence[int], batch: int) -> Path:
    """Write config.pbtxt, with which Triton serves the exported ONNX file.

    Args:
        folder: the models folder, which holds the exported files.
        names: what they are called.
        model_name: what Triton calls the model; empty: as the checkpoint.
        shape: (channel, *space) of the input; () leaves the sizes open.
        batch: greatest batch.

    Raises:
        ConfigError: the network can't take the shape.
        DataError: there is no ONNX file, or the model has several networks.
    """
    from voxflow.training import read_checkpoint

    checkpoint = find_model(folder / f"{names.name}.ckpt")
    check_input_shape(shape, checkpoint)
    spec = ModelSpec.model_validate_json(read_checkpoint(checkpoint)["spec"])
    require_one_network(spec, checkpoint)
    file = folder / next(names.file(kind) for kind in list_exported_kinds() if kind.suffix == ".onnx")
    if not file.is_file():
        raise DataError("Triton runs the ONNX file: export it, too", path=file)
    path, axes = folder / "config.pbtxt", 3 if spec.task == "segmentation" else 2
    write_triton_config(path, file, model_name or names.name, spec, batch=batch, space=shape[-axes:])
    return path


def _export(
    checkpoint: Path,
    out: Path,
    options: ExportOptions,
    cases: list[InferenceCase],
    calibration: list[InferenceCase],
) -> ParityReport:
    try:
        return export_model(checkpoint, out, options, cases, calibration=calibration, on_noise=True)
    except DataError as error:
        # The cases serve the comparison only: images that moved or changed are no reason not to export.
        say(f"export: the training's cases can't be compared on: {str(error).splitlines()[0]}")
        for file in out.iterdir():
            file.unlink()
        return export_model(checkpoint, out, options, [], on_noise=True)


def _read_cases(folder: Path, options: ExportOptions) -> tuple[list[InferenceCase], list[InferenceCase]]:
    """Cases that the training read, as it noted them, to compare and to calibrate on; none that is gone."""
    try:
        noted = json.loads((folder / DATA_FILE).read_text(encoding="utf-8"))
        datalist = Datalist.read(Path(noted["datalist"]), Path(noted["root"]))
    except (OSError, ValueError, KeyError, TypeError, VoxflowError):
        return [], []
    cases = [case for key in (noted["key"], noted["training_key"]) for case in datalist.parts.get(key, ())]
    return _take_present(cases, options.parity_cases), _take_present(
        datalist.parts.get(noted["training_key"], ()), options.calibration_cases
    )


def _take_present(cases: Iterable[Case], count: int) -> list[InferenceCase]:
    present = [case for case in cases if all(path.is_file() for path in case.image)]
    return [InferenceCase(case.id, case.image) for case in present[:count]]


def _move_files(kind: EngineKind, scratch: Path, folder: Path, names: ExportNames) -> Path | None:
    """Bring one engine's files to their names; an older file of an engine that was not made now is removed."""
    target = folder / names.file(kind)
    _replace_files(kind, scratch / kind.file, target)
    return target if target.is_file() else None


def _replace_files(kind: EngineKind, file: Path, target: Path) -> None:
    """Move all files of a model; what an earlier one has left there, and this one has not, is removed."""
    pairs = kind.pair_files(file, target)
    for path in set(kind.list_files(target)) - {place for _, place in pairs}:
        path.unlink()
    for source, place in pairs:
        source.replace(place)
