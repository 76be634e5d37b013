"""Predicts one volume: runs windows over it as it was prepared, and returns the mask on the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from voxflow.errors import DataError
from voxflow.machine import release_gpu_memory
from voxflow.prediction.agreement import AgreementMeter, choose_signal, join_agreements, take_least_agreement
from voxflow.prediction.cleaning import CleaningOptions, clean_mask
from voxflow.prediction.ensemble import Ensemble, iterate_logits
from voxflow.prediction.grids import find_nearest, resample_labels
from voxflow.prediction.joined import count_other_bytes, make_joined_mask, name_values, write_over
from voxflow.prediction.labels import class_values, label_type, logits_to_labels
from voxflow.prediction.mirroring import Axis
from voxflow.prediction.monai import restore_cropped, restore_labels
from voxflow.prediction.monai_cleaning import clean_as_monai
from voxflow.prediction.native_grid import NativeGridRestorer
from voxflow.prediction.planning import count_mask_bytes, plan_image
from voxflow.prediction.preparation import choose_device, prepare_image, require_channels, show_mask
from voxflow.prediction.splines import pick_labels_by_splines, takes_splines
from voxflow.prediction.tensors import download_mask, is_tensor, mask_type, pick_labels, take_nearest
from voxflow.prediction.totalsegmentator import clean_on_working_grid, join_pieces
from voxflow.prediction.windows import Blend, Plan
from voxflow.progress import say
from voxflow.volumes import Volume, require_finite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.prediction.agreement import Agreement
    from voxflow.prediction.blending import Values
    from voxflow.prediction.preparation import PreparedImage
    from voxflow.prediction.windows import WindowPlan
    from voxflow.spec import ModelSpec


SwapHandling = Literal["refuse", "warn"]
# Of the memory that is free on a GPU, what is tried one after the other; windows of the training's size are the least.
SHARES = (1.0, 0.5, 0.1)


class PredictOptions(BaseModel):
    """How a volume passes through the network.

    Attributes:
        plan: "whole" passes the volume in one window, "windows" in windows of the training patch. "auto" takes the
            whole volume when it fits ``memory_mb`` and the network is local; with instance norm the window's size
            changes every answer (mean Dice 0.003 to 0.12 lower on whole volumes, measured), so that windows are
            taken. A local network's windows are as large as memory allows.
        memory_mb: bound on what one volume takes from the moment it is prepared: the image on the network's grid,
            activations, logits and their sums, both masks. Windows of the training's size are the least.
        gpu_memory_mb: the same on a GPU; None: nine tenths of what is free there.
        bytes_per_voxel: what they need for one voxel of input: about 130 measured for a U-Net with 16 features
            at full resolution, and in proportion with more.
        flips: axes of the network's grid along which the image is also shown mirrored; logits are averaged over
            every combination, so that three axes take eight times as long. "auto": those that the model file names,
            which an adopted nnU-Net takes unless flips are set.
        blend: overlapping windows count most at their centre ("gaussian") or alike ("constant").
        skip_empty: a window that holds one value only, as air does that the intensity window cut off, is taken for
            background unseen. Right for networks that have learnt it as such; no whole volume is ever skipped.
        batch: windows that pass through the network at a time, if ``memory_mb`` allows; None: what the
            engine is fastest with: one for OpenVINO and ONNX Runtime, two for torch on a processor, four on a GPU; what
            its file allows for TensorRT, which takes no more.
        back: "probabilities" returns each class's probabilities linearly to the image's grid and takes the strongest
            there; "logits" the same with the network's logits, as an adopted nnU-Net always does; "labels" takes it on
            the network's grid and returns it by nearest neighbour, which leaves steps.
        clean: what is done to the mask on the image's own grid.
        swapped_channels: what becomes of a case whose channels look swapped, by what those of the training were like:
            "refuse" it with the reason, or "warn", go on, and note it in the table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: Plan = "auto"
    memory_mb: PositiveInt = 4096
    gpu_memory_mb: PositiveInt | None = None
    bytes_per_voxel: PositiveInt = 384
    blend: Blend = "gaussian"
    skip_empty: bool = False
    batch: PositiveInt | None = None
    back: Literal["labels", "probabilities", "logits"] = "probabilities"
    flips: tuple[Axis, ...] | Literal["auto"] = ()
    clean: CleaningOptions = CleaningOptions()
    swapped_channels: SwapHandling = "refuse"

    def list_flips(self, spec: ModelSpec) -> tuple[Axis, ...]:
        """The axes along which a model is shown mirror images; of a joined model those of any part."""
        if spec.parts:
            return tuple(sorted({axis for part in spec.parts for axis in self.list_flips(part.spec)}))
        is_automatic = self.flips == "auto" or (spec.nnunet is not None and "flips" not in self.model_fields_set)
        return spec.mirrored if is_automatic or self.flips == "auto" else self.flips

    def choose_back(self, spec: ModelSpec) -> Literal["labels", "probabilities", "logits"]:
        """What is brought back of a model: of an adopted bundle its own where nothing else is set."""
        return spec.monai.back if spec.monai and "back" not in self.model_fields_set else self.back

    def choose_blend(self, spec: ModelSpec) -> Blend:
        """How windows are weighted for a model: of an adopted bundle its own where nothing else is set."""
        return spec.monai.blend if spec.monai and "blend" not in self.model_fields_set else self.blend

    @property
    def measures_agreement(self) -> bool:
        """Whether it is measured how far the model's answers agree; options of a later stage may ask for it."""
        return False


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one volume.

    Attributes:
        mask: label values on the grid of the image that came in.
        windows: how many windows it took.
        agreement: how far the model's answers agree; None where nobody asked.
    """

    mask: Volume
    windows: int
    agreement: Agreement | None = None


def predict_volume(
    engine: Engine, volume: Volume | Sequence[Volume], options: PredictOptions | None = None
) -> Prediction:
    """Segment a volume, whatever its spacing and orientation.

    Args:
        engine: a segmentation model.
        volume: the image; several for a network of several channels, in the network's order.
        options: window plan and way back.

    Returns:
        Label values 0, 1, ... in the order of ``engine.spec.class_names``, on the grid of the first volume, or of the
        channel ``engine.spec.onto``.

    Raises:
        DataError: the wrong number of channels, or a model that does not segment.
    """
    volumes = (volume,) if isinstance(volume, Volume) else tuple(volume)
    prepared = prepare_image(volumes, engine.spec, choose_device(engine))
    return predict_prepared(engine, prepared, options or PredictOptions())


def predict_prepared(engine: Engine, prepared: PreparedImage, options: PredictOptions) -> Prediction:
    """Run the network over what :func:`prepare_image` made, and bring its answer back.

    Where a GPU's memory is not enough after all, it is done again with smaller windows, and then on the processor.

    Raises:
        DataError: the options name a class that the model does not have.
    """
    if prepared.working is not None:
        return _predict_pieces(engine, prepared, options)
    if engine.spec.parts:
        return _predict_parts(engine, prepared, options)
    if prepared.previous is not None:
        prediction = predict_prepared(engine, show_previous(engine, prepared, options), options)
        engine.release_memory()
        return prediction
    if all(member.device in (None, "cpu") for member in engine.members) and not is_tensor(prepared.image):
        return _predict(engine, prepared, options)
    for share in SHARES:
        try:
            return _predict(engine, prepared, options, share)
        except RuntimeError as error:
            if not release_gpu_memory(error):
                raise
            following = "on the processor" if share == SHARES[-1] else "with smaller windows"
        say(f"the GPU has too little free memory for an image: trying again {following}")
    array = prepared.image.cpu().numpy() if is_tensor(prepared.image) else prepared.image
    return _predict(engine.on_processor(), replace(prepared, image=array), options)


def _predict_pieces(engine: Engine, prepared: PreparedImage, options: PredictOptions) -> Prediction:
    """Predict on TotalSegmentator's working grid, clean the mask there as it does, and bring it back."""
    working, steps, classes = prepared.working, engine.spec.totalsegmentator, class_values(engine.spec)
    if working is None or steps is None:
        raise DataError("the image was prepared for another model")
    _check_clean(options, classes)
    inner = options.model_copy(update={"clean": CleaningOptions()})
    predictions = [predict_prepared(engine, piece, inner) for piece in prepared.pieces]
    labels = join_pieces([prediction.mask.array for prediction in predictions])
    clean_on_working_grid(labels, working.grid.spacing, steps)
    mask = Volume(working.restore(labels), working.native)
    clean_mask(mask, classes, options.clean)
    agreements = [prediction.agreement for prediction in predictions if prediction.agreement is not None]
    windows = sum(prediction.windows for prediction in predictions)
    return Prediction(mask, windows, take_least_agreement(agreements) if agreements else None)


def _predict_parts(engine: Engine, prepared: PreparedImage, options: PredictOptions) -> Prediction:
    """Run the parts of a joined model one after the other, each within the memory that the others' images leave."""
    spec, classes = engine.spec, class_values(engine.spec)
    _check_clean(options, classes)
    if not engine.parts:
        raise DataError(f"the model joins {len(spec.parts)} networks, of which {engine.name} was given one")
    labels, windows, agreements = make_joined_mask(prepared, spec), 0, []
    for part, member, image in zip(spec.parts, engine.parts, prepared.parts, strict=True):
        held = (labels.nbytes + count_other_bytes(image, prepared.parts)) // 2**20
        update = {"clean": CleaningOptions(), "memory_mb": max(1, options.memory_mb - held)}
        prediction = predict_prepared(member, image, options.model_copy(update=update))
        member.release_memory()
        write_over(labels, prediction.mask.array, part)
        windows += prediction.windows
        if prediction.agreement is not None:
            agreements.append((prediction.agreement, name_values(part, spec)))
    mask = Volume(labels, prepared.whole or prepared.native)
    clean_mask(mask, classes, options.clean)
    return Prediction(mask, windows, join_agreements(agreements) if agreements else None)


def _check_clean(options: PredictOptions, classes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a class that there is not, before the network runs: a name that was mistyped must not cost minutes."""
    unknown = options.clean.find_unknown(classes)
    if unknown:
        raise DataError(f"clean: no class {', '.join(unknown)}; the model has {', '.join(classes)}")


def show_previous(engine: Engine, prepared: PreparedImage, options: PredictOptions) -> PreparedImage:
    """Run a cascade's first stage, and put its mask beside the image, as nnU-Net does: neither cleaned nor measured.

    Args:
        engine: a cascade.
        prepared: by :func:`prepare_image`; where it is of no cascade, or has the mask, it is given back.
        options: as those of the second stage.

    Raises:
        DataError: the engine can't run the first stage.
    """
    if prepared.previous is None:
        return prepared
    if not engine.previous:
        raise DataError(f"the model is a cascade, and {engine.name} was not given its first stage")
    names = options.model_fields_set & PredictOptions.model_fields.keys() - {"clean", "back"}
    plain = PredictOptions.model_validate({name: getattr(options, name) for name in names})
    first = engine.previous[0] if len(engine.previous) == 1 else Ensemble(engine.previous)
    mask = predict_prepared(first, prepared.previous, plain).mask
    first.release_memory()
    return show_mask(prepared, mask.array, engine.spec, mask.geometry)


def _predict(engine: Engine, prepared: PreparedImage, options: PredictOptions, share: float = 1.0) -> Prediction:
    """Predict within a share of the memory that the options allow."""
    spec, classes = engine.spec, class_values(engine.spec)
    _check_clean(options, classes)
    restoring_bytes = count_mask_bytes(
        prepared.grid, prepared.native, spec, options, on_tensors=is_tensor(prepared.image)
    )
    plan = plan_image(prepared.image, engine, options, extra_bytes=restoring_bytes, share=share)
    segment = _segment_by_splines if takes_splines(spec) else _segment_by_scores
    if options.choose_back(spec) == "labels":
        segment = _segment_by_labels
    if prepared.foreground is not None:
        segment = _segment_cropped
    signal = choose_signal(engine, options.list_flips(spec))
    meter = AgreementMeter(spec, signal) if options.measures_agreement else None
    labels = segment(engine, prepared, plan, options, meter)
    if prepared.place is not None:
        labels = prepared.place.insert(labels)
    mask = Volume(labels, prepared.whole or prepared.native)
    clean_as_monai(mask, spec, is_before=False)
    clean_mask(mask, classes, options.clean)
    return Prediction(mask, plan.count, meter.measure() if meter else None)


def _segment_by_labels(
    engine: Engine, prepared: PreparedImage, plan: WindowPlan, options: PredictOptions, meter: AgreementMeter | None
) -> NDArray[Any]:
    """The strongest class on the network's grid, brought back by nearest neighbour."""
    spec, image = engine.spec, prepared.image
    labels = _make_mask(image, image.shape[1:], spec)
    for box, logits in iterate_logits(engine, image, plan, options.list_flips(spec), meter=meter):
        labels[box] = pick_labels(logits, spec) if is_tensor(logits) else logits_to_labels(logits, spec)
        del logits  # the next block's sums take the memory of these
    if spec.monai:
        return restore_labels(download_mask(labels, spec) if is_tensor(labels) else labels, prepared.grid,
                              prepared.native, spec)  # fmt: skip
    if is_tensor(labels):
        order, nearest = find_nearest(prepared.grid, prepared.native)
        return download_mask(take_nearest(labels, nearest, order), spec)
    return resample_labels(Volume(labels, prepared.grid), prepared.native).array


def _make_mask(image: Values, size: Sequence[int], spec: ModelSpec) -> Values:
    """An empty mask beside an image, on the same device."""
    if is_tensor(image):
        return image.new_empty(tuple(size), dtype=mask_type(spec))
    return np.empty(tuple(size), dtype=label_type(spec))


def _segment_by_scores(
    engine: Engine, prepared: PreparedImage, plan: WindowPlan, options: PredictOptions, meter: AgreementMeter | None
) -> NDArray[Any]:
    """The strongest class of the probabilities, or logits, that are brought back linearly, a few planes at a time."""
    on_tensors, flips = is_tensor(prepared.image), options.list_flips(engine.spec)
    restorer = NativeGridRestorer(
        prepared.grid,
        prepared.native,
        engine.spec,
        plan.along,
        plan.across,
        on_tensors=on_tensors,
        of_logits=options.choose_back(engine.spec) == "logits",
    )
    if restorer.is_exact:
        return _segment_by_labels(engine, prepared, plan, options, meter)
    mask = _make_mask(prepared.image, prepared.native.size, engine.spec)
    for block in plan.block_slices():
        needed, block_restorer = restorer.block(block)
        for box, logits in iterate_logits(engine, prepared.image, plan, flips, block=needed, meter=meter):
            for target, labels in block_restorer.labels(box[plan.along], logits):
                mask[target] = labels
            del logits  # the next block's sums take the memory of these
    return download_mask(mask, engine.spec) if on_tensors else mask


def _segment_cropped(
    engine: Engine, prepared: PreparedImage, plan: WindowPlan, options: PredictOptions, meter: AgreementMeter | None
) -> NDArray[Any]:
    """The answer for an image that was cropped, resized or padded; its logits are held whole."""
    logits = _collect_logits(engine, prepared.image, plan, options, meter)
    return restore_cropped(logits, prepared, engine.spec, options.choose_back(engine.spec))


def _segment_by_splines(
    engine: Engine, prepared: PreparedImage, plan: WindowPlan, options: PredictOptions, meter: AgreementMeter | None
) -> NDArray[Any]:
    """The strongest class of the logits that are brought back by splines, once all of them are there."""
    logits = _collect_logits(engine, prepared.image, plan, options, meter)
    return pick_labels_by_splines(logits, prepared.native, engine.spec)


def _collect_logits(
    engine: Engine, image: Values, plan: WindowPlan, options: PredictOptions, meter: AgreementMeter | None = None
) -> NDArray[np.float32]:
    """All logits (class, i, j, k) of an image."""
    logits = np.empty((engine.spec.out_channels, *image.shape[1:]), dtype=np.float32)
    for box, part in iterate_logits(engine, image, plan, options.list_flips(engine.spec), meter=meter):
        logits[:, *box] = part.float().cpu().numpy() if is_tensor(part) else part
        del part  # the next block's sums take the memory of these
    return logits


def predict_logits(
    engine: Engine, image: NDArray[np.float32], options: PredictOptions, *, spec: ModelSpec | None = None
) -> NDArray[np.float32]:
    """Run a model over a volume that is prepared already, and return its whole answer.

    Windows are planned, blended and bounded in memory as for :func:`predict_volume`; the answer, which is returned
    whole, is not counted.

    Args:
        engine: a segmentation model.
        image: (channel, i, j, k), as the network takes it.
        options: plan, blending, batch, mirroring, memory.
        spec: what windows and overlap are read from; None: the model's own.

    Returns:
        Logits (class, i, j, k) on the image's own grid.

    Raises:
        DataError: values that are no numbers, or the wrong number of channels.
    """
    require_finite(image)
    require_channels(image, engine.spec)
    return _collect_logits(engine, image, plan_image(image, engine, options, spec=spec), options)
