"""Reads a bundle's pre-processing: which of MONAI's transforms become steps of a model file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, get_args

from voxflow.adopt.plain import NamedArguments, read_intensity
from voxflow.errors import ConfigError
from voxflow.findings import show
from voxflow.spec import Interpolation, MonaiPad, MonaiResize

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from voxflow.bundle import BundlePart
    from voxflow.spec import TransformSpec

IMAGE = "image"
MOST_SIDE = 1024  # voxels
READERS = {"nibabelreader", "itkreader", "pydicomreader", "nrrdreader"}
# What neither the values nor the grid change by.
PASSING = {
    "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor", "ToDevice", "Identity",
    "SelectItems", "DeleteItems", "CastToType",
}  # fmt: skip
INTENSITIES = {
    "ScaleIntensityRange", "ScaleIntensity", "NormalizeIntensity", "ScaleIntensityRangePercentiles", "ShiftIntensity",
    "StdShiftIntensity", "ThresholdIntensity", "ClipIntensityPercentiles", "AdjustContrast", "ScaleIntensityFixedMean",
    "HistogramNormalize", "GaussianSmooth", "MedianSmooth",
}  # fmt: skip
# Arguments that say where MONAI keeps what it notes, and nothing of the image.
_NOTES = {"keys", "allow_missing_keys", "meta_keys", "meta_key_postfix", "overwriting", "image_only", "simple_keys",
          "prune_meta_pattern", "prune_meta_sep", "expanduser", "lazy", "fname_regex"}  # fmt: skip
# Arguments that may be a list with a value for each field.
_BY_FIELD = {"mode", "padding_mode", "align_corners", "dtype", "argmax", "threshold", "to_onehot", "nearest_interp",
             "softmax", "sigmoid", "orig_keys"}  # fmt: skip
# Of each transform the arguments that are known, each with the values that it may have; None: any.
_KNOWN: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "LoadImage": {"reader": None, "dtype": (None, "float32"), "ensure_channel_first": None},
    "Orientation": {"axcodes": None, "as_closest_canonical": None, "labels": None},
    "Spacing": {"pixdim": None, "mode": ("bilinear", "nearest"), "padding_mode": ("border",), "align_corners": None,
                "diagonal": (False,), "scale_extent": (False,), "recompute_affine": (False,), "dtype": None,
                "min_pixdim": (None,), "max_pixdim": (None,)},
    "CropForeground": {"source_key": None, "margin": (0,), "k_divisible": (1,), "channel_indices": (None,),
                       "allow_smaller": None, "mode": None, "start_coord_key": None, "end_coord_key": None},
    "Resize": {"spatial_size": None, "size_mode": ("all", "longest"), "mode": get_args(Interpolation),
               "align_corners": (None, True, False), "anti_aliasing": (None, True, False),
               "anti_aliasing_sigma": (None,), "dtype": (None, "float32")},
    "SpatialPad": {"spatial_size": None, "method": ("symmetric", "end"), "value": None,
                   "mode": ("constant", "edge", "replicate", "minimum")},
}  # fmt: skip


@dataclass
class ImageSteps:
    """How a bundle prepares an image.

    Attributes:
        channels: of a case.
        window: voxels (i, j, k) to try transforms on.
        keys: the fields that images are loaded into; one of each channel where they are put together later.
        names: those that were put together.
        orientation: see :class:`voxflow.spec.ModelSpec`, and so on.
        spacing_mm: mm.
        interpolation: of it.
        before: intensities before the grid changes.
        after: intensities after it.
        crops_after: how many of these before the image is cropped.
        resize: how it is brought to a size.
        pad: how it is padded.
        moved_keys: of each transform that changes the grid the fields that it changes.
    """

    channels: int
    window: tuple[int, int, int]
    keys: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    orientation: str | None = None
    spacing_mm: tuple[float, float, float] | None = None
    interpolation: str = "linear"
    before: list[TransformSpec] = field(default_factory=list)
    after: list[TransformSpec] = field(default_factory=list)
    crops_after: int | None = None
    resize: MonaiResize | None = None
    pad: MonaiPad | None = None
    moved_keys: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, part: BundlePart) -> None:
        """Take in the next transform.

        Raises:
            ConfigError: it, or one of its arguments, is none that a model file can hold.
        """
        name = plain_transform(part.name)
        if name == "LoadImage":
            self._load(part)
        elif name == "ConcatItems":
            self._concatenate(part)
        elif self._is_elsewhere(part):
            return
        elif name == "CastToType" and part.read("dtype", "float32") != "float32":
            refuse(part, "dtype", "images are float32")
        elif name in PASSING:
            return
        elif name == "Orientation":
            self._orient(part)
        elif name == "Spacing":
            self._space(part)
        elif name in ("CropForeground", "Resize", "SpatialPad"):
            self._require_order(part, name)
            {"CropForeground": self._crop, "Resize": self._resize, "SpatialPad": self._pad}[name](part)
        elif name in INTENSITIES:
            self._scale(part, name)
        else:
            raise ConfigError(f"{part.name}: no transform that a model file can hold", where=part.place)

    def _load(self, part: BundlePart) -> None:
        require_known(part, _KNOWN["LoadImage"])
        reader = part.read("reader")
        if reader is not None and str(reader).lower() not in READERS:
            refuse(part, "reader", "images are read by Voxflow's own readers")
        self.keys = read_names(part, "keys")

    def _concatenate(self, part: BundlePart) -> None:
        keys = read_names(part, "keys")
        if set(keys) != set(self.keys) or part.read("dim", 0) != 0:
            refuse(part, "keys", f"all images of a case are put together, {', '.join(self.keys)}")
        self.names, self.keys = keys, (str(part.read("name")),)

    def _is_elsewhere(self, part: BundlePart) -> bool:
        """Whether a transform is of other fields than images."""
        keys = set(read_names(part, "keys"))
        if not self.keys:
            refuse(part, "keys", "no LoadImage stands before it")
        if keys & set(self.keys) and not set(self.keys) <= keys:
            refuse(part, "keys", f"all images of a case are changed alike, {', '.join(self.keys)}")
        return not keys & set(self.keys)

    def _orient(self, part: BundlePart) -> None:
        require_known(part, _KNOWN["Orientation"])
        if self.spacing_mm or self._changes_size or self.orientation:
            refuse(part, "axcodes", "the orientation is changed once, before the spacing")
        codes = "RAS" if part.read("as_closest_canonical") else part.read("axcodes")
        axes = sorted(next((pair for pair in ("LR", "PA", "IS") if letter in pair), "") for letter in str(codes))
        if not isinstance(codes, str) or axes != ["IS", "LR", "PA"]:
            refuse(part, "axcodes", "needs three letters such as RAS")
        self._move_grid()
        self.orientation = str(codes)

    def _space(self, part: BundlePart) -> None:
        require_known(part, _KNOWN["Spacing"], self.keys)
        if self.spacing_mm or self._changes_size:
            refuse(part, "pixdim", "the spacing is changed once, before anything is cropped, resized or padded")
        pixdim = part.read("pixdim")
        steps = list(pixdim) if isinstance(pixdim, list) else [pixdim]
        steps += steps[-1:] * (3 - len(steps))
        if len(steps) < 3 or not all(_is_number(step) and step > 0 for step in steps[:3]):
            refuse(part, "pixdim", "needs three numbers above 0, in mm")
        self._move_grid()
        i, j, k = (float(step) for step in steps[:3])
        self.spacing_mm = (i, j, k)
        self.interpolation = "nearest" if read_of(part, "mode", self.keys) == "nearest" else "linear"

    def _crop(self, part: BundlePart) -> None:
        require_known(part, _KNOWN["CropForeground"], self.keys)
        if part.read("source_key") not in self.keys:
            refuse(part, "source_key", "images are cropped by their own values")
        self.crops_after = len(self.after)

    def _resize(self, part: BundlePart) -> None:
        require_known(part, _KNOWN["Resize"], self.keys)
        is_longest = part.read("size_mode", "all") == "longest"
        size = part.read("spatial_size")
        sides = [size] if is_longest else size
        if not isinstance(sides, list) or len(sides) != (1 if is_longest else 3) or not all(map(_is_side, sides)):
            refuse(part, "spatial_size", "needs three sides in voxels, or one with size_mode 'longest'")
        arguments = {key: read_of(part, key, self.keys) for key in ("mode", "align_corners", "anti_aliasing")}
        if arguments["align_corners"] is not None and "linear" not in (arguments["mode"] or ""):
            refuse(part, "align_corners", "it is of linear interpolation")
        self.resize = MonaiResize(
            after=len(self.after),
            size=size if is_longest else tuple(sides),
            mode=arguments["mode"] or "area",
            align_corners=arguments["align_corners"],
            antialias=bool(arguments["anti_aliasing"]),
        )

    def _pad(self, part: BundlePart) -> None:
        require_known(part, _KNOWN["SpatialPad"], self.keys)
        size, value = part.read("spatial_size"), part.read("value", 0)
        sides = size if isinstance(size, list) else [size] * 3
        if len(sides) != 3 or not all(map(_is_side, sides)):
            refuse(part, "spatial_size", "needs three sides in voxels, or one for all")
        if not _is_number(value):
            refuse(part, "value", "needs a number")
        mode = read_of(part, "mode", self.keys) or "constant"
        i, j, k = sides
        self.pad = MonaiPad(
            after=len(self.after),
            size=(i, j, k),
            at_end=part.read("method", "symmetric") == "end",
            mode=cast("Any", "edge" if mode == "replicate" else mode),
            value=float(value),
        )

    @property
    def _changes_size(self) -> bool:
        return self.crops_after is not None or self.resize is not None or self.pad is not None

    def _require_order(self, part: BundlePart, name: str) -> None:
        """Refuse what is not cropped, resized and padded in this order, each once."""
        later = {"CropForeground": self._changes_size, "Resize": self.resize or self.pad, "SpatialPad": self.pad}
        if later[name]:
            message = f"{part.name}: images are cropped, then resized, then padded, each once"
            raise ConfigError(message, where=part.place)
        self.moved_keys.append(self.keys)

    def _scale(self, part: BundlePart, name: str) -> None:
        args = {key: part.read(key) for key in part.arguments if key not in _NOTES}
        if args.get("dtype", "float32") not in (None, "float32"):
            refuse(part, "dtype", "images are float32")
        args.pop("dtype", None)
        named = _translate(name, args)
        self.after.append(read_intensity(named, self.channels, self.window, part.values.file, part.place))

    def _move_grid(self) -> None:
        """Note that the grid changes: what has been done to the values so far is done on the image's own."""
        self.moved_keys.append(self.keys)
        self.before, self.after = [*self.before, *self.after], []


def read_of(part: BundlePart, key: str, fields: Collection[str], default: Any = None) -> Any:
    """Read an argument that may be a list with one value for each of the transform's fields.

    Args:
        part: the transform.
        key: the argument.
        fields: those of which the first is asked for.
        default: where the argument is not there.

    Raises:
        ConfigError: it takes code.
    """
    value = part.read(key, default)
    keys = read_names(part, "keys")
    if not isinstance(value, list) or len(value) != len(keys) or key not in _BY_FIELD:
        return value
    return next((item for item, name in zip(value, keys, strict=True) if name in fields), value[0])


def plain_transform(name: str) -> str:
    """Return the name of a dictionary transform without its ending.

    Example:
        >>> plain_transform("LoadImaged"), plain_transform("SpacingDict"), plain_transform("scripts.Mine")
        ('LoadImage', 'Spacing', 'scripts.Mine')
    """
    if "." in name:
        return name
    return next((name.removesuffix(end) for end in ("Dict", "D", "d") if name.endswith(end)), name)


def require_known(part: BundlePart, known: Mapping[str, tuple[Any, ...] | None], fields: Collection[str] = ()) -> None:
    """Refuse arguments of a component that are not known, or have values that a model file can't hold.

    Args:
        part: the component.
        known: the arguments that may be there, each with the values that it may have; None: any.
        fields: of a transform those that are asked for.

    Raises:
        ConfigError: the first such argument.
    """
    for key in part.arguments:
        if key in _NOTES:
            continue
        if key not in known:
            refuse(part, key, "")
        allowed = known[key]
        if allowed is None:
            continue
        value = read_of(part, key, fields) if fields else part.read(key)
        if value not in allowed:
            refuse(part, key, f"only {' or '.join(map(show, allowed))} can be adopted")


def refuse(part: BundlePart, key: str, reason: str) -> None:
    """Say that an argument can't be adopted.

    Raises:
        ConfigError: always.
    """
    value = f" {show(part.content[key])}" if key in part.content else ""
    raise ConfigError(f"{part.name}: {key}{value} can't be adopted{reason and f': {reason}'}", where=part.place)


def read_names(part: BundlePart, key: str) -> tuple[str, ...]:
    """Read the names of fields: one, or a list.

    Raises:
        ConfigError: none are there, or no texts.
    """
    value = part.read(key)
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        refuse(part, key, "needs names of fields")
    return tuple(names)


def _translate(name: str, args: dict[str, Any]) -> NamedArguments:
    """The component that does a transform; Voxflow's own where it has one that gives the same values."""
    # Some bundles of the model zoo write "True".
    plain = {key: value == "True" if value in ("True", "False") else value for key, value in args.items()}
    given = {key: value for key, value in plain.items() if value is not None}
    if name == "NormalizeIntensity" and given == {"nonzero": True, "channel_wise": True}:
        return NamedArguments(name="NormalizeNonzeroIntensities")
    return NamedArguments(name=f"monai:{name}d", args=given)


def _is_side(value: Any) -> bool:
    """Whether a value is a side in voxels, or -1, by which an axis keeps its own."""
    return isinstance(value, int) and not isinstance(value, bool) and (value == -1 or 0 < value <= MOST_SIDE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
