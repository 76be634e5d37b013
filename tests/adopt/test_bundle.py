"""Adopted MONAI bundles against MONAI's own command."""

from __future__ import annotations

import copy
import json
import sys
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import torch

from tests.adopt import bundle_forms, bundles
from voxflow.adopt import BundleOriginal, Comparison, compare_adoption, read_bundle, write_adopted
from voxflow.cli.main import main
from voxflow.engines import TorchEngine, open_engine
from voxflow.errors import ConfigError, DataError
from voxflow.export import ExportOptions, export_model
from voxflow.inference import InferenceCase
from voxflow.prediction import PredictOptions, predict_prepared, predict_volume, prepare_image
from voxflow.training import load_model
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from tests.adopt.bundles import Config

NEED_EINOPS = ("swin_unetr", "unetr")
GRIDS: dict[str, dict[str, Any]] = {
    "sideways": {"size": (17, 34, 31), "spacing": (2.57, 0.91, 1.07), "direction": bundles.SIDEWAYS},
    "other_way": {"size": (27, 30, 15), "spacing": (1.21, 1.27, 3.37), "direction": bundles.OTHER_WAY},
}
# Whole images need sides that the network can halve; MONAI's writer does not save the bundle's label map sideways.
SIZES: dict[str, dict[str, Any]] = {
    "template": {"size": (32, 24, 20)},
    "brats": {"size": (20, 22, 17), "direction": bundles.OTHER_WAY},
}


pytestmark = pytest.mark.usefixtures("monai_components")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in NEED_EINOPS else ()) for name in bundle_forms.FORMS]
)
def test_masks_are_those_of_monai(name: str, tmp_path: Path) -> None:
    if name in NEED_EINOPS:
        pytest.importorskip("einops")
    config, metadata = bundle_forms.FORMS[name]()
    file = "inference.yaml" if name in ("pancreas", "template") else "inference.json"
    bundle = bundles.write_bundle(tmp_path / "bundle", config, metadata, name=file)
    model = read_bundle(bundle)
    write_adopted(model, tmp_path / "adopted.pt")
    network, spec = load_model(tmp_path / "adopted.pt")
    engine = TorchEngine.wrap(network, spec)
    seen: set[int] = set()
    for case, grid in GRIDS.items():
        images = tmp_path / "images" / case
        files = bundles.write_case(images, case, spec.in_channels, **(grid | SIZES.get(name, {})))
        (expected,) = bundles.run_original(bundle, images, tmp_path / "out" / case, file).values()
        mask = predict_volume(engine, [read_volume(path) for path in files]).mask.array
        assert (mask == expected).mean() >= 0.9999
        seen |= set(np.unique(expected).tolist())
    assert len(seen) > 1, "else the comparison says nothing"


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        # MONAI lays the grid around the middle where the axes are oblique by what single precision can't hold.
        ("pediatric", {"size": (20, 22, 16), "spacing": (1.3, 1.1, 2.4), "direction": bundles.OBLIQUE}),
        # Every fourth voxel lies midway between two of the network's.
        ("organs", {"size": (28, 24, 16), "spacing": (0.75, 0.75, 1.0), "direction": bundles.OTHER_WAY}),
        # As good as the spacing that is asked for, so that nothing is resampled; whole numbers.
        ("spleen", {"size": (20, 18, 17), "spacing": (1.5004, 1.5, 2.0)}),
    ],
)
def test_masks_are_those_of_monai_on_grids_of_their_own_kinds(name: str, grid: dict[str, Any], tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", *bundle_forms.FORMS[name]())
    model = read_bundle(bundle)
    (file,) = bundles.write_case(tmp_path / "images", "case", **grid)
    image = nibabel.load(file)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj).astype(np.int16), image.affine), file)
    (expected,) = bundles.run_original(bundle, tmp_path / "images", tmp_path / "out", "inference.json").values()
    volumes = [read_volume(file)]
    engine = TorchEngine.wrap(model.network, model.spec)
    mask = predict_volume(engine, volumes).mask.array
    assert len(np.unique(expected)) > 1
    assert (mask == expected).mean() >= 0.9999
    on_device = predict_prepared(engine, prepare_image(volumes, model.spec, "cpu"), PredictOptions()).mask.array
    np.testing.assert_array_equal(on_device, mask)


def read(config: Config, folder: Path, metadata: Config | None = None, **kwargs: Any) -> Any:
    return read_bundle(bundles.write_bundle(folder / "bundle", config, metadata, **kwargs))


def test_the_specification_is_that_of_the_configuration(tmp_path: Path) -> None:
    config, metadata = bundle_forms.spleen()
    spec = read(config, tmp_path, metadata).spec
    assert (spec.class_names, spec.modality, spec.window, spec.overlap) == (
        ("background", "spleen"),
        "CT",
        bundles.ROI,
        0.5,
    )
    assert (spec.spacing_mm, spec.orientation, spec.extent) == ((1.5, 1.5, 2.0), "RAS", "centres")
    assert spec.monai
    assert (spec.monai.back, spec.monai.blend) == ("probabilities", "constant")
    config, metadata = bundle_forms.brats()
    spec = read(config, tmp_path / "brats", metadata).spec
    assert spec.regions == ((1, 4), (2, 1, 4), (4,))
    assert spec.channels == ("T1c", "T1", "T2", "FLAIR")


def test_regions_are_known_by_the_names_of_brats(tmp_path: Path) -> None:
    config, metadata = bundle_forms.brats()
    transforms = config["postprocessing"]["transforms"]
    config["postprocessing"]["transforms"] = [item for item in transforms if item["_target_"] != "Lambdad"]
    model = read(config, tmp_path, metadata)
    assert model.spec.regions == ((1, 4), (1, 2, 4), (4,))
    assert "channel for each region" in model.notes[0]


def change(config: Config, place: str, value: Any) -> Config:
    """Set a value at an id, or append to a list where the id ends in +."""
    *parents, last = place.split("#")
    inner: Any = config
    for key in parents:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    if last == "+":
        inner.append(value)
    elif isinstance(inner, list):
        inner[int(last)] = value
    else:
        inner[last] = value
    return config


PRE, POST = "preprocessing#transforms", "postprocessing#transforms"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (f"{PRE}#+", bundles.part("RandFlipd"), rf"{PRE}#6: RandFlipd"),
        (f"{PRE}#+", bundles.part("Resized", spatial_size=32), rf"{PRE}#6: Resized: spatial_size 32 .*three sides"),
        (f"{PRE}#+", bundles.part("Resized", spatial_size=[8, 8, 0]), r"Resized: spatial_size"),
        (f"{PRE}#+", bundles.part("Resized", spatial_size=[8, 8, 8], mode="bicubic"), r"Resized: mode 'bicubic'"),
        (f"{PRE}#+", bundles.part("Resized", spatial_size=[8] * 3, align_corners=True), r"Resized: align_corners True"),
        (f"{PRE}#+", bundles.part("SpatialPadd", spatial_size=[32, 32]), r"SpatialPadd: spatial_size .*three sides"),
        (f"{PRE}#+", bundles.part("SpatialPadd", spatial_size=32, mode="wrap"), r"SpatialPadd: mode 'wrap'"),
        (f"{PRE}#+", bundles.part("SpatialPadd", spatial_size=32, value="a"), r"value 'a' .*needs a number"),
        (f"{PRE}#2", bundles.part("SpatialPadd", spatial_size=32), rf"{PRE}#3: Spacingd: .*once, before anything"),
        (f"{PRE}#+", bundles.part("scripts.mine.Clean"), r"scripts.mine.Clean"),
        (f"{PRE}#+", bundles.part("Lambdad", func="$lambda x: x + 1"), r"Lambdad"),
        (f"{PRE}#3#padding_mode", "zeros", rf"{PRE}#3: Spacingd: padding_mode 'zeros'"),
        (f"{PRE}#3#diagonal", True, r"Spacingd: diagonal True"),
        (f"{PRE}#3#pixdim", [1.5, 1.5, -1], r"Spacingd: pixdim"),
        (f"{PRE}#3#mode", 3, r"Spacingd: mode 3"),
        (f"{PRE}#3#max_pixdim", [2, 2, 2], r"Spacingd: max_pixdim"),
        (f"{PRE}#2#axcodes", "RAX", r"Orientationd: axcodes"),
        (f"{PRE}#4#a_min", "$__import__('os').getcwd()", rf"{PRE}#4#a_min: .*is code"),
        (f"{PRE}#4#gamma", 2, rf"{PRE}#4: .*gamma"),
        (f"{PRE}#0#reader", "mine.Reader", r"LoadImaged: reader"),
        ("inferer#roi_size", [16, 16], r"two dimensions"),
        ("inferer#roi_size", [16, 16, -1], r"inferer: SlidingWindowInferer: roi_size"),
        ("inferer#overlap", [0.5, 0.5, 0.25], r"overlap"),
        ("inferer#padding_mode", "reflect", r"padding_mode 'reflect'"),
        ("inferer#sigma_scale", 0.25, r"sigma_scale"),
        ("inferer", {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2}, r"SliceInferer"),
        (f"{POST}#1#post_func", "$lambda x: x", rf"{POST}#1"),
        (f"{POST}#2", bundles.choose(threshold=0.3), r"threshold|argmax"),
        (f"{POST}#2", bundles.part("FillHolesd", "pred"), r"FillHolesd: needs to stand behind AsDiscrete"),
        (f"{POST}#3", bundles.part("FillHolesd", "pred", applied_labels=[2]), r"label values from 1 to 1"),
        (f"{POST}#3", bundles.part("FillHolesd", "pred", connectivity=4), r"connectivity 4"),
        (f"{POST}#3", bundles.part("RemoveSmallObjectsd", "pred", min_size=-1), r"min_size -1"),
        (f"{POST}#3", bundles.part("RemoveSmallObjectsd", "pred", physical=True), r"physical True"),
        (f"{POST}#1", bundles.part("EnsureTyped", "pred"), r"no Invertd"),
        (f"{POST}#1#orig_keys", "label", r"the field 'label'"),
        (f"{POST}#1#nearest_interp", "no", r"nearest_interp 'no' can't be adopted: needs true or false"),
        (f"{POST}#1#transform", "@network_def", r"transform '@network_def' .*way back is that of preprocessing"),
        ("inferer", "SlidingWindowInferer", r"evaluator#inferer: needs a component"),
        ("handlers#+", {"_target_": "PostProcessing"}, r"PostProcessing among the handlers"),
        ("network_def#channels", {"a": 1}, r"network"),
        ("network_def#strides", [], r"network"),
        ("network_def#spatial_dims", 2, r"network_def#spatial_dims: UNet of 2 dimensions"),
        ("network_def#strids", [2, 2], r"takes no argument 'strids'"),
        ("network_def#_target_", "scripts.networks.unest.UNesT", r"scripts.networks.unest.UNesT: no network"),
        ("network_def#_target_", "os.system", r"os.system: no network"),
        ("evaluator#prepare_batch", "$scripts.prepare", r"evaluator#prepare_batch"),
        ("network", "$torch.jit.load('model.ts')", r"is code"),
        ("checkpointloader#load_path", "$open('x').name", r"checkpointloader#load_path: .*is code"),
        ("inferer#roi_size", "@nowhere", r"'@nowhere': no such id"),
        ("inferer#roi_size", "@inferer#roi_size", r"round in a circle"),
    ],
)
def test_what_can_not_be_adopted_is_named_in_its_place(place: str, value: Any, message: str, tmp_path: Path) -> None:
    config, metadata = bundle_forms.spleen()
    bundle = bundles.write_bundle(tmp_path / "bundle", config, metadata)
    (bundle / "configs/inference.json").write_text(json.dumps(change(config, place, value)))
    with pytest.raises((ConfigError, DataError), match=message) as error:
        read_bundle(bundle)
    assert "\n" not in str(error.value)
    assert "inference.json" in str(error.value)


DINTS = {
    "_target_": "monai.networks.nets.DiNTS",
    "dints_space": "@dints_space",
    "in_channels": 1,
    "num_classes": 3,
    "use_downsample": True,
    "node_a": "$@arch_ckpt['node_a']",
}
FLEXIBLE = {"_target_": "FlexibleUNet", "in_channels": 3, "out_channels": 2, "backbone": "efficientnet-b2"}
RESNET = {"_target_": "TorchVisionFCModel", "model_name": "resnet18", "num_classes": 1, "pretrained": True}
UNEST = {"_target_": "scripts.networks.unest_base_patch_4.UNesT", "in_channels": 1, "out_channels": 133}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("network_def", DINTS, "DiNTS: no network that can be adopted"),
        ("network_def", FLEXIBLE | {"spatial_dims": 2, "pretrained": False}, "FlexibleUNet of 2 dimensions"),
        ("network_def", FLEXIBLE, "FlexibleUNet of 2 dimensions"),
        ("network_def", RESNET, "TorchVisionFCModel: no network that can be adopted"),
        ("network_def", UNEST, "UNesT: no network that can be adopted"),
        ("evaluator#_target_", "scripts.evaluator.DetectionEvaluator", "DetectionEvaluator is no segmentation"),
        ("inferer", {"_target_": "scripts.detection_inferer.RetinaNetInferer"}, "RetinaNetInferer: no inferer"),
        (f"{PRE}#4", bundles.part("AddGuidanceSignalDeepEditd"), "AddGuidanceSignalDeepEditd: no transform"),
    ],
)
def test_bundles_of_other_kinds_are_refused_with_the_reason(
    place: str, value: Any, message: str, tmp_path: Path
) -> None:
    """Searched networks, endoscopy, pathology, whole brains by a network of the bundle's own, nodules, DeepEdit."""
    config, metadata = bundle_forms.spleen()
    bundle = bundles.write_bundle(tmp_path / "bundle", config, metadata)
    (bundle / "configs/inference.json").write_text(json.dumps(change(config, place, value)))
    with pytest.raises(ConfigError, match=message) as error:
        read_bundle(bundle)
    assert "kind: bundle (docs/bundles.md)" in str(error.value)
    assert "\n" not in str(error.value)


def test_all_that_can_not_be_adopted_is_named_at_once_with_a_way_to_run_it(tmp_path: Path) -> None:
    config, metadata = bundle_forms.spleen()
    change(config, f"{PRE}#+", bundles.part("RandFlipd"))
    change(config, f"{POST}#+", bundles.part("Blurd", "pred"))
    change(config, "inferer#cval", 1)
    with pytest.raises(ConfigError, match=r"cval.*RandFlipd.*Blurd.*kind: bundle"):
        read(config, tmp_path, metadata)


def test_no_code_of_a_bundle_is_run(tmp_path: Path) -> None:
    """Code that nothing needs stays; what asks for a value that is code is refused."""
    mark = tmp_path / "was_run"
    code = f"$__import__('pathlib').Path({str(mark)!r}).touch()"
    config, metadata = bundle_forms.spleen()
    config["imports"] = ["$import os", "$import scripts", f"$os.system('touch {mark}')"]
    config["initialize"] = [code, *config["initialize"]]
    bundle = bundles.write_bundle(tmp_path / "bundle", config, metadata)
    (bundle / "scripts").mkdir()
    (bundle / "scripts/__init__.py").write_text(f"open({str(mark)!r}, 'w')")
    assert read_bundle(bundle).spec.window == bundles.ROI
    for place in ("inferer#overlap", "evaluator#amp", "network_def#norm", "device", f"{PRE}#3#pixdim", "network"):
        changed = change(json.loads(json.dumps(config)), place, code)
        (bundle / "configs/inference.json").write_text(json.dumps(changed))
        if place in ("evaluator#amp", "device"):
            read_bundle(bundle)
        else:
            with pytest.raises(ConfigError, match="is code, and adopting a bundle runs none"):
                read_bundle(bundle)
    assert not mark.exists()


def test_files_that_are_damaged_or_hold_code_or_are_of_another_version(tmp_path: Path) -> None:
    config, metadata = bundle_forms.spleen()
    bundle = bundles.write_bundle(tmp_path / "bundle", config, metadata)
    weights, content = bundle / "models/model.pt", (bundle / "models/model.pt").read_bytes()

    class Writes:
        def __reduce__(self) -> Any:
            return type(tmp_path).touch, (tmp_path / "was_run",)

    torch.save({"model": bundles.build(config).state_dict(), "x": Writes()}, weights)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="runs no code"):
        read_bundle(bundle)
    assert not (tmp_path / "was_run").exists()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"model\.pt"):
        read_bundle(bundle)
    torch.save(bundles.build(config | {"network_def": bundles.UNET | {"channels": [4, 8, 32]}}).state_dict(), weights)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="not the weights of"):
        read_bundle(bundle)
    weights.unlink()
    (bundle / "large_files.yml").write_text("large_files: []")
    with pytest.raises(DataError, match=r"not found; large_files\.yml says"):
        read_bundle(bundle)
    weights.write_bytes(content)
    file = bundle / "configs/metadata.json"
    for text, message in (
        (
            json.dumps(metadata | {"monai_version": "9.0.0"}),
            r"metadata\.json: monai_version: written for MONAI 9\.0\.0",
        ),
        ("{", r"metadata\.json"),
        (json.dumps(bundles.describe(["background", "spleen", "liver"])), "names 3 channels, the network has 2"),
    ):
        file.write_text(text)
        with pytest.raises((ConfigError, DataError), match=message):
            read_bundle(bundle)
    file.write_text(json.dumps({"version": "0.1.0", "network_data_format": []}))
    assert read_bundle(bundle).spec.class_names == ("background", "label 1")
    (bundle / "configs/inference.json").write_text("{")
    with pytest.raises(ConfigError, match="no valid JSON"):
        read_bundle(bundle)
    (bundle / "configs/inference.json").unlink()
    with pytest.raises(DataError, match=r"no inference configuration.*there are metadata.json"):
        read_bundle(bundle)


def test_the_command_makes_a_workspace_and_its_engines_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = bundle_forms.whole_body()
    change(config, "network_def#out_channels", 5)
    bundles.write_bundle(tmp_path / "bundle", config, bundles.describe(bundle_forms.MANY[:5]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    assert main(["adopt", "bundle", "--name", "body"]) == 0
    assert main(["check", "body"]) == 0
    assert main(["adopt", "bundle/configs/inference.json", "--name", "again"]) == 0
    assert main(["adopt", "bundle", "--name", "other", "--folds", "0"]) == 2
    change(config, f"{PRE}#+", bundles.part("RandFlipd"))
    (tmp_path / "bundle/configs/inference.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert main(["adopt", "bundle", "--name", "other"]) == 2
    assert "kind: bundle" in capsys.readouterr().err
    (file,) = bundles.write_case(tmp_path / "images", "case", **GRIDS["other_way"])
    model = tmp_path / "mmars/body/config/adopted.pt"
    (tmp_path / "exported").mkdir()
    options = ExportOptions(engines=("onnx",))
    export_model(model, tmp_path / "exported", options, [InferenceCase("case", (file,))]).require_published()
    masks = [
        predict_volume(engine, read_volume(file)).mask.array
        for engine in (open_engine(model, "torch"), open_engine(tmp_path / "exported", "onnxruntime"))
    ]
    assert len(np.unique(masks[0])) > 1
    assert (masks[0] == masks[1]).mean() >= 0.999


def test_a_bundles_own_code_is_run_only_where_a_python_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", *bundle_forms.spleen())
    assert main(["adopt", str(bundle), "--name", "spleen", "--images", str(tmp_path)]) == 2
    assert "a bundle runs its own code: name a Python that has MONAI" in capsys.readouterr().err


@pytest.mark.slow
def test_adopt_runs_monai_itself_where_its_python_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bundles.write_bundle(tmp_path / "bundle", *bundle_forms.spleen())
    bundles.write_case(tmp_path / "images", "a", **GRIDS["other_way"])
    adopt = ["adopt", "bundle", "--name", "spleen", "--images", "images"]
    assert main([*adopt, "--original-python", sys.executable]) == 0
    assert "a: 0 of 12150 voxels differ" in capsys.readouterr().err
    # Other weights since: the original, run here, parts at the logits.
    model = read_bundle(tmp_path / "bundle")
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        next(network.parameters()).mul_(3)
    tool = BundleOriginal(sys.executable, tmp_path / "bundle", ".nii.gz")
    comparison = Comparison(TorchEngine.wrap(network, model.spec), tmp_path / "images", original=tool)
    assert "The first step that differs: logits; the greatest difference is" in compare_adoption(comparison).problem
