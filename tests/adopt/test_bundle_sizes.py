"""Adopted MONAI bundles that bring images to another size, or clean their masks, against MONAI's own command."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.adopt import bundle_forms, bundles
from tests.adopt.small_objects import remove_small_objects
from tests.adopt.test_bundle import GRIDS
from voxflow.adopt import read_bundle, write_adopted
from voxflow.engines import TorchEngine, open_engine
from voxflow.errors import ConfigError
from voxflow.export import ExportOptions, export_model
from voxflow.inference import InferenceCase
from voxflow.prediction import PredictOptions, announce_image, predict_prepared, predict_volume, prepare_image
from voxflow.spec import ModelSpec, MonaiCleaning, MonaiSteps
from voxflow.training import load_model
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("monai_components")
CLEANED = ("resized_sideways", "padded", "cleaned")


def without_cleaning(spec: ModelSpec) -> ModelSpec:
    """The specification without what cleans a mask."""
    assert spec.monai
    return spec.model_copy(update={"monai": spec.monai.model_copy(update={"cleaning": ()})})


@pytest.mark.parametrize("name", bundle_forms.SIZED)
def test_masks_are_those_of_monai(name: str, tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", *bundle_forms.SIZED[name]())
    write_adopted(read_bundle(bundle), tmp_path / "adopted.pt")
    network, spec = load_model(tmp_path / "adopted.pt")
    engine = TorchEngine.wrap(network, spec)
    seen, cleaned = set(), 0
    # MONAI's writer does not save a label map sideways where nothing was turned.
    changes = {"direction": bundles.OTHER_WAY} if name == "cleaned" else {}
    for case, grid in GRIDS.items():
        images = tmp_path / "images" / case
        (file,) = bundles.write_case(images, case, **grid | changes)
        (expected,) = bundles.run_original(bundle, images, tmp_path / "out" / case, "inference.json").values()
        volume = read_volume(file)
        mask = predict_volume(engine, volume).mask.array
        assert (mask == expected).mean() >= 0.9999
        seen |= set(np.unique(expected).tolist())
        plain = predict_volume(TorchEngine.wrap(network, without_cleaning(spec)), volume).mask.array
        cleaned += int((plain != mask).sum())
        prepared = prepare_image([volume], spec, "cpu")
        assert prepared.grid.size == tuple(prepared.image.shape[1:])
        on_device = predict_prepared(engine, prepared, PredictOptions()).mask.array
        np.testing.assert_array_equal(on_device, mask)
        announce_image(engine, volume.geometry, PredictOptions())
    assert len(seen) > 1, "else the comparison says nothing"
    assert (cleaned > 0) == (name in CLEANED)


def test_engines_give_the_mask_of_torch(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "bundle", *bundle_forms.resized())
    write_adopted(read_bundle(bundle), tmp_path / "adopted.pt")
    (file,) = bundles.write_case(tmp_path / "images", "case", **GRIDS["other_way"])
    (tmp_path / "exported").mkdir()
    cases = [InferenceCase("case", (file,))]
    export_model(tmp_path / "adopted.pt", tmp_path / "exported", ExportOptions(engines=("onnx",)), cases)
    masks = [
        predict_volume(engine, read_volume(file)).mask.array
        for engine in (open_engine(tmp_path / "adopted.pt"), open_engine(tmp_path / "exported", "onnxruntime"))
    ]
    assert (masks[0] == masks[1]).mean() >= 0.999


RESIZE, PAD = bundles.part("Resized", spatial_size=[16, 16, 16]), bundles.part("SpatialPadd", spatial_size=32)
ANSWER = [bundles.activate(softmax=True), bundles.choose(argmax=True), bundles.invert(nearest=True), bundles.save()]
ONE_HOT = [bundles.choose(argmax=True, to_onehot=2), bundles.part("FillHolesd", "pred"), *ANSWER[2:]]


@pytest.mark.parametrize(
    ("steps", "answer", "message"),
    [
        ([PAD, RESIZE], ANSWER, r"preprocessing#transforms#5: Resized: images are cropped, then resized, then padded"),
        ([RESIZE, RESIZE], ANSWER, r"Resized: images are cropped, then resized, then padded, each once"),
        ([RESIZE, bundles.part("CropForegroundd", source_key="image")], ANSWER, r"CropForegroundd: images are cropped"),
        ([RESIZE, *bundles.to_grid([2, 2, 2])[1:]], ANSWER, r"Spacingd: pixdim"),
        ([RESIZE], [*ANSWER[:2], ANSWER[3]], r"no Invertd"),
        ([RESIZE], ONE_HOT, r"FillHolesd: behind to_onehot"),
    ],
)
def test_steps_in_another_order_are_refused(
    steps: list[bundles.Config], answer: list[bundles.Config], message: str, tmp_path: Path
) -> None:
    first = [*bundles.load(), *bundles.to_grid([1.5, 1.5, 2.0])]
    config = bundles.configure(bundles.UNET, [*first, *steps], answer)
    bundle = bundles.write_bundle(tmp_path / "bundle", config, bundles.describe(["background", "spleen"]))
    with pytest.raises(ConfigError, match=message):
        read_bundle(bundle)


def test_model_files_of_before_are_read(tmp_path: Path) -> None:
    older = MonaiSteps.model_validate_json(json.dumps({"largest": [1, 2], "cleans_before": True, "back": "labels"}))
    assert older.cleaning == (MonaiCleaning(kind="largest", values=(1, 2), is_before=True),)
    none = MonaiSteps.model_validate_json(json.dumps({"largest": [], "cleans_before": False}))
    assert none == MonaiSteps()
    assert {"resize", "pad", "cleaning"}.isdisjoint(none.model_dump())
    assert MonaiSteps.model_validate(older.model_dump()) == older


@pytest.mark.slow
def test_what_stands_in_for_scikit_image_does_as_it_does(tmp_path: Path, nnunet_python: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, (1, 12, 13, 14)) * (random.random((1, 12, 13, 14)) < 0.3)
    np.save(tmp_path / "labels.npy", labels.astype(np.int32))
    # Its 0.26 takes a bound that is removed as well; by MONAI's own words, and before 0.26, what is smaller goes.
    program = (
        "import sys, numpy as np\n"
        "from skimage.morphology import remove_small_objects as remove\n"
        "labels = np.load('labels.npy')\n"
        "for n in (1, 2): np.save(f'bool{n}.npy', remove(labels > 0, max_size=4, connectivity=n))\n"
        "np.save('numbers.npy', remove(labels, max_size=179))\n"
    )
    subprocess.run([str(nnunet_python), "-W", "ignore", "-c", program], cwd=tmp_path, check=True)
    for connectivity in (1, 2):
        ours = remove_small_objects(labels > 0, 5, connectivity)
        np.testing.assert_array_equal(ours, np.load(tmp_path / f"bool{connectivity}.npy"))
        assert 0 < ours.sum() < (labels > 0).sum()
    np.testing.assert_array_equal(remove_small_objects(labels, 180, 1), np.load(tmp_path / "numbers.npy"))
