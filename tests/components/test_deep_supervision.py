"""Deep supervision: coarser levels answer in training, are judged with less weight, and vanish afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from voxflow.components import Component, PlainUnetNetwork, build_network, create, judge_levels
from voxflow.components.losses.deep import shrink_label
from voxflow.spec import ModelSpec
from voxflow.training import load_model, save_model

if TYPE_CHECKING:
    from pathlib import Path

ARGS = {"nf_enc": [4, 6, 8, 8], "in_channels": 1, "num_classes": 3}


def test_levels_answer_in_training_only() -> None:
    network = build_network(Component(name="PlainUnet", args={**ARGS, "deep_supervision": True}))
    image = torch.zeros(2, 1, 16, 16, 8)
    assert [answer.shape[2:] for answer in network.train()(image)] == [(16, 16, 8), (8, 8, 4)]
    assert network.eval()(image).shape == (2, 3, 16, 16, 8)
    assert not hasattr(build_network(Component(name="PlainUnet", args=ARGS)), "heads")


def test_thick_slices_have_levels_of_their_own_shape() -> None:
    args = {**ARGS, "strides": [[2, 2, 1], [2, 2, 2], [2, 2, 2]], "deep_supervision": True}
    network = build_network(Component(name="PlainUnet", args=args))
    answers = network.train()(torch.zeros(1, 1, 16, 16, 8))
    assert [answer.shape[2:] for answer in answers] == [(16, 16, 8), (8, 8, 8)]
    assert shrink_label(torch.zeros(1, 1, 16, 16, 8), answers[1].shape[2:]).shape == (1, 1, 8, 8, 8)


def test_the_model_file_holds_the_network_without_its_heads(tmp_path: Path) -> None:
    component = Component(name="PlainUnet", args={**ARGS, "deep_supervision": True})
    network = build_network(component).eval()
    spec = ModelSpec(task="segmentation", class_names=("background", "a", "b"), activation="softmax")
    save_model(tmp_path / "model.pt", network, component, spec=spec, epoch=1, metric=0.5)
    loaded, _ = load_model(tmp_path / "model.pt")
    assert not [name for name in loaded.state_dict() if name.startswith("heads")]
    image = torch.randn(1, 1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), network(image))
        scripted = torch.jit.script(loaded)
        torch.testing.assert_close(scripted(image), network(image))
    # A network of MONAI's has an argument of that name, which stays.
    monai = Component(name="monai:DynUNet", args={"deep_supervision": True})
    assert PlainUnetNetwork.strip_training_parts(monai) == (monai, ())


def test_each_level_counts_half_as_much_as_the_one_above() -> None:
    compute_loss = create("loss", Component(name="DiceCE", args={})).build("softmax")
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 1, 8, 8, 8), generator=generator)
    answers = [torch.randn(2, 3, n, n, n, generator=generator) for n in (8, 4, 2)]
    labels = [label, label[..., 1::2, 1::2, 1::2], label[..., 2::4, 2::4, 2::4]]
    parts = [compute_loss(answer, part) for answer, part in zip(answers, labels, strict=True)]
    expected = (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75
    torch.testing.assert_close(judge_levels(compute_loss)(answers, label), expected)
    torch.testing.assert_close(judge_levels(compute_loss)(answers[0], label), parts[0])
