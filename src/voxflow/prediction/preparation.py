"""Prepares images for a network: checks them, resamples volumes to its grid, and runs its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.machine import release_gpu_memory
from voxflow.prediction.grids import resample_labels, resample_to_network
from voxflow.prediction.monai import prepare_monai
from voxflow.prediction.nnunet import list_spacings, prepare_nnunet
from voxflow.prediction.splines import make_mask_channels
from voxflow.prediction.tensors import prepare_on_device, upload
from voxflow.prediction.totalsegmentator import bring_to_working_grid, split_image
from voxflow.progress import say
from voxflow.volumes import Volume, require_finite, resize_radiograph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.geometry import Geometry
    from voxflow.prediction.blending import Values
    from voxflow.prediction.monai_size import Foreground
    from voxflow.prediction.nnunet import CroppedPlace
    from voxflow.prediction.tensors import DeviceImage
    from voxflow.prediction.totalsegmentator import WorkingGrid
    from voxflow.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as a network takes it.

    Attributes:
        image: (channel, i, j, k), float32: an array, or a tensor of the device that the network computes on.
        grid: where its voxels lie.
        native: the grid of the image that came in; of an adopted nnU-Net of the part that it is shown, turned.
        place: where that part lies in the image; None: it is all of it.
        whole: the grid of the image then.
        foreground: of an adopted MONAI bundle that crops, resizes or pads images, what ``image`` is of it; None: all.
        previous: of a cascade, the image as its first stage takes it; its mask is still to be shown to the network.
        is_inside: of a cascade, whether a voxel of ``native`` lies in what is not zero; None: all do.
        parts: of a joined model, the image as each part takes it; parts that prepare it alike share one.
        working: of a model with TotalSegmentator's steps, the grid that it works on; the mask is brought back from it.
        pieces: the image there as the model takes it, very large ones in several pieces.
    """

    image: Values
    grid: Geometry
    native: Geometry
    place: CroppedPlace | None = None
    whole: Geometry | None = None
    foreground: Foreground | None = None
    previous: PreparedImage | None = None
    is_inside: NDArray[np.bool_] | None = None
    parts: tuple[PreparedImage, ...] = ()
    working: WorkingGrid | None = None
    pieces: tuple[PreparedImage, ...] = ()


def choose_device(engine: Engine) -> str | None:
    """Tell where an engine's images are best prepared: on its GPU; None: on the processor, as NumPy arrays."""
    return engine.device if engine.device not in (None, "cpu") else None


def prepare_image(volumes: Sequence[Volume], spec: ModelSpec, device: str | None = None) -> PreparedImage:
    """Bring an image to the network's grid and values; the part that needs no network.

    Args:
        volumes: the channels, in the network's order.
        spec: of the model.
        device: where to, as :func:`choose_device` says.

    Raises:
        DataError: the wrong number of channels, or a model that does not segment.
    """
    if spec.task != "segmentation":
        raise DataError(f"the model does {spec.task}, a volume needs a segmentation model")
    if spec.totalsegmentator:
        return _prepare_pieces(volumes, spec, device)
    if spec.parts:
        return _prepare_parts(volumes, spec, device)
    if spec.nnunet or spec.monai:
        return _prepare_adopted(volumes, spec, device)
    if spec.previous:
        previous = prepare_image(volumes, spec.previous.spec, device)
        return replace(prepare_image(volumes, spec.of_image, device), previous=previous)
    on_device = _try_device(volumes, spec, device) if device is not None else None
    if on_device is not None:
        require_channels(on_device.image, spec)
        return PreparedImage(on_device.image, on_device.grid, volumes[spec.reference].geometry)
    image, reference = prepare_volume(volumes, spec)
    return PreparedImage(image, reference.geometry, volumes[spec.reference].geometry)


def _prepare_pieces(volumes: Sequence[Volume], spec: ModelSpec, device: str | None) -> PreparedImage:
    """The image on TotalSegmentator's working grid, where it is prepared as for the model without these steps."""
    _require_images(len(volumes), spec)
    if spec.totalsegmentator is None:
        return prepare_image(volumes, spec, device)
    image, working = bring_to_working_grid(volumes[0], spec.totalsegmentator)
    inner = spec.model_copy(update={"totalsegmentator": None})
    pieces = tuple(prepare_image([piece], inner, device) for piece in split_image(image, spec.totalsegmentator))
    return replace(pieces[0], working=working, pieces=pieces)


def _prepare_parts(volumes: Sequence[Volume], spec: ModelSpec, device: str | None) -> PreparedImage:
    """The image for each part of a joined model, prepared once for all parts that do it alike."""
    images: dict[str, PreparedImage] = {}
    keys = [part.spec.model_dump_json(include={"nnunet", "orientation"}) for part in spec.parts]
    for key, part in zip(keys, spec.parts, strict=True):
        if key not in images:
            images[key] = _prepare_adopted(volumes, part.spec, device)
    return replace(images[keys[0]], parts=tuple(images[key] for key in keys))


def _prepare_adopted(volumes: Sequence[Volume], spec: ModelSpec, device: str | None) -> PreparedImage:
    """The image as the original tool prepares it: on the processor, then brought to the device where there is room."""
    _require_images(len(volumes), spec)
    whole = volumes[spec.reference].geometry
    if spec.monai:
        bundled = prepare_monai(volumes, spec)
        require_channels(bundled.image, spec)
        return PreparedImage(_upload(bundled.image, device), bundled.grid, whole, foreground=bundled.foreground)
    prepared = prepare_nnunet(volumes, spec)
    complete = PreparedImage(_upload(prepared.image, device), prepared.grid, prepared.cropped, prepared.place, whole)
    if spec.previous is None:
        return complete
    previous = _prepare_adopted(volumes, spec.previous.spec, device)
    return replace(complete, previous=previous, is_inside=prepared.is_inside)


def _upload(image: NDArray[np.float32], device: str | None) -> Values:
    """The image on a device, where one is asked for and has the memory."""
    if device is not None:
        try:
            return upload(image, device)
        except RuntimeError as error:
            if not release_gpu_memory(error):
                raise
    return image


def show_mask(
    prepared: PreparedImage, mask: NDArray[Any], spec: ModelSpec, grid: Geometry | None = None
) -> PreparedImage:
    """Put the mask of a cascade's first stage beside the image.

    Args:
        prepared: of a cascade.
        mask: label values (i, j, k) on the image's own grid.
        spec: of the model.
        grid: where the mask's voxels lie; None: on the image's own grid.
    """
    if spec.previous is None:
        return prepared
    if prepared.place is not None:
        labels, spacings = prepared.place.extract(mask), list_spacings(spec, prepared.native)
        channels = make_mask_channels(labels, prepared.is_inside, prepared.image.shape[1:], spacings, spec.previous)
    else:
        labels = resample_labels(Volume(mask, grid or prepared.native), prepared.grid).array
        channels = np.stack([labels == value for value in spec.previous.values]).astype(np.float32)
    if isinstance(prepared.image, np.ndarray):
        image: Values = np.concatenate([prepared.image, channels])
    else:
        import torch

        image = torch.cat([prepared.image, upload(channels, str(prepared.image.device))])
    return replace(prepared, image=image, previous=None, is_inside=None)


def _require_images(count: int, spec: ModelSpec) -> None:
    """Refuse a case of another number of images than the model takes, before they are prepared."""
    if spec.channels:
        require_named_channels(count, spec)
    elif count != spec.image_count:
        raise DataError(f"the network takes {spec.image_count} channel(s), the image has {count}")


def _try_device(volumes: Sequence[Volume], spec: ModelSpec, device: str) -> DeviceImage | None:
    """The image on a device; None where there is too little memory: its windows then go there one by one."""
    if spec.channels:
        require_named_channels(len(volumes), spec)
    try:
        return prepare_on_device(volumes, spec, device)
    except RuntimeError as error:
        if not release_gpu_memory(error):
            raise
    say("the GPU has too little free memory for an image: it is prepared on the processor")
    return None


def prepare_volume(volumes: Sequence[Volume], spec: ModelSpec) -> tuple[NDArray[np.float32], Volume]:
    """The network's input (channel, i, j, k), and the volume that gives the grid on the network's grid.

    Raises:
        DataError: values that are no numbers, or the wrong number of channels.
    """
    if spec.totalsegmentator:
        volumes = [bring_to_working_grid(volume, spec.totalsegmentator)[0] for volume in volumes]
    if spec.nnunet:
        adopted = prepare_nnunet(volumes, spec)
        return adopted.image, Volume(adopted.image[spec.reference], adopted.grid)
    if spec.monai:
        bundled = prepare_monai(volumes, spec)
        return bundled.image, Volume(bundled.image[spec.reference], bundled.grid)
    for volume in volumes:
        require_finite(volume.array)
    if spec.channels:
        require_named_channels(len(volumes), spec)
    reference = resample_to_network(volumes[spec.reference], spec)
    if len(volumes) == 1:
        return _run_preprocessing(reference.array[None], spec), reference
    # Whatever grid the other channels came on: voxels of all channels must lie in one place.
    image = np.stack(
        [
            reference.array
            if number == spec.reference
            else resample_to_network(channel, spec, reference.geometry).array
            for number, channel in enumerate(volumes)
        ]
    )
    return _run_preprocessing(image, spec), reference


def require_named_channels(count: int, spec: ModelSpec) -> None:
    """Refuse a case of another number of images than the model has names for.

    Raises:
        DataError: the numbers differ.
    """
    if count != len(spec.channels):
        raise DataError(
            f"the model takes {len(spec.channels)} channels, {', '.join(spec.channels)}; the case has {count}"
        )


def require_channels(image: Values, spec: ModelSpec) -> None:
    """Refuse an input (channel, ...) of another number of channels than the network takes.

    Raises:
        DataError: the numbers differ.
    """
    if len(image) != spec.in_channels:
        raise DataError(f"the network takes {spec.in_channels} channel(s), the image has {len(image)}")


def prepare_radiograph(images: Sequence[NDArray[Any]], spec: ModelSpec) -> NDArray[np.float32]:
    """Prepare a radiograph for a network.

    Args:
        images: one array (rows, columns) a channel, in the network's order, values as stored.
        spec: the size that the network takes, and its preprocessing.

    Returns:
        The network's input (channel, rows, columns), float32.

    Raises:
        DataError: the wrong number of channels.
    """
    resized = [image if spec.size is None else resize_radiograph(image, spec.size) for image in images]
    return _run_preprocessing(np.stack(resized), spec)


def _run_preprocessing(image: NDArray[Any], spec: ModelSpec) -> NDArray[np.float32]:
    from voxflow.components import build_transform

    sample: dict[str, Any] = {"image": image.astype(np.float32)}
    for transform in spec.preprocess:
        sample = build_transform(transform)(sample)
    prepared = np.ascontiguousarray(sample["image"], dtype=np.float32)
    require_channels(prepared, spec)
    return prepared
