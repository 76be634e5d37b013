"""Translation of networks: the node that builds in MONAI what ``build`` of :mod:`voxflow.components` builds here.

What MONAI has no class for is a few lines of torch below ``voxflow/components/networks/modules``; the bundle gets that
file in its folder scripts/, as bundles of the model zoo carry code of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from voxflow.components import Component, read_network
from voxflow.migrate.translation import Args, Facts, Node, Translation, approximate, exact, node, translator

if TYPE_CHECKING:
    from voxflow.components import DenseNet, PlainUnetNetwork, RadiographNetwork, ResNet, SegAhnet, SegResnet, Unet

SCRIPTS = "scripts."


@translator("network", "Unet")
def _unet(args: Args, facts: Facts) -> Translation:
    typed = cast("Unet", read_network(Component(name="Unet", args=args)))
    norm = "batch" if typed.use_batch_norm or typed.use_group_norm else None
    if typed.is_mirrored:
        network = node(
            "UNet",
            spatial_dims=3,
            in_channels=facts.in_channels,
            out_channels=facts.classes,
            channels=list(typed.nf_enc),
            strides=[list(step) for step in typed.steps],
            num_res_units=typed.residual_units,
            norm=norm or "instance",
            dropout=typed.dropout,
        )
    else:
        decoder = list(typed.nf_dec or ())
        sizes = {"in_channels": facts.in_channels, "classes": facts.classes}
        network = node(f"{SCRIPTS}skip_unet.SkipUnet", **sizes, encoder=list(typed.nf_enc), decoder=decoder, norm=norm)
    return exact(_with_group_norm(network, typed))


@translator("network", "PlainUnet")
def _plain_unet(args: Args, facts: Facts) -> Translation:
    typed = cast("PlainUnetNetwork", read_network(Component(name="PlainUnet", args=args)))
    sizes = {"in_channels": facts.in_channels, "classes": facts.classes}
    network = node(f"{SCRIPTS}plain_unet.PlainUnet", **sizes, **typed.layout)
    why = "a training in MONAI judges the finest level alone"
    return approximate(why, network) if typed.supervised_levels else exact(network)


@translator("network", "SegResnet", "SegmResnet")
def _segresnet(args: Args, facts: Facts) -> Translation:
    typed = cast("SegResnet", read_network(Component(name="SegResnet", args=args)))
    network = node(
        "SegResNetVAE" if typed.use_vae else "SegResNet",
        spatial_dims=3,
        init_filters=typed.init_filters,
        in_channels=facts.in_channels,
        out_channels=facts.classes,
        dropout_prob=typed.dropout_prob or None,
        norm="batch",
        blocks_down=list(typed.blocks_down),
        blocks_up=list(typed.blocks_up),
    )
    if not typed.use_vae:
        return exact(_with_group_norm(network, typed))
    from voxflow.components import VAE_WEIGHT

    network |= {"input_image_size": list(typed.input_size or facts.patch or ()), "vae_estimate_std": False}
    wrapped = node(f"{SCRIPTS}wrappers.WithVae", network=network, weight=VAE_WEIGHT)
    return approximate("MONAI's trainer does not add the autoencoder branch's loss", _with_group_norm(wrapped, typed))


def _with_group_norm(network: Node, typed: Unet | SegResnet) -> Node:
    """Group norm in the place of batch norm, with fewer groups where a layer is too narrow for them."""
    if not typed.use_group_norm:
        return network
    return node(f"{SCRIPTS}norms.with_group_norm", network=network, groups=typed.use_group_normG)


@translator("network", "SegAhnet")
def _ahnet(args: Args, facts: Facts) -> Translation:
    from voxflow.components import AHNET_AXES

    typed = cast("SegAhnet", read_network(Component(name="SegAhnet", args=args)))
    network = node(
        "AHNet",
        spatial_dims=typed.n_spatial_dim,
        in_channels=facts.in_channels,
        out_channels=facts.classes,
        psp_block_num=4 if typed.if_use_psp else 0,
        upsample_mode="trilinear" if typed.n_spatial_dim == 3 else "bilinear",
    )
    # MONAI's AHNet takes its slices along the last axis only.
    if typed.plane != "z":
        network = node(f"{SCRIPTS}wrappers.AcrossAxis", network=network, axis=AHNET_AXES[typed.plane])
    return _note_fresh_weights(network, typed.pretrain_weight_name)


@translator("network", "DenseNet121", "Densenet121")
def _densenet121(args: Args, facts: Facts) -> Translation:
    typed = cast("RadiographNetwork", read_network(Component(name="DenseNet121", args=args)))
    network = node("DenseNet121", **_classifier(facts), dropout_prob=typed.dropout)
    return _note_fresh_weights(network, typed.pretrain_weight_name)


@translator("network", "DenseNet")
def _densenet(args: Args, facts: Facts) -> Translation:
    typed = cast("DenseNet", read_network(Component(name="DenseNet", args=args)))
    layers = {"init_features": typed.init_features, "growth_rate": typed.growth_rate}
    blocks = list(typed.block_config)
    network = node("DenseNet", **_classifier(facts), **layers, block_config=blocks, dropout_prob=typed.dropout)
    return _note_fresh_weights(network, typed.pretrain_weight_name)


@translator("network", "ResNet")
def _resnet(args: Args, facts: Facts) -> Translation:
    typed = cast("ResNet", read_network(Component(name="ResNet", args=args)))
    sizes = {"spatial_dims": 2, "n_input_channels": facts.in_channels, "num_classes": facts.classes}
    levels = {"layers": list(typed.layers), "block_inplanes": list(typed.filters)}
    network = node("ResNet", block=typed.block, **levels, **sizes, conv1_t_stride=2, bias_downsample=False)
    if typed.members == 1:
        return _note_fresh_weights(network, typed.pretrain_weight_name)
    together = node(f"{SCRIPTS}members.Members", networks=[network] * typed.members, judged_apart=False)
    return approximate("a training in MONAI judges the members' mean, not each by itself", together)


def _classifier(facts: Facts) -> dict[str, Any]:
    return {"spatial_dims": 2, "in_channels": facts.in_channels, "out_channels": facts.classes}


def _note_fresh_weights(network: Node, weights: str) -> Translation:
    if weights:
        return approximate("a training begins from fresh weights, not from pretrain_weight_name", network)
    return exact(network)


def find_scripts(content: Any) -> set[str]:
    """Find the modules of the bundle's folder scripts/ that a network needs.

    Args:
        content: the network's node, or any value inside it.
    """
    if not isinstance(content, dict):
        return set()
    target = str(content.get("_target_", ""))
    modules = {target.split(".")[1]} if target.startswith(SCRIPTS) else set()
    return modules.union(*(find_scripts(value) for value in content.values()))
