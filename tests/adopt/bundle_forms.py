"""Inference configurations in the forms of MONAI's model zoo, each with its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.adopt.bundles import (
    CT_RANGE,
    DEVICE,
    SEGRESNET,
    UNET,
    activate,
    choose,
    configure,
    describe,
    invert,
    load,
    part,
    save,
    to_grid,
)

if TYPE_CHECKING:
    from tests.adopt.bundles import Config

SOFTMAX_BACK = [activate(softmax=True), invert(), choose(argmax=True), save()]
BRATS_LABELS = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"
MANY = ["background", *(f"organ {number}" for number in range(1, 105))]


def spleen() -> tuple[Config, Config]:
    """spleen_ct_segmentation."""
    steps = [*load(), *to_grid([1.5, 1.5, 2.0]), CT_RANGE, part("EnsureTyped")]
    output = save(output_ext=".nii.gz", output_dtype="$numpy.float32", output_postfix="trans", separate_folder=True)
    return configure(UNET, steps, [*SOFTMAX_BACK[:3], output]), describe(["background", "spleen"])


def brats() -> tuple[Config, Config]:
    """brats_mri_segmentation: four channels, three regions that lie in each other."""
    network = SEGRESNET | {"in_channels": 4, "blocks_down": [1, 2, 2], "blocks_up": [1, 1]}
    steps = [part("LoadImaged"), part("NormalizeIntensityd", nonzero=True, channel_wise=True)]
    answer = [
        activate(sigmoid=True),
        invert(meta_keys="pred_meta_dict"),
        choose(threshold=0.5),
        part("Lambdad", "pred", func=BRATS_LABELS),
        save(output_dtype="uint8", resample=False, squeeze_end_dims=True),
    ]
    config = configure(
        network,
        steps,
        answer,
        dataset={"_target_": "Dataset", "transform": "@preprocessing", "data": "$[{'image': @datalist}]"},
    )
    loader = config.pop("checkpointloader") | {"load_path": "$@bundle_root + '/models/model.pt'"}
    config["handlers"] = [loader, *config["handlers"]]
    del config["initialize"]
    regions = ["Tumor core", "Whole tumor", "Enhancing tumor"]
    return config, describe(regions, ["T1c", "T1", "T2", "FLAIR"], "MR")


def prostate() -> tuple[Config, Config]:
    """prostate_mri_anatomy: the class is chosen, and cleaned, before the way back."""
    network = UNET | {"out_channels": 3, "act": "prelu", "dropout": 0.15}
    steps = [
        *load(),
        *to_grid([1.6, 1.6, 1.7]),
        part("ScaleIntensityd", minv=0, maxv=1),
        part("NormalizeIntensityd"),
        part("EnsureTyped"),
    ]
    largest = part("KeepLargestConnectedComponentd", "pred", applied_labels=[1, 2])
    answer = [choose(argmax=True), largest, invert(nearest=True), save(resample=False)]
    return configure(network, steps, answer), describe(["background", "central gland", "peripheral zone"], None, "MR")


def pancreas() -> tuple[Config, Config]:
    """pancreas_ct_dints_segmentation's steps, in YAML, with a network that takes no searched architecture."""
    network = SEGRESNET | {"in_channels": "@input_channels", "out_channels": "@output_classes"}
    steps = [*load(), *to_grid([2, 2, 2]), CT_RANGE | {"a_min": -87, "a_max": 199}, part("EnsureTyped")]
    config = configure(network, steps, SOFTMAX_BACK, inferer={"overlap": 0.625}, input_channels=1, output_classes=3)
    return config, describe(["background", "pancreas", "tumour"])


def whole_body() -> tuple[Config, Config]:
    """wholeBody_ct_segmentation: 105 classes, expressions, replicated borders, labels by the nearest voxel."""
    key = "@image_key"
    steps = [
        part("LoadImaged", key),
        part("EnsureTyped", key),
        part("EnsureChannelFirstd", key),
        part("Orientationd", key, axcodes="RAS"),
        part("Spacingd", key, pixdim="@pixdim", mode="bilinear"),
        part("NormalizeIntensityd", key, nonzero=True),
        part("ScaleIntensityd", key, minv=-1.0, maxv=1.0),
    ]
    answer = [activate(softmax=True), choose(argmax=True), invert(nearest=True), save()]
    answer[2]["orig_keys"] = key
    inferer = {
        "roi_size": [16, 16, 24],
        "sw_batch_size": "@displayable_configs#sw_batch_size",
        "padding_mode": "replicate",
        "overlap": "@displayable_configs#sw_overlap",
        "mode": "gaussian",
        "device": DEVICE,
    }
    return configure(
        SEGRESNET | {"out_channels": 105},
        steps,
        answer,
        inferer=inferer,
        displayable_configs={"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
        image_key="image",
        pixdim="$[1.7, 1.7, 1.7] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
        modelname="$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
        checkpointloader={
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/' + @modelname",
            "load_dict": {"model": "@network"},
        },
    ), describe(MANY)


def swin_unetr() -> tuple[Config, Config]:
    """swin_unetr_btcv_segmentation."""
    network = {
        "_target_": "SwinUNETR",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 14,
        "feature_size": 12,
        "use_checkpoint": False,
    }
    steps = [
        *load(reader="NibabelReader"),
        *to_grid([1.5, 1.5, 2.0]),
        CT_RANGE | {"a_min": -175, "a_max": 250},
        part("EnsureTyped"),
    ]
    config = configure(network, steps, SOFTMAX_BACK, inferer={"roi_size": [64, 32, 32]})
    return config, describe(["background", *(f"organ {n}" for n in range(1, 14))])


def pediatric() -> tuple[Config, Config]:
    """pediatric_abdominal_ct_segmentation: DynUNet, cropped to the foreground."""
    network = {
        "_target_": "monai.networks.nets.DynUNet",
        "spatial_dims": "$len(@spatial_size)",
        "in_channels": 1,
        "out_channels": 4,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, [2, 2, 1]],
        "filters": [4, 8, 16],
        "upsample_kernel_size": [2, [2, 2, 1]],
        "norm_name": "instance",
        "deep_supervision": False,
        "res_block": True,
    }
    keys = ["image"]
    steps = [
        *load(reader="ITKReader")[:1],
        part("EnsureChannelFirstd"),
        part("Orientationd", axcodes="RAS"),
        part("Spacingd", keys, pixdim=[1.5, 1.5, 3.0], mode=["bilinear"]),
        CT_RANGE | {"a_min": -250, "a_max": 400},
        part("CropForegroundd", keys, source_key="image", mode=["minimum"]),
        part("EnsureTyped"),
        part("CastToTyped", keys, dtype="$torch.float32"),
    ]
    steps[0].pop("reader")  # ITK's package is not among the tests'
    config = configure(network, steps, SOFTMAX_BACK, inferer={"overlap": 0.75}, spatial_size=[16, 16, 16])
    return config, describe(["background", "liver", "spleen", "pancreas"])


def template() -> tuple[Config, Config | None]:
    """segmentation_template: whole images, a list of transforms by reference, keys by MONAI's constants."""
    image, pred = "@image", "@pred"
    answer = [
        part("Activationsd", pred, softmax=True),
        part("AsDiscreted", pred, argmax=True),
        part(
            "SaveImaged",
            pred,
            output_dir="@output_dir",
            dtype="$None",
            output_dtype="$None",
            output_postfix="",
            resample=False,
            separate_folder=True,
        ),
    ]
    config = configure(UNET | {"out_channels": "@num_classes"}, [], answer)
    loader = {
        "_target_": "CheckpointLoader",
        "_disabled_": "$not os.path.exists(@ckpt_path)",
        "load_path": "@ckpt_path",
        "load_dict": {"model": "@network"},
    }
    del config["checkpointloader"], config["initialize"]
    return config | {
        "image": "$monai.utils.CommonKeys.IMAGE",
        "pred": "$monai.utils.CommonKeys.PRED",
        "num_classes": 4,
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "transforms": [
            part("LoadImaged", image, image_only=True),
            part("EnsureChannelFirstd", image),
            part("ScaleIntensityd", image),
        ],
        "preprocessing": {"_target_": "Compose", "transforms": "$@transforms"},
        "dataset": {"_target_": "Dataset", "data": "$[{@image: i} for i in @datalist]", "transform": "@preprocessing"},
        "inferer": {"_target_": "SimpleInferer"},
        "handlers": [loader],
    }, None


def vessels() -> tuple[Config, Config]:
    """Logits brought back, intensities before the grid, the largest components on the image's own grid, LPS."""
    network = {
        "_target_": "AttentionUnet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [4, 8],
        "strides": [2],
    }
    steps = [
        *load(),
        part("ScaleIntensityRangePercentilesd", lower=2, upper=98, b_min=0, b_max=1, clip=True),
        *to_grid([1.9, 1.9, 1.9], "LPS", align_corners=True),
    ]
    answer = [
        invert(),
        activate(softmax=True),
        choose(argmax=True),
        part("KeepLargestConnectedComponentd", "pred"),
        save(),
    ]
    config = configure(network, steps, answer, inferer={"mode": "gaussian", "overlap": 0.3})
    return config, describe(["background", "artery", "vein"])


def renal() -> tuple[Config, Config]:
    """renalStructures_CECT's three phases, put together by MONAI's own transform, with labels brought back."""
    keys = ["artery", "vein", "excret"]
    steps = [
        part("LoadImaged", keys),
        part("EnsureChannelFirstd", keys),
        part("Orientationd", keys, axcodes="LPS"),
        part("Spacingd", keys, pixdim=[1.8, 1.8, 2.2], mode=["bilinear", "bilinear", "bilinear"]),
        part("ConcatItemsd", keys, name="image", dim=0),
        CT_RANGE | {"a_min": -100, "a_max": 1000},
        part("EnsureTyped"),
    ]
    answer = [
        activate(softmax=True),
        part("AsDiscreted", ["pred"], argmax=[True]),
        invert(nearest=True) | {"orig_keys": "artery"},
        save(output_dtype="$np.uint8"),
    ]
    phases = "$[dict(zip(['artery', 'vein', 'excret'], @datalist))]"
    dataset = {"_target_": "Dataset", "data": phases, "transform": "@preprocessing"}
    network = SEGRESNET | {"in_channels": 3, "out_channels": 4, "upsample_mode": "deconv"}
    return configure(network, steps, answer, dataset=dataset), describe(
        ["background", "vein", "artery", "kidney"], keys
    )


def organs() -> tuple[Config, Config]:
    """multi_organ_segmentation's steps; cropped, cleaned there, and the labels brought back."""
    steps = [*load(), *to_grid([2, 2, 2]), CT_RANGE | {"a_min": -100}, part("CropForegroundd", source_key="image")]
    largest = part("KeepLargestConnectedComponentd", "pred", applied_labels=[2, 7])
    answer = [part("Activationsd", ["pred"], softmax=True), choose(argmax=True), largest, invert(nearest=True), save()]
    names = ["background", *(f"organ {number}" for number in range(1, 8))]
    return configure(SEGRESNET | {"out_channels": 8}, steps, answer), describe(names)


def unetr() -> tuple[Config, Config]:
    """A vision transformer with one channel, a sigmoid and a threshold."""
    network = {
        "_target_": "UNETR",
        "in_channels": 1,
        "out_channels": 1,
        "img_size": [16, 16, 16],
        "feature_size": 4,
        "hidden_size": 24,
        "mlp_dim": 32,
        "num_heads": 2,
        "res_block": True,
        "norm_name": "instance",
    }
    steps = [*load(), *to_grid([1.4, 1.4, 1.9]), CT_RANGE, part("EnsureTyped")]
    return configure(network, steps, [activate(sigmoid=True), invert(), choose(threshold=0.5), save()]), describe(
        ["lesion"]
    )


def resized() -> tuple[Config, Config]:
    """Whole images at a fixed size, averaged over an area, as of networks that see the whole body at once."""
    steps = [*load(), *to_grid([1.5, 1.5, 2.0]), CT_RANGE, part("Resized", spatial_size=[24, 32, 16])]
    steps.append(part("EnsureTyped"))
    config = configure(SEGRESNET, steps, SOFTMAX_BACK, inferer={"overlap": 0.25})
    return config | {"inferer": {"_target_": "SimpleInferer"}}, describe(["background", "heart", "aorta"])


def resized_sideways() -> tuple[Config, Config]:
    """Cropped, resized linearly and padded, with values changed in between; labels are cleaned and brought back."""
    steps = [
        *load(),
        part("Orientationd", axcodes="LPS"),
        CT_RANGE | {"a_min": -100},
        part("CropForegroundd", source_key="image"),
        part("NormalizeIntensityd"),
        part("Resized", ["image"], spatial_size=[30, -1, 21], mode=["trilinear"], align_corners=[True]),
        part("ScaleIntensityd"),
        part("SpatialPadd", spatial_size=[33, 40, 24], method="end", mode="edge"),
    ]
    answer = [
        activate(softmax=True),
        choose(argmax=True),
        part("FillHolesd", "pred", applied_labels=[1, 2], connectivity=1),
        part("KeepLargestConnectedComponentd", "pred", applied_labels=[1]),
        invert(nearest=True),
        part("RemoveSmallObjectsd", "pred", min_size=2600, by_measure=True),
        save(),
    ]
    return configure(UNET | {"out_channels": 3}, steps, answer), describe(["background", "uterus", "bladder"])


def longest() -> tuple[Config, Config]:
    """The longest axis at a size, smoothed first; a lesion's probabilities are brought back, by a sigmoid."""
    steps = [
        *load(),
        part("Orientationd", axcodes="RAS"),
        part("Resized", spatial_size=24, size_mode="longest", mode="bilinear", anti_aliasing=True),
        CT_RANGE,
        part("SpatialPadd", spatial_size=[24, 28, 30], mode="constant", value=0.25),
    ]
    answer = [activate(sigmoid=True), invert(), choose(threshold=0.5), save()]
    return configure(UNET | {"out_channels": 1}, steps, answer), describe(["lesion"])


def padded() -> tuple[Config, Config]:
    """Padded to the window and cleaned behind the way back: holes, then what is small, by components of one label."""
    steps = [*load(), *to_grid([1.5, 1.5, 2.0]), CT_RANGE, part("SpatialPadd", spatial_size=36, mode="minimum")]
    answer = [
        *SOFTMAX_BACK[:3],
        part("FillHolesd", "pred"),
        part("RemoveSmallObjectsd", "pred", min_size=40, connectivity=2),
        save(),
    ]
    return configure(UNET, steps, answer), describe(["background", "spleen"])


def cleaned() -> tuple[Config, Config]:
    """Small objects of all labels together, and no way back to go."""
    answer = [
        activate(softmax=True),
        choose(argmax=True),
        part("RemoveSmallObjectsd", "pred", min_size=60, independent_channels=False),
        save(),
    ]
    steps = [*load(), CT_RANGE, part("EnsureTyped")]
    return configure(SEGRESNET | {"out_channels": 4}, steps, answer), describe(["background", "a", "b", "c"])


ALL = (spleen, brats, prostate, pancreas, whole_body, swin_unetr, pediatric, template, vessels, renal, organs, unetr)
FORMS = {form.__name__: form for form in ALL}
# Those that bring images to another size, or clean their masks in more ways.
SIZED = {form.__name__: form for form in (resized, resized_sideways, longest, padded, cleaned)}
