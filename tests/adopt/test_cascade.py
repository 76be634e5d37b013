"""Adopted cascades, whose second network is shown the mask of the first, and logits brought back by splines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from tests.adopt.folders import make_dataset, make_plans, write_checkpoint, write_folder, write_image
from tests.adopt.test_nnunet import make_weights, write_model
from voxflow.adopt import read_nnunet, write_adopted, write_nnunet
from voxflow.cli.main import main
from voxflow.engines import TorchEngine, open_engine
from voxflow.errors import ConfigError, DataError
from voxflow.export import ExportOptions, export_model
from voxflow.geometry import Geometry
from voxflow.places import read_workspaces
from voxflow.prediction import (
    PredictOptions,
    open_ensemble,
    predict_logits,
    predict_prepared,
    predict_volume,
    prepare_image,
)
from voxflow.prediction.preparation import show_mask
from voxflow.prediction.splines import pick_labels_by_splines, resample_mask
from voxflow.spec import ModelSpec, NnunetResampling
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from pathlib import Path

LOWRES: dict[str, Any] = {"configuration": "3d_lowres", "spacing": (2.5, 1.9, 1.7), "patch": (8, 16, 16)}


def write_cascade(
    root: Path, dataset: dict[str, Any] | None = None, *, spacing: tuple[float, float, float] = (1.5, 1.0, 1.0)
) -> Path:
    """Result folders of both stages, side by side; returns the second one's."""
    dataset = dataset or make_dataset()
    coarse = tuple(1.7 * step for step in spacing)
    first = write_folder(root / "trainer__plans__3d_lowres", make_plans(**LOWRES | {"spacing": coarse}), dataset)
    weights = make_weights(first, configuration="3d_lowres")
    write_checkpoint(first / "fold_0/checkpoint_final.pth", weights, configuration="3d_lowres")
    plans = make_plans(configuration="3d_cascade_fullres", previous="3d_lowres", spacing=spacing)
    last = write_folder(root / "trainer__plans__3d_cascade_fullres", plans, dataset)
    weights = make_weights(last, 1, "3d_cascade_fullres", extra_channels=len(dataset["labels"]) - 1)
    write_checkpoint(last / "fold_0/checkpoint_final.pth", weights, configuration="3d_cascade_fullres")
    return last


@pytest.fixture
def image(tmp_path: Path) -> Volume:
    return read_volume(write_image(tmp_path / "images/case_0000.nii.gz", size=(20, 22, 12), border=4))


def test_the_second_network_is_shown_the_mask_of_the_first(tmp_path: Path, image: Volume) -> None:
    last = write_cascade(tmp_path)
    write_adopted(read_nnunet(last), tmp_path / "model.pt")
    engine = open_engine(tmp_path / "model.pt", "torch")
    assert engine.spec.image_count == 1
    assert engine.spec.in_channels == 3
    assert len(engine.previous) == 1
    first_alone = read_nnunet(last.with_name("trainer__plans__3d_lowres"))
    mask = predict_volume(TorchEngine.wrap(first_alone.network, first_alone.spec), image).mask.array
    assert len(np.unique(mask)) > 1
    prepared = prepare_image([image], engine.spec)
    shown = show_mask(prepared, mask, engine.spec)
    assert shown.image.shape[0] == 3
    # Resampled by SciPy, label by label, along the axes that the network has: (k, j, i) of the image.
    assert prepared.place is not None
    turned = mask.transpose(2, 1, 0)[prepared.place.box].astype(int)
    inside = image.array.transpose(2, 1, 0)[prepared.place.box] != 0
    turned[(turned == 0) & ~inside] = -1
    factors = np.array(shown.image.shape[1:]) / turned.shape
    shares = [
        zoom((turned == value) * 1.0, factors, order=1, mode="nearest", grid_mode=True) for value in (-1, 0, 1, 2)
    ]
    expected = np.argmax(shares, axis=0) - 1
    second, first = np.sort(shares, axis=0)[-2:]
    is_clear = first - second > 1e-6  # of equal shares the nearest voxel's wins
    assert is_clear.mean() > 0.9
    for value, channel in ((1, shown.image[1]), (2, shown.image[2])):
        np.testing.assert_array_equal((channel == 1)[is_clear], (expected == value)[is_clear])
        assert set(np.unique(channel)) <= {0, 1}
    whole = predict_volume(engine, image).mask.array
    np.testing.assert_array_equal(predict_prepared(engine, shown, PredictOptions()).mask.array, whole)
    assert not np.array_equal(whole, mask)


def test_a_cascade_on_tensors_gives_the_masks_of_arrays(tmp_path: Path, image: Volume) -> None:
    model = read_nnunet(write_cascade(tmp_path))
    engine = TorchEngine.wrap(model.network, model.spec)
    arrays = predict_volume(engine, image).mask.array
    tensors = predict_prepared(engine, prepare_image([image], model.spec, "cpu"), PredictOptions()).mask.array
    assert (arrays == tensors).mean() > 0.9999


def test_a_cascade_goes_through_the_commands_and_the_export(
    tmp_path: Path, image: Volume, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    last = write_cascade(tmp_path)
    assert main(["adopt", str(last), "--name", "liver"]) == 0
    assert read_workspaces()["liver"]["export"] == {"engines": ["onnx", "openvino"]}
    assert main(["check", "liver"]) == 0
    model = tmp_path / "mmars/liver/config/adopted.pt"
    (tmp_path / "exported").mkdir()
    assert export_model(model, tmp_path / "exported", ExportOptions(engines=()), []).metrics() == {"cases": 0}
    with pytest.raises(ConfigError, match="a cascade is two result folders"):
        write_nnunet(model, tmp_path / "left", "Dataset001_Liver")
    masks = [
        predict_volume(each, image).mask.array
        for each in (
            open_engine(model, "torch"),
            open_engine(tmp_path / "exported"),
            open_ensemble([tmp_path / "exported"]),
        )
    ]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
    assert main(["infer", str(model), "--images", "images", "--out", "out"]) == 0
    written = read_volume(next((tmp_path / "out").rglob("*.nii.gz"))).array
    np.testing.assert_array_equal(written, masks[0])
    capsys.readouterr()
    assert main(["adopt", str(last), "--name", "second", "--images", "images"]) == 2
    assert "a cascade is not run here; masks that the original made" in capsys.readouterr().err


def test_stages_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    last = write_cascade(tmp_path)
    first = last.with_name("trainer__plans__3d_lowres")
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"shown the masks of 3d_lowres, which needs to lie in .*trainer__plans__3d_low"
    ):
        read_nnunet(last)
    (tmp_path / "elsewhere").rename(first)
    (first / "dataset.json").write_text(json.dumps(make_dataset({"background": 0, "liver": 1})))
    weights = make_weights(first, configuration="3d_lowres")
    write_checkpoint(first / "fold_0/checkpoint_final.pth", weights, configuration="3d_lowres")
    with pytest.raises(DataError, match="other channels or labels than those of 3d_lowres"):
        read_nnunet(last)


def test_a_cascade_has_two_stages(tmp_path: Path) -> None:
    last = write_cascade(tmp_path)
    first = last.with_name("trainer__plans__3d_lowres")
    for previous in ("3d_lowres", "3d_cascade_fullres"):
        (first / "plans.json").write_text(json.dumps(make_plans(**LOWRES, previous=previous)))
        with pytest.raises(DataError, match="a cascade of more than two stages"):
            read_nnunet(last)
    (last / "plans.json").write_text(
        json.dumps(make_plans(configuration="3d_cascade_fullres", previous="3d_cascade_fullres"))
    )
    with pytest.raises(DataError, match="a cascade of more than two stages"):
        read_nnunet(last)


def test_an_engine_without_the_first_stage_is_refused(tmp_path: Path, image: Volume) -> None:
    model = read_nnunet(write_cascade(tmp_path))
    engine = TorchEngine.wrap(model.network, model.spec)
    engine.previous = ()
    with pytest.raises(DataError, match="the model is a cascade, and torch was not given its first stage"):
        predict_volume(engine, image)


@pytest.mark.parametrize("regions", [False, True])
def test_logits_come_back_by_cubic_splines_where_the_plans_ask_for_them(
    regions: bool, tmp_path: Path, image: Volume
) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 2} if regions else None
    folder = write_model(
        tmp_path / "model", make_plans(back_order=3), make_dataset(labels, order=(1, 2) if regions else ())
    )
    model = read_nnunet(folder)
    engine = TorchEngine.wrap(model.network, model.spec)
    prepared = prepare_image([image], model.spec)
    logits = predict_logits(engine, np.asarray(prepared.image), PredictOptions(flips="auto"))
    factors = np.array(prepared.native.size) / logits.shape[1:]
    restored = np.stack(
        [
            np.clip(zoom(part.astype(float), factors, order=3, mode="nearest", grid_mode=True), part.min(), part.max())
            for part in logits
        ]
    )
    expected = restored.argmax(0)
    if regions:
        expected = np.where(restored[1] > 0, 2, np.where(restored[0] > 0, 1, 0))
    mask = predict_prepared(engine, prepared, PredictOptions()).mask.array
    assert prepared.place is not None
    assert (prepared.place.extract(mask) == expected).mean() > 0.9999
    tensors = predict_prepared(engine, prepare_image([image], model.spec, "cpu"), PredictOptions()).mask.array
    assert (tensors == mask).mean() > 0.9999
    linear = read_nnunet(
        write_model(tmp_path / "linear", make_plans(), json.loads((folder / "dataset.json").read_text()))
    )
    assert not np.array_equal(predict_volume(TorchEngine.wrap(linear.network, linear.spec), image).mask.array, mask)


def test_a_spline_across_the_coarse_axis_is_one_as_well(tmp_path: Path, image: Volume) -> None:
    plans: dict[str, Any] = make_plans(spacing=(5.0, 1.0, 1.0), patch=(8, 16, 16), separate_z=True)
    plans["configurations"]["base"]["resampling_fn_probabilities_kwargs"]["order_z"] = 3
    spec = read_nnunet(write_model(tmp_path / "model", plans)).spec
    assert spec.nnunet is not None
    logits = torch.randn(3, 6, 10, 10, generator=torch.Generator().manual_seed(0)).numpy()
    target = Geometry((12, 10, 10), np.diag([2.5, 1.0, 1.0, 1.0]))
    labels = pick_labels_by_splines(logits, target, spec)
    restored = np.stack(
        [zoom(part.astype(float), (2, 1, 1), order=3, mode="nearest", grid_mode=True) for part in logits]
    )
    assert (labels == restored.argmax(0)).mean() > 0.999


def test_equal_shares_go_to_the_nearest_label() -> None:
    labels = np.array([0, 1, 2], dtype=np.int32).reshape(3, 1, 1)
    resampled = resample_mask(labels, (2, 1, 1), NnunetResampling(order=1, separate_z=False), None)
    # The new voxels lie at 0.25 and 1.75.
    assert resampled.ravel().tolist() == [0, 2]
    wide = resample_mask(np.repeat(labels, 4, axis=1), (3, 2, 1), NnunetResampling(order=1), 0)
    assert wide[:, :, 0].tolist() == [[0, 0], [1, 1], [2, 2]]
    along = resample_mask(labels, (6, 1, 1), NnunetResampling(order=1, order_z=0), 0)
    assert along.ravel().tolist() == [0, 0, 1, 1, 2, 2]


def test_specs_of_other_models_stay_as_they_are() -> None:
    spec = ModelSpec(task="segmentation", class_names=("background", "liver"), activation="softmax")
    assert "previous" not in spec.model_dump()
    with pytest.raises(ValueError, match="has a resampling of nnU-Net where it is an adopted nnU-Net, else none"):
        ModelSpec.model_validate(
            {**spec.model_dump(), "previous": {"spec": spec, "values": (1,), "mask": {"order": 1}}}
        )
