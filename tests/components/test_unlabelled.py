"""Voxels and classes that nobody labelled are left out of losses and scores, as if they had been cut out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch.nn import functional

from voxflow.components import (
    MARK,
    UNLABELLED_REGIONS,
    UNLABELLED_SETS,
    Chain,
    Component,
    ComputeAverageDice,
    ConvertToRegions,
    Dice,
    DiceCE,
    carries_unlabelled,
    create,
    leave_out_unlabelled,
)

SIZE = (6, 5, 4)


def draw(classes: int, cases: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (case, class, ...) and labels (case, 1, ...) with a third of the voxels unknown."""
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(cases, classes, *SIZE, generator=generator) * 3
    label = torch.randint(0, classes, (cases, 1, *SIZE), generator=generator).to(torch.int8)
    label[:, :, :2] = -1
    return logits.requires_grad_(), label


@pytest.mark.parametrize("args", [{}, {"batch": True}, {"skip_background": True, "squared_pred": True}])
@pytest.mark.parametrize("classes", [2, 4])
def test_loss_and_gradient_are_monais_of_the_labelled_voxels(classes: int, args: dict[str, Any]) -> None:
    logits, label = draw(classes)
    loss = DiceCE(**args)
    value = leave_out_unlabelled(loss, "softmax", ())(logits, label)
    (gradient,) = torch.autograd.grad(value, logits)
    monai = DiceCELoss(
        softmax=True,
        to_onehot_y=True,
        include_background=not loss.skip_background,
        squared_pred=loss.squared_pred,
        batch=loss.batch,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    expected = monai(logits[:, :, 2:], label[:, :, 2:])  # the unknown ones are the first two planes
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    assert not gradient[:, :, :2].any()


@pytest.mark.parametrize("name", ["DiceLoss", "TverskyLoss", "GeneralizedDiceLoss", "DiceFocalLoss"])
def test_monais_losses_by_name_leave_voxels_out(name: str) -> None:
    import monai.losses

    logits, label = draw(3)
    args = {"softmax": True, "to_onehot_y": True}
    loss = create("loss", Component(name=f"monai:{name}", args=args))
    value = leave_out_unlabelled(loss, "softmax", ())(logits, label)
    torch.testing.assert_close(value, getattr(monai.losses, name)(**args)(logits[:, :, 2:], label[:, :, 2:]))


def test_batch_that_nobody_labelled_teaches_nothing() -> None:
    logits, label = draw(3)
    value = leave_out_unlabelled(DiceCE(), "softmax", ())(logits, torch.full_like(label, -1))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


def test_case_that_nobody_labelled_does_not_count() -> None:
    logits, label = draw(3)
    label[1] = -1
    value = leave_out_unlabelled(DiceCE(), "softmax", ())(logits, label)
    torch.testing.assert_close(value, leave_out_unlabelled(DiceCE(), "softmax", ())(logits[:1], label[:1]))


def test_marginal_loss_adds_unlabelled_classes_to_the_background() -> None:
    logits, _ = draw(4, cases=1)
    truth = torch.randint(0, 4, (1, 1, *SIZE), generator=torch.Generator().manual_seed(0))
    label = torch.where((truth == 0) | (truth == 2), -2, truth).to(torch.int8)  # class 2 was not labelled
    value = leave_out_unlabelled(DiceCE(), "softmax", [(2,)])(logits, label)
    # By the definition of Shi et al. (2021): probabilities are added, then Dice and cross entropy as ever.
    p = logits.softmax(1)
    merged = torch.stack([p[:, 0] + p[:, 2], p[:, 1], p[:, 3]], 1)
    indices = torch.tensor([0, 1, 0, 2])[truth]
    entropy = functional.nll_loss(merged.log(), indices[:, 0])
    dice = DiceLoss(to_onehot_y=True, smooth_nr=1e-5, smooth_dr=1e-5)(merged, indices)
    torch.testing.assert_close(value, dice + entropy)


def test_cases_of_different_classes_count_alike() -> None:
    logits, _ = draw(4, cases=3)
    label = torch.randint(0, 4, (3, 1, *SIZE), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    label[0][(label[0] == 0) | (label[0] == 1)] = -2
    label[1][label[1] != 3] = -3
    sets = [(1,), (1, 2)]
    compute = leave_out_unlabelled(Dice(), "softmax", sets)
    singly = [compute(logits[n : n + 1], label[n : n + 1]) for n in range(3)]
    torch.testing.assert_close(compute(logits, label), torch.stack(singly).mean())


@pytest.mark.parametrize("batch", [False, True])
def test_region_that_was_not_labelled_is_left_out(batch: bool) -> None:
    logits, _ = draw(3)
    label = torch.randint(0, 2, (2, 3, *SIZE), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    label[:, 1] = -1
    loss = DiceCE(is_onehot_targets=True, batch=batch)
    value = leave_out_unlabelled(loss, "sigmoid", ())(logits, label)
    expected = loss.build("sigmoid")(logits[:, [0, 2]], label[:, [0, 2]])
    torch.testing.assert_close(value, expected)


def test_dice_of_labelled_voxels_is_numpys() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2, 3, *SIZE))
    label = generator.integers(0, 3, (2, 1, *SIZE)).astype(np.int8)
    label[:, :, 3:] = -1
    scores = ComputeAverageDice(name="dice").measure({"model": logits, "label": label})
    for case in range(2):
        guess, truth = logits[case].argmax(0)[:3], label[case, 0][:3]
        for c in (1, 2):
            dice = 2 * ((guess == c) & (truth == c)).sum() / ((guess == c).sum() + (truth == c).sum())
            assert scores[case, c - 1] == pytest.approx(dice)


def test_class_that_was_not_labelled_has_no_dice() -> None:
    logits = np.zeros((1, 3, 4))
    logits[0, [2, 2, 1, 0], range(4)] = 1
    label = np.array([[[-2, -2, 1, 1]]], np.int8)  # class 2 was not labelled
    outputs = {"model": logits, "label": label, UNLABELLED_SETS: ((2,),)}
    (scores,) = ComputeAverageDice(name="dice").measure(outputs)
    assert scores[0] == pytest.approx(2 / 3)
    assert np.isnan(scores[1])


def run_chain(label: np.ndarray[Any, Any], steps: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    """A label as training sees it before its random transforms."""
    loaded: dict[str, Any] = {"name": "ConvertToChannelsFirst", "args": {"fields": "label"}}
    chain = Chain.build([Component(**step) for step in [loaded, *steps]])
    return chain.run_head({"label": label[None], "image": np.zeros((1, *label.shape), np.float32), **keys})


def test_regions_are_unknown_where_nobody_labelled_and_in_cases_without_them() -> None:
    step = {"name": "ConvertToRegions", "args": {"fields": "label", "regions": {"organ": [1, 2], "tumour": [2]}}}
    label = np.array([[0, 1, 2, 255]], np.uint8)
    masks = run_chain(label, [step], **{MARK: (255, 0, ())})["label"]
    assert masks.tolist() == [[[0, 1, 1, -1]], [[0, 0, 1, -1]]]
    masks = run_chain(label[:, :3], [step], **{MARK: (None, 0, ()), UNLABELLED_REGIONS: ("tumour",)})["label"]
    assert masks.tolist() == [[[0, 1, 1]], [[-1, -1, -1]]]
    whole = ConvertToRegions(fields=("label",), regions={"organ": (1, 2)}).change(label[:, :3])
    assert whole.dtype == np.uint8


def test_crops_centre_on_labelled_voxels_alone() -> None:
    label = np.full((20, 20, 20), 255, np.uint8)
    label[:2, :2, :2] = 0
    label[5, 5, 5:7] = [1, 2]
    args = {"fields": "image", "label_field": "label", "size": [1, 1, 1], "batch_size": 60, "classes_alike": True}
    crop: dict[str, Any] = {"name": "FastCropByPosNegRatio", "args": args}
    prepared = run_chain(label, [crop], **{MARK: (255, 0, ())})
    chain = Chain.build([Component(**crop)])
    patches = chain.run_tail(prepared, np.random.default_rng(0))
    values = [int(patch["label"].item()) for patch in patches]
    assert set(values) == {0, 1, 2}
    assert 10 < values.count(0) < 50


def test_class_in_the_label_that_was_said_to_be_unlabelled_is_an_error() -> None:
    with pytest.raises(ValueError, match="holds the value 2 of a class that was not labelled"):
        run_chain(np.array([[0, 2]], np.uint8), [], **{MARK: (None, -2, (2,))})


@pytest.mark.parametrize(
    ("name", "args", "carries"),
    [
        ("FastCropByPosNegRatio", {"fields": "image", "size": [4, 4, 4]}, True),
        ("CenterData", {"fields": "image"}, True),
        ("CenterData", {"fields": "label"}, False),
        ("monai:NormalizeIntensityd", {"keys": ["image"]}, True),
        ("monai:AsDiscreted", {"keys": ["label"], "to_onehot": 3}, False),
    ],
)
def test_transforms_that_make_other_values_of_the_label_are_known(
    name: str, args: dict[str, Any], carries: bool
) -> None:
    assert carries_unlabelled(create("transform", Component(name=name, args=args))) is carries
