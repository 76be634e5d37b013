"""Networks: shapes, strides, and arguments that contradict themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn import functional

from voxflow.components import Component, build_network, complete_network, create, judge_levels, read_network
from voxflow.components.networks.modules.norms import count_groups
from voxflow.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path


def component(name: str, **args: object) -> Component:
    return complete_network(Component(name=name, args=args), in_channels=2, num_classes=3)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Unet", {"nf_enc": "4,8,16"}),
        ("Unet", {"nf_enc": [4, 8, 16], "strides": [[2, 2, 1], 2], "use_batch_norm": True}),
        ("Unet", {"nf_enc": [8, 8], "nf_dec": [8], "use_group_norm": True, "residual_units": 0}),
        ("Unet", {"nf_enc": "4,4", "nf_dec": "4,4,4,4,2"}),
        ("Unet", {"nf_enc": [6, 10], "use_group_norm": True}),
        ("Unet", {"nf_enc": "2,4", "nf_dec": "4,4,4,2", "use_group_norm": True}),
        (
            "PlainUnet",
            {"nf_enc": [4, 8, 8], "strides": [[2, 2, 1], 2], "kernels": [[3, 3, 1], 3, 3], "norm": "instance"},
        ),
        ("PlainUnet", {"nf_enc": "4,8", "down": [2, 1], "up": [2], "norm": "instance"}),
        ("SegResnet", {"init_filters": 4, "blocks_down": [1, 1], "blocks_up": [1]}),
        ("SegResnet", {"init_filters": 2, "blocks_down": "1,1,1", "blocks_up": "1,1", "use_group_normG": 8}),
        ("tlt2:SegmResnet", {"blocks_down": "1,1", "blocks_up": "1", "use_groupnorm": True, "use_groupnormG": 8}),
        ("SegResnet", {"blocks_down": [1, 1], "blocks_up": [1], "use_vae": True, "input_size": [16, 16, 16]}),
    ],
)
def test_volumes_keep_their_size_and_get_a_channel_a_class(name: str, args: dict[str, object]) -> None:
    configured = component(name, **args)
    size = [2 * read_network(configured).divisor] * 3
    assert build_network(configured).eval()(torch.zeros(1, 2, *size)).shape == (1, 3, *size)


def test_ahnet_keeps_the_size_and_gets_a_channel_a_class() -> None:
    configured = component("SegAhnet", if_use_psp=True, plane="z", n_spatial_dim=3)
    least = read_network(configured).least_size
    assert least == (128, 128, 32)
    with torch.inference_mode():
        assert build_network(configured).eval()(torch.zeros(1, 2, *least)).shape == (1, 3, *least)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("DenseNet", {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]}),
        ("DenseNet121", {"weight_decay": 1e-5, "data_format": "channels_last", "pretrain_weight_name": ""}),
        ("tlt2:Densenet121", {"pretrain_weight_name": ""}),
    ],
)
def test_radiographs_get_a_logit_a_finding(name: str, args: dict[str, object]) -> None:
    configured = component(name, **args)
    assert build_network(configured).eval()(torch.zeros(1, 2, 64, 64)).shape == (1, 3)
    assert read_network(configured).final_activation == "sigmoid"


def test_divisor_is_the_total_stride() -> None:
    assert read_network(component("Unet", nf_enc=[4, 8, 16, 32], strides=[[2, 2, 1], 2, 2])).divisor == 8
    assert read_network(component("SegResnet")).divisor == 8


def test_what_the_configuration_says_wins_over_what_the_data_suggests() -> None:
    assert complete_network(Component(name="Unet", args={"num_classes": 5}), in_channels=1, num_classes=3).args == {
        "in_channels": 1,
        "num_classes": 5,
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"nf_enc": [4, 8, 16], "nf_dec": [4, 8]},
            r"nf_dec must mirror nf_enc: \[8, 4\], or have 5 entries or more, received \[4, 8\]",
        ),
        ({"nf_enc": [4, 8], "strides": [2, 2]}, "2 levels need 1 strides, not 2"),
        ({"use_batch_norm": True, "use_group_norm": True}, "exclude each other"),
    ],
)
def test_contradictions_are_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_network(component("Unet", **args))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"nf_enc": [4]}, r"nf_enc needs two levels or more, received \[4\]"),
        ({"nf_enc": [4, 8], "down": [1]}, "2 levels need 2 down, not 1"),
        ({"nf_enc": [4, 8], "kernels": [3, [3, 3, 2]]}, "kernels are odd, received 2"),
    ],
)
def test_contradictions_of_the_plain_unet_are_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_network(component("PlainUnet", **args))


def test_the_plain_unet_has_as_many_convolutions_as_it_is_told() -> None:
    network = build_network(component("PlainUnet", nf_enc=[4, 8, 8], down=[1, 2, 3], up=[1, 2]))
    kinds = (torch.nn.Conv3d, torch.nn.BatchNorm3d, torch.nn.ConvTranspose3d)
    # The last one is the head.
    assert [sum(isinstance(module, kind) for module in network.modules()) for kind in kinds] == [9 + 1, 9, 2]


def test_the_published_unet_joins_each_level_with_its_encoder() -> None:
    network = build_network(component("Unet", nf_enc="3,5,7", nf_dec="7,6,5,4,3,2"))
    weights = {name: value for name, value in network.state_dict().items() if value.ndim == 5}
    biases = {name: value for name, value in network.state_dict().items() if value.ndim == 1}

    def layer(name: str, image: torch.Tensor, stride: int) -> torch.Tensor:
        weight, bias = weights[f"{name}.conv.weight"], biases[f"{name}.conv.bias"]
        return functional.leaky_relu(functional.conv3d(image, weight, bias, stride=stride, padding=1), 0.2)

    def join(deep: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        for axis in (2, 3, 4):
            deep = deep.repeat_interleave(2, axis)
        return torch.cat([deep, skip], 1)

    image = torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    first = layer("encoder.0", image, 2)
    second = layer("encoder.1", first, 2)
    deep = layer("decoder.0", layer("encoder.2", second, 2), 1)
    deep = layer("decoder.1", join(deep, second), 1)
    deep = layer("decoder.3", layer("decoder.2", join(deep, first), 1), 1)
    deep = layer("decoder.5", layer("decoder.4", join(deep, image), 1), 1)
    expected = functional.conv3d(deep, weights["head.weight"], biases["head.bias"])
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 6), (4, 4), (2, 2), (7, 7), (1, 1), (11, 1)])
def test_narrow_layers_get_as_many_groups_as_divide_them(channels: int, groups: int) -> None:
    assert count_groups(channels, 8) == groups


def test_group_norm_takes_the_place_of_every_norm() -> None:
    network = build_network(component("SegResnet", init_filters=2, blocks_down=[1, 1], blocks_up=[1]))
    kinds = {type(module) for module in network.modules()}
    assert torch.nn.GroupNorm in kinds
    assert torch.nn.BatchNorm3d not in kinds
    plain = build_network(component("SegResnet", init_filters=2, use_groupnorm=False))
    assert any(isinstance(module, torch.nn.BatchNorm3d) for module in plain.modules())


def test_the_vae_branch_adds_its_share_to_the_loss_in_training_alone() -> None:
    configured = complete_network(
        Component(name="SegResnet", args={"use_vae": True, "blocks_down": [1, 1], "blocks_up": [1]}),
        in_channels=1,
        num_classes=2,
        patch=(16, 16, 8),
    )
    assert configured.args["input_size"] == [16, 16, 8]
    network: Any = build_network(configured).train()
    image = torch.randn(2, 1, 16, 16, 8)
    torch.manual_seed(0)
    network(image)
    torch.manual_seed(0)
    _, expected = network.network(image)
    assert network.extra_loss.item() == pytest.approx(0.1 * expected.item(), rel=1e-4)
    network.extra_loss.backward()
    assert network.network.vae_fc3.weight.grad.abs().sum() > 0
    network.eval()(torch.zeros(1, 1, 24, 24, 16))
    assert network.extra_loss is None


def test_the_vae_branch_needs_one_size() -> None:
    with pytest.raises(ConfigError, match="use_vae binds the network to one patch: give input_size"):
        build_network(component("SegResnet", use_vae=True))
    with pytest.raises(ConfigError, match=r"input_size \[24, 16, 16\] is no multiple of 16"):
        build_network(component("SegResnet", use_vae=True, input_size=[24, 16, 16]))


def test_slices_along_another_axis_are_the_same_network_turned() -> None:
    torch.manual_seed(0)
    along_z = build_network(component("SegAhnet", plane="z")).eval()
    along_x = build_network(component("SegAhnet", plane="x")).eval()
    along_x.load_state_dict({f"network.{name}": value for name, value in along_z.state_dict().items()})
    image = torch.randn(1, 2, 64, 64, 32)
    with torch.inference_mode():
        expected = along_z(image).transpose(2, 4)
        torch.testing.assert_close(along_x(image.transpose(2, 4)), expected)


def resnet_weights() -> dict[str, torch.Tensor]:
    """A 2D ResNet-50 under torchvision's names, by MONAI."""
    from monai.networks.nets import resnet50

    torch.manual_seed(1)
    network = resnet50(spatial_dims=2, n_input_channels=3, num_classes=5, feed_forward=True)
    return {name: value for name, value in network.state_dict().items() if not name.endswith("downsample.0.bias")}


def test_ahnet_begins_from_a_2d_networks_torch_file(tmp_path: Path) -> None:
    weights = resnet_weights()
    torch.save({"state_dict": weights}, tmp_path / "resnet50.pth")
    model = read_network(component("SegAhnet", pretrain_weight_name=str(tmp_path / "resnet50.pth")))
    network = model.build()
    report = model.load_pretrained(network)
    filled = network.state_dict()
    # A kernel within a slice answers every slice as the 2D kernel does.
    slices = torch.randn(1, 64, 12, 12, 4)
    ours = functional.conv3d(slices, filled["layer1.0.conv1.weight"])
    torch.testing.assert_close(ours[..., 2], functional.conv2d(slices[..., 2], weights["layer1.0.conv1.weight"]))
    # Three colours become three neighbouring slices.
    torch.testing.assert_close(filled["conv1.weight"][:, 1, :, :, 2], weights["conv1.weight"][:, 2])
    torch.testing.assert_close(filled["bn0.running_var"], weights["bn1.running_var"])
    torch.testing.assert_close(filled["layer2.0.downsample.2.weight"], weights["layer2.0.downsample.1.weight"])
    tensors = sum(name.startswith(("conv1.", "bn0.", "layer")) for name in filled)
    assert f": {tensors} of the network's {len(filled)} tensors taken, 2 left aside" in report


def test_densenet_keeps_its_answer_to_grey_images(tmp_path: Path) -> None:
    grey, colour = (read_network(component("DenseNet121", in_channels=n)).build() for n in (1, 3))
    renamed = {name.replace(".layers.", "."): value for name, value in colour.state_dict().items()}
    torch.save(renamed, tmp_path / "densenet.pth")
    model = read_network(component("DenseNet121", in_channels=1, pretrain_weight_name=str(tmp_path / "densenet.pth")))
    assert "727 of the network's 727 tensors taken, 0 left aside" in model.load_pretrained(grey)
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(grey.eval()(image), colour.eval()(image.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-4)


def run_residual_network(state: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """What a ResNet of torchvision's names and form answers, written down with torch's functions alone."""

    def convolve(x: torch.Tensor, name: str, norm: str, stride: int) -> torch.Tensor:
        kernel = state[f"{name}.weight"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, var, weight, bias = (state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, weight, bias)

    x = functional.relu(convolve(image, "conv1", "bn1", 2))
    x = functional.max_pool2d(x, 3, 2, 1)
    for block in dict.fromkeys(name.rpartition(".conv1")[0] for name in state if ".conv1." in name):
        stride = 2 if block.endswith(".0") and not block.startswith("layer1") else 1
        convolutions = 3 if f"{block}.conv3.weight" in state else 2
        strides = (1, stride, 1) if convolutions == 3 else (stride, 1)
        y = x
        for n, step in enumerate(strides, 1):
            y = convolve(y, f"{block}.conv{n}", f"{block}.bn{n}", step)
            y = functional.relu(y) if n < convolutions else y
        if f"{block}.downsample.0.weight" in state:
            x = convolve(x, f"{block}.downsample.0", f"{block}.downsample.1", stride)
        x = functional.relu(x + y)
    return functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_resnet_is_torchvisions(block: str) -> None:
    args = {"layers": [1, 2, 1, 1], "filters": [4, 8, 8, 16], "block": block, "in_channels": 1, "num_classes": 3}
    torch.manual_seed(0)
    network = build_network(component("ResNet", **args))
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    image = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        expected = run_residual_network(network.state_dict(), image)
        torch.testing.assert_close(network.eval()(image), expected, rtol=1e-4, atol=1e-5)


def test_members_are_judged_apart_and_answer_together() -> None:
    args = {"layers": [1, 1, 1, 1], "filters": [4, 4, 8, 8], "members": 3, "in_channels": 1, "num_classes": 2}
    torch.manual_seed(0)
    network = build_network(component("ResNet", **args))
    image, label = torch.randn(2, 1, 64, 64), torch.tensor([[0, 1], [1, 0]])
    answers = network(image)
    assert [tuple(answer.shape) for answer in answers] == [(2, 2)] * 3
    loss = create("loss", Component(name="BinaryClassificationLoss")).build("sigmoid")
    apart = [loss(answer, label) for answer in answers]
    torch.testing.assert_close(judge_levels(loss)(answers, label), torch.stack(apart).mean())
    with torch.inference_mode():
        network.eval()
        single = torch.stack([member(image) for member in network.get_submodule("members").children()])
        assert (single[0] - single[1]).abs().max() > 1e-3
        torch.testing.assert_close(network(image), single.mean(0))


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("", "^$"),
        ("/nowhere/resnet50_weights_tf_dim_ordering_tf_kernels.h5", "TensorFlow's weights can't be read"),
        ("/nowhere/resnet50.pth", "no such file; training begins from fresh weights"),
    ],
)
def test_weights_that_are_not_there_leave_fresh_ones(name: str, report: str) -> None:
    model = read_network(component("SegAhnet", pretrain_weight_name=name))
    assert re.search(report, model.load_pretrained(torch.nn.Identity()))


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_text("no weights")
    for name, message in (("other", "none of its 1 tensors fits"), ("broken", "no torch file of weights")):
        model = read_network(component("DenseNet121", pretrain_weight_name=str(tmp_path / f"{name}.pth")))
        with pytest.raises(DataError, match=message):
            model.load_pretrained(model.build())


@pytest.mark.parametrize(
    ("name", "args", "size"),
    [
        ("Unet", {"nf_enc": "4,8", "nf_dec": "8,8,4,4"}, (16, 16, 16)),
        (
            "SegResnet",
            {"blocks_down": [1, 1], "blocks_up": [1], "use_vae": True, "input_size": [16, 16, 16]},
            (16,) * 3,
        ),
        ("PlainUnet", {"nf_enc": [4, 8, 8]}, (16, 16, 16)),
        (
            "ResidualEncoderUNet",
            {
                "features_per_stage": [4, 8, 8],
                "kernel_sizes": [[3, 3, 3]] * 3,
                "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
                "n_blocks_per_stage": [1, 2, 2],
                "n_conv_per_stage_decoder": [1, 1],
                "norm": "instance",
                "activation": "LeakyReLU",
            },
            (16, 16, 16),
        ),
        ("SegAhnet", {}, (64, 64, 32)),
        ("DenseNet121", {}, (64, 64)),
    ],
)
def test_every_weight_is_learnt(name: str, args: dict[str, object], size: tuple[int, ...]) -> None:
    """Several processes wait for the gradient of every weight that is to be learnt."""
    network: Any = build_network(component(name, **args)).train()
    loss = network(torch.randn(2, 2, *size)).square().mean()
    (loss + (getattr(network, "extra_loss", None) or 0)).backward()
    assert not [key for key, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]


def test_a_plain_unet_computes_a_single_slice_in_two_dimensions_as_it_computes_it_in_a_volume() -> None:
    flat = {"strides": [[2, 2, 1], [2, 2, 1]], "kernels": [[3, 3, 1]] * 3}
    network = build_network(component("PlainUnet", nf_enc=[4, 8, 8], **flat)).eval()
    image = torch.randn(1, 2, 16, 24, 3)
    with torch.inference_mode():
        slices = torch.cat([network(image[..., k : k + 1]) for k in range(3)], -1)
        assert torch.allclose(network(image), slices, atol=1e-5)
        # A program that was traced of one slice takes several.
        traced: Any = torch.jit.trace(network, image[..., :1])  # type: ignore[no-untyped-call]
        assert torch.allclose(traced(image), slices, atol=1e-5)
