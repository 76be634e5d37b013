"""Reads nnU-Net's plans.json: a configuration with what it inherits, and its network.

After ``PlansManager`` and ``ConfigurationManager`` of nnunetv2 2.8.1 (Apache-2.0), which also reads the plans of
earlier versions of nnU-Net v2, without ``architecture``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.components import Component
from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.spec import NnunetNormalisation, NnunetResampling
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from pathlib import Path

PREPROCESSOR = "DefaultPreprocessor"
# By its reader nnU-Net turns an image before its plans' transposition; None: as it is stored.
READERS = {"SimpleITKIO": None, "NibabelIO": None, "NibabelIOWithReorient": "RAS"}
SPLINES = "resample_data_or_seg_to_shape"
LINEAR = "resample_torch_fornnunet"
# What the functions take beside these changes other arrays than ours, or only how they are computed.
UNUSED = {"is_seg", "num_threads", "memefficient_seg_resampling"}
BLOCKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage",
          "ResidualUNet": "n_blocks_per_stage"}  # fmt: skip
# nnU-Net's plans have 9 stages and 6 blocks a stage at most, and patches of some hundred voxels.
MOST_STAGES, MOST_BLOCKS, MOST_VOXELS = 20, 100, 4096
PLAIN_KEYS = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder", "conv_bias")
NORMS = {"InstanceNorm": "instance", "BatchNorm": "batch"}
TYPE_NAMES: dict[Any, str] = {dict: "an object", list: "a list", str: "text"}
IGNORED_KEYS = {"n_stages", "conv_op", "dropout_op", "dropout_op_kwargs", "deep_supervision"}


class Plans:
    """One configuration of a plans.json.

    Args:
        path: the file.
        name: of the configuration.

    Raises:
        DataError: the file is damaged, or the configuration is not in it.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.content = read_object(path)
        self.configuration = self._inherit(name, ())

    def require(self, key: str, expected: type | tuple[type, ...], *, top: bool = False) -> Any:
        """Return a value of the configuration, or of the plans, of an expected type.

        Raises:
            DataError: it is not there, or of another type.
        """
        content = self.content if top else self.configuration
        place = key if top else f"configurations.{self.name}.{key}"
        return require_value(content, key, expected, self.path, place)

    @property
    def reader(self) -> str:
        """The class that reads images."""
        reader: str = self.require("image_reader_writer", str, top=True)
        if reader not in READERS:
            names = ", ".join(READERS)
            message = f"images are read by {reader}; an adopted model's are read as by {names}"
            raise DataError(message, path=self.path, where="image_reader_writer")
        return reader

    def read_axes(self) -> tuple[int, int, int]:
        """Of each axis of the network's input the axis (i, j, k) of the image: nnU-Net's arrays begin with the last."""
        forward = self.require("transpose_forward", list, top=True)
        if not all(is_whole(axis) for axis in forward) or sorted(forward) != [0, 1, 2]:
            raise DataError(f"a transposition is 0, 1, 2 in some order, received {forward}", path=self.path,
                            where="transpose_forward")  # fmt: skip
        backward = self.content.get("transpose_backward", None)
        expected = sorted(range(3), key=forward.__getitem__)
        if backward not in (None, expected):
            message = f"undoes {forward} by {expected}, received {backward}"
            raise DataError(message, path=self.path, where="transpose_backward")
        i, j, k = (2 - axis for axis in forward)
        return i, j, k

    def read_numbers(self, key: str) -> list[float]:
        """Two or three numbers above 0."""
        numbers = self.require(key, list)
        if len(numbers) not in (2, 3) or not all(is_number(n) and n > 0 for n in numbers):
            place = f"configurations.{self.name}.{key}"
            raise DataError(f"needs two or three numbers above 0, received {numbers}", path=self.path, where=place)
        return [float(number) for number in numbers]

    def read_patch(self) -> list[int]:
        """Two or three whole numbers: the voxels of a window."""
        sides = self.read_numbers("patch_size")
        if not all(side.is_integer() and side <= MOST_VOXELS for side in sides):
            place = f"configurations.{self.name}.patch_size"
            raise DataError(f"needs whole numbers up to {MOST_VOXELS}, received {sides}", path=self.path, where=place)
        return [int(side) for side in sides]

    def read_normalisation(self, channels: int) -> tuple[NnunetNormalisation, ...]:
        """How each channel is scaled."""
        schemes, masks = self.require("normalization_schemes", list), self.require("use_mask_for_norm", list)
        if not len(schemes) == len(masks) == channels:
            message = f"{len(schemes)} normalisations and {len(masks)} use_mask_for_norm for {channels} channel(s)"
            raise DataError(message, path=self.path, where=f"configurations.{self.name}.normalization_schemes")
        if not all(isinstance(uses_mask, bool) for uses_mask in masks):
            place = f"configurations.{self.name}.use_mask_for_norm"
            raise DataError(f"needs true or false for each channel, received {masks}", path=self.path, where=place)
        measured = self.content.get("foreground_intensity_properties_per_channel") or self.content.get(
            "foreground_intensity_properties_by_modality", {}
        )
        normalisation = []
        for number, (scheme, uses_mask) in enumerate(zip(schemes, masks, strict=True)):
            values: dict[str, Any] = {}
            if scheme == "CTNormalization":
                place = f"foreground_intensity_properties_per_channel.{number}"
                properties = require_value(measured, str(number), dict, self.path, place)
                values = {
                    key: require_value(properties, key, (int, float), self.path, f"{place}.{key}")
                    for key in ("mean", "std", "percentile_00_5", "percentile_99_5")
                }
            try:
                normalisation.append(NnunetNormalisation(scheme=scheme, uses_mask=uses_mask, **values))
            except ValueError as error:
                place = f"configurations.{self.name}.normalization_schemes[{number}]"
                raise DataError(f"no normalisation that is known: {scheme!r}", path=self.path, where=place) from error
        return tuple(normalisation)

    def read_resampling(self, kind: str) -> NnunetResampling:
        """How arrays of a kind are resampled: "data", "seg" or "probabilities"."""
        key = f"resampling_fn_{kind}"
        function, arguments = self.require(key, str), dict(self.require(f"{key}_kwargs", dict))
        place = f"configurations.{self.name}.{key}"
        if function not in (SPLINES, LINEAR):
            raise DataError(f"no resampling that is known: {function}", path=self.path, where=place)
        if bool(arguments.get("is_seg")) != (kind == "seg"):
            raise DataError("is_seg is meant for label maps", path=self.path, where=f"{place}_kwargs.is_seg")
        names = {"force_separate_z": "separate_z", "separate_z_anisotropy_threshold": "threshold"}
        values = {names.get(key, key): value for key, value in arguments.items() if key not in UNUSED}
        if function == LINEAR:
            modes = {"mode": "linear", "aniso_axis_mode": "nearest-exact"}
            values.pop("device", None)
            for mode, expected in modes.items():
                if values.pop(mode, expected) != expected:
                    raise DataError(f"{mode} is {expected} alone", path=self.path, where=f"{place}_kwargs.{mode}")
            values |= {"order": 1, "order_z": 0}
        elif "separate_z" not in values:
            values["separate_z"] = False  # the function's own default
        try:
            return NnunetResampling.model_validate({"order": 3, **values})
        except ValueError as error:
            raise DataError(
                f"arguments that are not known: {arguments}", path=self.path, where=f"{place}_kwargs"
            ) from error

    def read_network(self) -> Component:
        """The network as a component, without the channels of its input and answer."""
        return _read_architecture(self)

    def _inherit(self, name: str, visited: tuple[str, ...]) -> dict[str, Any]:
        configurations = require_value(self.content, "configurations", dict, self.path, "configurations")
        if name not in configurations:
            names = ", ".join(configurations)
            raise DataError(f"no configuration {name!r}; there are {names}", path=self.path, where="configurations")
        if name in visited:
            chain = " → ".join((*visited, name))
            raise DataError(f"inherits from itself: {chain}", path=self.path, where=f"configurations.{name}")
        configuration = require_value(configurations, name, dict, self.path, f"configurations.{name}")
        parent = configuration.get("inherits_from")
        if parent and not isinstance(parent, str):
            place = f"configurations.{name}.inherits_from"
            raise DataError(f"needs the name of a configuration, received {parent!r}", path=self.path, where=place)
        return {**self._inherit(parent, (*visited, name)), **configuration} if parent else dict(configuration)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        DataError: it is missing, damaged, or holds something else.
    """
    try:
        content = parse_json(read_text(path), path)
    except FileNotFoundError as error:
        raise DataError("file not found; a result folder of nnU-Net v2 has one", path=path) from error
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", path=path) from error
    if not isinstance(content, dict):
        raise DataError("needs to be a JSON object", path=path)
    return content


def require_value(content: dict[str, Any], key: str, expected: type | tuple[type, ...], path: Path, place: str) -> Any:
    """Return a value of an expected type.

    Raises:
        DataError: it is not there, or of another type.
    """
    if key not in content:
        raise DataError("missing", path=path, where=place)
    value = content[key]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        names = expected if isinstance(expected, tuple) else (expected,)
        kinds = " or ".join(TYPE_NAMES.get(name, "a number") for name in names)
        raise DataError(f"needs {kinds}, received {value!r}", path=path, where=place)
    return value


def is_whole(value: Any) -> bool:
    """Whether a value of JSON is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_architecture(plans: Plans) -> Component:
    place = f"configurations.{plans.name}.architecture"
    if "architecture" not in plans.configuration:
        return _make_component(plans, *_convert_old_plans(plans), f"configurations.{plans.name}")
    architecture = plans.require("architecture", dict)
    name = require_value(architecture, "network_class_name", str, plans.path, f"{place}.network_class_name")
    arguments = require_value(architecture, "arch_kwargs", dict, plans.path, f"{place}.arch_kwargs")
    return _make_component(plans, name, arguments, place)


def _make_component(plans: Plans, full_name: str, arguments: dict[str, Any], place: str) -> Component:
    name = full_name.rsplit(".", 1)[-1]
    if name not in BLOCKS or ("." in full_name and not full_name.startswith("dynamic_network_architectures.")):
        names = ", ".join(BLOCKS)
        message = f"an unknown network, {full_name}; known are {names} of dynamic_network_architectures"
        raise DataError(message, path=plans.path, where=f"{place}.network_class_name")
    blocks = BLOCKS[name]
    keys = {*PLAIN_KEYS, blocks, *IGNORED_KEYS, "norm_op", "norm_op_kwargs", "nonlin", "nonlin_kwargs"}
    keys |= {"nonlin_first"} if name == "PlainConvUNet" else {"block", "bottleneck_channels", "stem_channels"}
    unknown = sorted(arguments.keys() - keys)
    if unknown:
        raise DataError(f"an unknown argument of {name}", path=plans.path, where=f"{place}.arch_kwargs.{unknown[0]}")
    stages = require_value(arguments, "n_stages", int, plans.path, f"{place}.arch_kwargs.n_stages")
    if not 2 <= stages <= MOST_STAGES:
        message = f"needs 2 to {MOST_STAGES} stages, received {stages}"
        raise DataError(message, path=plans.path, where=f"{place}.arch_kwargs.n_stages")
    dimensions = _read_dimensions(plans, arguments, place)
    values = {key: arguments[key] for key in (*PLAIN_KEYS, blocks) if key in arguments}
    for key in ("features_per_stage", blocks):
        values[key] = _repeat(values.get(key), stages)
    values["n_conv_per_stage_decoder"] = _repeat(values.get("n_conv_per_stage_decoder"), stages - 1)
    for key in (blocks, "n_conv_per_stage_decoder"):
        if isinstance(values[key], list) and any(is_number(n) and n > MOST_BLOCKS for n in values[key]):
            message = f"at most {MOST_BLOCKS} a stage are built, received {values[key]}"
            raise DataError(message, path=plans.path, where=f"{place}.arch_kwargs.{key}")
    for key in ("kernel_sizes", "strides"):
        steps = _repeat(values.get(key), stages)
        values[key] = [_repeat(step, dimensions) for step in steps] if isinstance(steps, list) else steps
    values |= {
        "norm": _read_norm(plans, arguments, dimensions, place),
        "norm_args": arguments.get("norm_op_kwargs") or {},
    }
    if arguments.get("nonlin"):
        activation = str(arguments["nonlin"]).rsplit(".", 1)[-1]
        values |= {"activation": activation, "activation_args": arguments.get("nonlin_kwargs") or {}}
    if arguments.get("nonlin_first"):
        values["nonlin_first"] = True
    if arguments.get("stem_channels"):
        values["stem_channels"] = arguments["stem_channels"]
    if arguments.get("block") and str(arguments["block"]).rsplit(".", 1)[-1] == "BottleneckD":
        values["bottleneck_channels"] = _repeat(arguments.get("bottleneck_channels"), stages)
    elif arguments.get("block") and str(arguments["block"]).rsplit(".", 1)[-1] != "BasicBlockD":
        raise DataError(f"an unknown block, {arguments['block']}", path=plans.path, where=f"{place}.arch_kwargs.block")
    return Component(name=name, args=values)


def _read_dimensions(plans: Plans, arguments: dict[str, Any], place: str) -> int:
    convolution = str(arguments.get("conv_op", "")).rsplit(".", 1)[-1]
    if convolution not in ("Conv2d", "Conv3d"):
        message = f"needs Conv2d or Conv3d of torch, received {arguments.get('conv_op')!r}"
        raise DataError(message, path=plans.path, where=f"{place}.arch_kwargs.conv_op")
    return 2 if convolution == "Conv2d" else 3


def _read_norm(plans: Plans, arguments: dict[str, Any], dimensions: int, place: str) -> str | None:
    if not arguments.get("norm_op"):
        return None
    name = str(arguments["norm_op"]).rsplit(".", 1)[-1]
    norm = NORMS.get(name.removesuffix(f"{dimensions}d"))
    if norm is None:
        raise DataError(f"an unknown norm, {name}", path=plans.path, where=f"{place}.arch_kwargs.norm_op")
    return norm


def _repeat(value: Any, count: int) -> Any:
    """A number stands for as many of it."""
    return [value] * count if isinstance(value, int) else value


def _convert_old_plans(plans: Plans) -> tuple[str, dict[str, Any]]:
    """The network of plans from before nnU-Net v2.4, as ``ConfigurationManager`` makes it."""
    name = plans.require("UNet_class_name", str)
    if name not in ("PlainConvUNet", "ResidualEncoderUNet"):
        raise DataError(f"an unknown network, {name}", path=plans.path,
                        where=f"configurations.{plans.name}.UNet_class_name")  # fmt: skip
    counts = plans.require("n_conv_per_stage_encoder", list)
    base, most = plans.require("UNet_base_num_features", int), plans.require("unet_max_num_features", int)
    dimensions = len(plans.read_patch())
    return name, {
        "n_stages": len(counts),
        "features_per_stage": [min(base * 2**n, most) for n in range(len(counts))],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": plans.require("conv_kernel_sizes", list),
        "strides": plans.require("pool_op_kernel_sizes", list),
        BLOCKS[name]: counts,
        "n_conv_per_stage_decoder": plans.require("n_conv_per_stage_decoder", list),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
