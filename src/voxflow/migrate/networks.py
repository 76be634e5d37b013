"""Owns the networks in MONAI's words: what ``build`` of :mod:`voxflow.components.networks` builds, as a node."""

from __future__ import annotations

from typing import Any

from voxflow.migrate.translation import Args, Facts, Translation, approximate, exact, node, translates


@translates("network", "Unet")
def _unet(args: Args, facts: Facts) -> Translation:
    filters = _filters(args.get("nf_enc", [16, 32, 64, 128]))
    steps = args.get("strides") or [2] * (len(filters) - 1)
    norm: Any = "instance"
    if args.get("use_group_norm"):
        norm = ["group", {"num_groups": min(8, filters[0])}]
    elif args.get("use_batch_norm"):
        norm = "batch"
    made = node(
        "UNet",
        spatial_dims=3,
        in_channels=facts.in_channels,
        out_channels=facts.classes,
        channels=filters,
        strides=[step if isinstance(step, list) else [step] * 3 for step in steps],
        num_res_units=args.get("residual_units", 2),
        norm=norm,
        dropout=args.get("dropout", 0.0),
    )
    return exact(made)


@translates("network", "SegResnet", "SegmResnet")
def _segresnet(args: Args, facts: Facts) -> Translation:
    filters = args.get("init_filters", 8)
    group = ["group", {"num_groups": min(8, filters)}]
    made = node(
        "SegResNet",
        spatial_dims=3,
        init_filters=filters,
        in_channels=facts.in_channels,
        out_channels=facts.classes,
        dropout_prob=args.get("dropout_prob") or None,
        norm=group if args.get("use_groupnorm", True) else "batch",
        blocks_down=args.get("blocks_down", [1, 2, 2, 4]),
        blocks_up=args.get("blocks_up", [1, 1, 1]),
    )
    if args.get("use_vae"):
        return approximate("without the autoencoder branch, which takes part in training only", made)
    return exact(made)


@translates("network", "SegAhnet")
def _ahnet(args: Args, facts: Facts) -> Translation:
    made = node(
        "AHNet",
        spatial_dims=3,
        in_channels=facts.in_channels,
        out_channels=facts.classes,
        psp_block_num=4 if args.get("if_use_psp") else 0,
        upsample_mode="trilinear",
    )
    if args.get("pretrain_weight_name"):
        return approximate("pretrain_weight_name is no torch file, so that training begins from fresh weights", made)
    return exact(made)


@translates("network", "DenseNet121", "Densenet121")
def _densenet121(args: Args, facts: Facts) -> Translation:
    made = node(
        "DenseNet121",
        spatial_dims=2,
        in_channels=facts.in_channels,
        out_channels=facts.classes,
        dropout_prob=args.get("dropout", 0.0),
    )
    if args.get("pretrain_weight_name"):
        return approximate("pretrain_weight_name is no torch file, so that training begins from fresh weights", made)
    return exact(made)


@translates("network", "DenseNet")
def _densenet(args: Args, facts: Facts) -> Translation:
    made = node(
        "DenseNet",
        spatial_dims=2,
        in_channels=facts.in_channels,
        out_channels=facts.classes,
        init_features=args.get("init_features", 32),
        growth_rate=args.get("growth_rate", 16),
        block_config=args.get("block_config", [4, 8, 8, 4]),
        dropout_prob=args.get("dropout", 0.0),
    )
    return exact(made)


def _filters(value: Any) -> list[int]:
    return [int(part) for part in value.split(",")] if isinstance(value, str) else list(value)
