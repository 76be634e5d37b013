"""Makes a model of a MONAI bundle: its inference configuration becomes the specification in a model file.

The configuration is read and not run (:class:`voxflow.bundle.BundleValues`). What the evaluator of ``configs/
inference.json`` names is followed: the network, with the weights that a CheckpointLoader reads, the pre-processing of
its data set, the inferer and the post-processing. Whatever of these a model file can't hold is named, all at once.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from voxflow.adopt.bundle_answer import Answer, Windows, read_inferer
from voxflow.adopt.bundle_steps import IMAGE, ImageSteps
from voxflow.adopt.model import AdoptedModel
from voxflow.adopt.plain import NamedArguments, check_answer, read_state
from voxflow.bundle import BundlePart, BundleValues
from voxflow.components import read_network
from voxflow.errors import ConfigError, DataError, join_names
from voxflow.findings import show
from voxflow.spec import ModelSpec, MonaiSteps
from voxflow.texts import escape

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Networks of monai.networks.nets that answer a window with logits on its grid.
NETWORKS = {
    "UNet", "Unet", "SegResNet", "SegResNetDS", "DynUNet", "DynUnet", "UNETR", "SwinUNETR", "BasicUNet", "BasicUnet",
    "AttentionUnet", "VNet", "HighResNet", "FlexibleUNet",
}  # fmt: skip
# Arguments of earlier versions of MONAI that changed neither weights nor answers.
DROPPED = {"SwinUNETR": {"img_size"}}
ADVICE = "the bundle still runs as it is, as a workspace of kind: bundle (docs/bundles.md)"
MODALITIES = {"ct": "CT", "mr": "MR", "mri": "MR", "pt": "PT", "pet": "PT", "us": "US"}
# A network that is shown whole images is tried on this many voxels.
TRIED = (32, 32, 32)
MOST_PROBLEMS = 4
Value = TypeVar("Value")
_EVALUATOR = {"device", "val_data_loader", "network", "inferer", "postprocessing", "key_val_metric", "val_handlers",
              "additional_metrics", "amp", "amp_kwargs", "epoch_length", "non_blocking", "decollate", "metric_cmp_fn",
              "mode", "compile", "compile_kwargs"}  # fmt: skip


def read_bundle(bundle: Path, file: Path | None = None) -> AdoptedModel:
    """Read a MONAI bundle.

    Args:
        bundle: its folder, which holds ``configs``.
        file: its inference configuration; None: configs/inference.json, .yaml or .yml.

    Raises:
        ConfigError: a configuration is damaged, or names what a model file can't hold; each in its place.
        DataError: there is no such configuration, or the weights are missing, damaged, hold code or are others.
    """
    reader = _BundleReader(BundleValues(bundle, file))
    spec = reader.read_spec()
    network, weights = reader.network_arguments(), reader.find_weights()
    reader.raise_problems()
    component, module = read_state(network, spec, weights, reader.values.file, reader.network.place)
    divisor = read_network(component).divisor
    is_fitting = spec.window is None or not any(side % divisor for side in spec.window)
    spec = spec.model_copy(update={"divisor": divisor if is_fitting else 1})
    check_answer(module, spec if spec.window else spec.model_copy(update={"window": TRIED}), weights)
    return AdoptedModel(module, component, spec, origin="MONAI bundle", notes=tuple(dict.fromkeys(reader.notes)))


class _BundleReader:
    """Follows one inference configuration from its evaluator on, and collects what can't be adopted."""

    def __init__(self, values: BundleValues) -> None:
        self.values = values
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._require_version()
        self.evaluator = self._find_evaluator()
        self.network = self._find_network()

    def read_spec(self) -> ModelSpec:
        """The specification of the model, as far as the configuration tells it; what it lacks is in ``problems``."""
        windows = self._try(partial(read_inferer, self._part(self.evaluator, "inferer")), Windows())
        channels, classes = self._count("in_channels", 1), self._count("out_channels", 2)
        steps = self._read_steps(channels, windows.size or TRIED)
        answer, names, regions = self._read_answer(classes, steps)
        self.raise_problems()
        self.notes += answer.notes
        labels = names or _name_labels(classes, has_background=answer.kind == "argmax")
        monai = MonaiSteps(
            before=tuple(steps.before),
            crops_after=steps.crops_after,
            blend=windows.blend,
            padding=windows.padding,
            back=cast("Any", answer.back),
            resize=steps.resize,
            pad=steps.pad,
            cleaning=answer.cleaning,
        )
        images = self._read_channel_names(channels, steps)
        try:
            return ModelSpec(
                task="segmentation",
                in_channels=channels,
                class_names=labels,
                activation=answer.activation or "softmax",
                spacing_mm=steps.spacing_mm,
                orientation=steps.orientation,
                extent="centres",
                interpolation=cast("Any", steps.interpolation),
                preprocess=tuple(steps.after),
                window=windows.size,
                overlap=windows.overlap,
                modality=self._read_modality(),
                regions=regions,
                channels=images,
                monai=monai,
            )
        except ValidationError as error:
            raise ConfigError(str(error.errors()[0]["msg"]), path=self.values.file) from error

    def raise_problems(self) -> None:
        """Say what can't be adopted.

        Raises:
            ConfigError: there is something; one line with all of it.
        """
        if self.problems:
            more = len(self.problems) - MOST_PROBLEMS
            shown = "; ".join(self.problems[:MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
            raise ConfigError(f"can't be adopted: {shown}; {ADVICE}", path=self.values.file)

    def network_arguments(self) -> NamedArguments:
        """The network as a component."""
        name = self.network.name
        dropped = DROPPED.get(name, set())
        keys = [key for key in self.network.arguments if key not in dropped]
        args = {key: self._try(partial(self.network.read, key), None) for key in keys}
        for key, value in args.items():
            if not _is_plain(value):
                self.problems.append(f"{self.network.place_of(key)}: needs plain values, no component")
        return NamedArguments(name=f"monai:{name}", args=args)

    def find_weights(self) -> Path:
        """The file of weights that the bundle's CheckpointLoader reads."""
        loaders = [part for part in self.values.list_parts() if part.name == "CheckpointLoader"]
        loaders = [part for part in loaders if not self._try(part.is_disabled, True)]
        if not loaders:
            self.problems.append("no CheckpointLoader names the weights")
            return self.values.bundle / "models/model.pt"
        path = self._try(partial(loaders[0].read, "load_path"), None)
        if not isinstance(path, str) or not path:
            self.problems.append(f"{loaders[0].place_of('load_path')}: needs the path of a file")
            return self.values.bundle
        file = self.values.bundle / path
        # A relative path is meant from where the bundle's commands are run.
        file = file if file.is_file() else type(file)(path)
        if not file.is_file() and not self.problems:
            large = next((f for f in ("large_files.yml", "large_files.yaml") if (self.values.bundle / f).is_file()), "")
            hint = f"; {large} says where it is downloaded from" if large else ""
            raise DataError(f"file of weights not found{hint}", path=file)
        return file

    def _require_version(self) -> None:
        """Refuse a bundle of a later major version of MONAI, whose keys may mean something else."""
        from monai import __version__

        stated = str(self._metadata("monai_version") or "")
        major, present = stated.partition(".")[0], __version__.partition(".")[0]
        if major.isdecimal() and present.isdecimal() and int(major) > int(present):
            message = (
                f"written for MONAI {escape(stated)}; {__version__} is installed, and what its keys mean is unknown"
            )
            raise ConfigError(message, path=self.values.bundle / "configs/metadata.json", where="monai_version")

    def _find_evaluator(self) -> BundlePart:
        part = self.values.find("evaluator")
        if part is None:
            parts = [part for part in self.values.list_parts() if part.name.endswith("Evaluator")]
            part = parts[0] if len(parts) == 1 else None
        if not isinstance(part, BundlePart):
            raise ConfigError(f"no evaluator is there, which says what runs; {ADVICE}", path=self.values.file)
        if part.name != "SupervisedEvaluator":
            message = f"{part.name} is no segmentation by MONAI's SupervisedEvaluator, and can't be adopted; {ADVICE}"
            raise ConfigError(message, path=self.values.file, where=part.place)
        unknown = sorted(set(part.arguments) - _EVALUATOR)
        self.problems += [f"{part.place_of(key)}: changes what the network is shown or answers" for key in unknown]
        handlers: Any = self._try(partial(part.read, "val_handlers"), None)
        listed = handlers if isinstance(handlers, list) else []
        changing = [item for item in listed if isinstance(item, BundlePart) and item.name == "PostProcessing"]
        self.problems += [f"{item.place}: PostProcessing among the handlers changes the answer" for item in changing]
        if self._try(partial(part.read, "mode", "eval"), "eval") != "eval":
            self.problems.append(f"{part.place_of('mode')}: a network is run in evaluation mode")
        return part

    def _find_network(self) -> BundlePart:
        try:
            part = self.evaluator.read("network")
        except ConfigError as error:
            raise ConfigError(f"{error.message}; {ADVICE}", path=error.path, where=error.where) from error
        if not isinstance(part, BundlePart):
            message = f"no network of MONAI's stands there; {ADVICE}"
            raise ConfigError(message, path=self.values.file, where=self.evaluator.place_of("network"))
        if part.name not in NETWORKS:
            known = join_names(sorted(NETWORKS - {"Unet", "DynUnet", "BasicUnet"}), len(NETWORKS))
            message = f"{part.name}: no network that can be adopted, which are {known}; {ADVICE}"
            raise ConfigError(message, path=self.values.file, where=part.place)
        stated = _read_default(part.name, "spatial_dims", 3)
        dims = self._try(partial(part.read, "spatial_dims", stated), 3)
        if dims != 3:
            message = f"{part.name} of {dims} dimensions: models of two dimensions can't be adopted; {ADVICE}"
            raise ConfigError(message, path=self.values.file, where=part.place_of("spatial_dims"))
        return part

    def _read_steps(self, channels: int, window: tuple[int, int, int]) -> ImageSteps:
        steps = ImageSteps(channels, window)
        dataset = self._find_dataset()
        transforms = self._list_transforms(dataset, "transform") if dataset else []
        for part in transforms:
            self._try(partial(steps.add, part), None)
        if steps.keys != (IMAGE,) and dataset and not self.problems:
            where = ", ".join(steps.keys) or "no field"
            self.problems.append(f"{dataset.place}: the network is shown the field 'image'; images are in {where}")
        if steps.names and len(steps.names) != channels:
            self.problems.append(f"{len(steps.names)} images are put together, the network takes {channels} channels")
        return steps

    def _find_dataset(self) -> BundlePart | None:
        loader = self._part(self.evaluator, "val_data_loader")
        dataset = self._part(loader, "dataset") if loader else None
        if dataset is None:
            self.problems.append(f"{self.evaluator.place_of('val_data_loader')}: no data set with transforms is there")
        return dataset

    def _read_answer(
        self, classes: int, steps: ImageSteps
    ) -> tuple[Answer, tuple[str, ...], tuple[tuple[int, ...], ...]]:
        """The post-processing, the names of the channels where they are known, and their regions."""
        dataset = self._find_dataset()
        preprocessing = self._try(partial(dataset.read, "transform"), None) if dataset else None
        answer = Answer(classes, getattr(preprocessing, "place", ""))
        for part in self._list_transforms(self.evaluator, "postprocessing"):
            self._try(partial(answer.add, part), None)
        names = self._read_labels(classes)
        compose = self._part(self.evaluator, "postprocessing") or self.evaluator
        if self.problems:
            return answer, names, ()
        self._try(partial(answer.finish, compose, steps.moved_keys), None)
        named = names or _name_labels(classes, has_background=False)
        return answer, names, self._try(partial(answer.name_regions, named, compose), ())

    def _list_transforms(self, holder: BundlePart, key: str) -> list[BundlePart]:
        """The transforms of a Compose, those of inner ones in their places."""
        part = self._try(partial(holder.read, key), None)
        transforms: list[BundlePart] = []
        waiting = [part] if isinstance(part, BundlePart) else part if isinstance(part, list) else []
        if not waiting:
            self.problems.append(f"{holder.place_of(key)}: no transforms are there")
        while waiting:
            item = waiting.pop(0)
            if not isinstance(item, BundlePart):
                self.problems.append(f"{holder.place_of(key)}: {type(item).__name__} is no transform")
            elif item.name == "Compose":
                inner: Any = self._try(partial(item.read, "transforms", []), [])
                waiting = [*(inner if isinstance(inner, list) else [inner]), *waiting]
            else:
                transforms.append(item)
        return transforms

    def _part(self, holder: BundlePart, key: str) -> BundlePart | None:
        part = self._try(partial(holder.read, key), None)
        if part is not None and not isinstance(part, BundlePart):
            self.problems.append(f"{holder.place_of(key)}: needs a component, received {show(part)}")
        return part if isinstance(part, BundlePart) else None

    def _count(self, key: str, fallback: int) -> int:
        """A number of channels, or what the network's class has where nothing is said."""
        stated = _read_default(self.network.name, key, fallback)
        count = self._try(partial(self.network.read, key, stated), fallback)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= 4096:
            self.problems.append(f"{self.network.place_of(key)}: needs a number of channels, received {count!r}")
            return fallback
        return count

    def _metadata(self, *keys: str) -> Any:
        value: Any = self.values.content.get("_meta_")
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def _read_format(self, side: str, name: str) -> dict[str, Any]:
        """What metadata.json says of the network's input or output."""
        entries = self._metadata("network_data_format", side)
        if not isinstance(entries, dict) or not entries:
            return {}
        entry = entries.get(name, next(iter(entries.values())))
        return entry if isinstance(entry, dict) else {}

    def _read_names(self, side: str, name: str, count: int) -> tuple[str, ...]:
        names = self._read_format(side, name).get("channel_def")
        if not isinstance(names, dict) or not names:
            return ()
        expected = [str(number) for number in range(count)]
        if sorted(names) != sorted(expected):
            message = f"metadata.json: network_data_format.{side}.{name}.channel_def names {len(names)} channels, "
            self.problems.append(f"{message}the network has {count}")
            return ()
        return tuple(escape(str(names[number])) for number in expected)

    def _read_labels(self, classes: int) -> tuple[str, ...]:
        names = self._read_names("outputs", "pred", classes)
        if not names:
            self.notes.append("metadata.json names no classes, so that they are numbered")
        return names

    def _read_channel_names(self, channels: int, steps: ImageSteps) -> tuple[str, ...]:
        if channels == 1:
            return ()
        names = steps.names or self._read_names("inputs", "image", channels)
        return names if len(set(names)) == len(names) else ()

    def _read_modality(self) -> str:
        return MODALITIES.get(str(self._read_format("inputs", "image").get("modality", "")).casefold(), "")

    def _try(self, read: Callable[[], Value], fallback: Value) -> Value:
        """What a function returns; where it can't be adopted, that is noted."""
        try:
            return read()
        except ConfigError as error:
            place = f"{error.where}: " if error.where else ""
            self.problems.append(f"{place}{error.message}")
            return fallback


def _read_default(network: str, key: str, fallback: Any) -> Any:
    """What an argument of one of MONAI's networks is where nothing is said."""
    import monai.networks.nets

    parameter = inspect.signature(getattr(monai.networks.nets, network)).parameters.get(key)
    return fallback if parameter is None or parameter.default is parameter.empty else parameter.default


def _is_plain(value: Any) -> bool:
    """Whether a value can stand in JSON."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, str | int | float)


def _name_labels(classes: int, *, has_background: bool) -> tuple[str, ...]:
    """Names of channels that nothing names."""
    first = ("background",) if has_background else ()
    return (*first, *(f"label {number}" for number in range(1, classes + 1 - len(first))))
