"""Networks: shapes, strides, and arguments that contradict themselves."""

from __future__ import annotations

import pytest
import torch

from voxflow.components import Component, build_network, complete_network, read_network
from voxflow.errors import ConfigError


def component(name: str, **args: object) -> Component:
    return complete_network(Component(name=name, args=args), in_channels=2, num_classes=3)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Unet", {"nf_enc": "4,8,16"}),
        ("Unet", {"nf_enc": [4, 8, 16], "strides": [[2, 2, 1], 2], "use_batch_norm": True}),
        ("Unet", {"nf_enc": [8, 8], "nf_dec": [8], "use_group_norm": True, "residual_units": 0}),
        ("SegResnet", {"init_filters": 4, "blocks_down": [1, 1], "blocks_up": [1]}),
    ],
)
def test_volumes_keep_their_size_and_get_a_channel_a_class(name: str, args: dict[str, object]) -> None:
    made = component(name, **args)
    size = [2 * read_network(made).divisor] * 3
    assert build_network(made)(torch.zeros(1, 2, *size)).shape == (1, 3, *size)


def test_ahnet_keeps_the_size_and_gets_a_channel_a_class() -> None:
    made = component("SegAhnet", if_use_psp=False, plane="z", n_spatial_dim=3)
    assert build_network(made).eval()(torch.zeros(1, 2, 64, 64, 32)).shape == (1, 3, 64, 64, 32)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("DenseNet", {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]}),
        ("DenseNet121", {"weight_decay": 1e-5, "data_format": "channels_last", "pretrain_weight_name": ""}),
    ],
)
def test_radiographs_get_a_logit_a_finding(name: str, args: dict[str, object]) -> None:
    made = component(name, **args)
    assert build_network(made).eval()(torch.zeros(1, 2, 64, 64)).shape == (1, 3)
    assert read_network(made).final_activation == "sigmoid"


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
        ({"nf_enc": [4, 8, 16], "nf_dec": [4, 8]}, r"nf_dec must mirror nf_enc: \[8, 4\], received \[4, 8\]"),
        ({"nf_enc": [4, 8], "strides": [2, 2]}, "2 levels need 1 strides, not 2"),
        ({"use_batch_norm": True, "use_group_norm": True}, "exclude each other"),
    ],
)
def test_contradictions_are_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_network(component("Unet", **args))
