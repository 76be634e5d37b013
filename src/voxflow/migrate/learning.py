"""Translation of losses, optimizers, learning-rate policies and inferers to MONAI's and torch's classes.

Policies are stated by the iteration, as Voxflow steps them; ``@total_steps`` is the bundle's own count of iterations.
"""

from __future__ import annotations

from typing import Any

from voxflow.migrate.translation import Args, Facts, Node, Translation, approximate, exact, node, translator


@translator("loss", "Dice", "dice_loss")
def _dice(args: Args, facts: Facts) -> Translation:
    return exact(node("DiceLoss", **_overlap(args, facts)))


@translator("loss", "DiceCE")
def _dice_ce(args: Args, facts: Facts) -> Translation:
    weights = {"lambda_dice": args.get("lambda_dice", 1.0), "lambda_ce": args.get("lambda_ce", 1.0)}
    return exact(node("DiceCELoss", **_overlap(args, facts), batch=args.get("batch", False), **weights))


def _overlap(args: Args, facts: Facts) -> dict[str, Any]:
    return {
        "include_background": not args.get("skip_background", False),
        "to_onehot_y": not facts.one_hot,
        "softmax": facts.activation == "softmax",
        "sigmoid": facts.activation == "sigmoid",
        "squared_pred": args.get("squared_pred", False),
        "smooth_nr": args.get("smooth", 1e-5),
        "smooth_dr": args.get("smooth", 1e-5),
    }


@translator("loss", "Focal")
def _focal(args: Args, facts: Facts) -> Translation:
    loss = node(
        "FocalLoss",
        include_background=not args.get("skip_background", False),
        to_onehot_y=not facts.one_hot,
        use_softmax=facts.activation == "softmax",
        gamma=args.get("gamma", 2.0),
    )
    return approximate("MONAI leaves a skipped background out of the softmax, too", loss)


@translator("loss", "BinaryClassificationLoss", "MulticlassClassificationLoss", "classification_loss")
def _classification(args: Args, facts: Facts) -> Translation:
    if any(classes > 1 for classes in facts.label_format):
        return _multiclass(args, facts)
    smoothing = float(args.get("label_smoothing", 0.0))
    # The label is pulled towards one half, as Voxflow's own loss does: 1 becomes 1 - s/2, and 0 becomes s/2.
    target = f"label.float().clamp(0, 1) * {1 - smoothing} + {smoothing / 2}"
    element_loss = f"torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), {target}, reduction='none')"
    # A negative label is an unknown finding; torch's own class would learn from it.
    known, least = "(label >= 0)", 1.0
    if args.get("positive_weights"):
        weights = list(args["positive_weights"])
        known, least = f"(torch.where(label > 0, torch.tensor({weights}, device=label.device), 1.0) * {known})", 1e-6
    rule = f"$lambda logits, label: ({element_loss} * {known}).sum() / {known}.sum().clamp(min={least:g})"
    return Translation(expression=rule)


def _multiclass(args: Args, facts: Facts) -> Translation:
    if len(facts.label_format) > 1:
        return Translation(verdict="not carried", why="several columns of classes have no loss in MONAI")
    smoothing = f"label_smoothing={args.get('label_smoothing', 0.0)}"
    rule = f"torch.nn.functional.cross_entropy(logits.float(), label[:, 0].long(), {smoothing})"
    return Translation(expression=f"$lambda logits, label: {rule}")


@translator("optimizer", "Adam")
def _adam(args: Args, facts: Facts) -> Translation:
    return exact(_optimizer("torch.optim.Adam", args, facts))


@translator("optimizer", "AdamW")
def _adamw(args: Args, facts: Facts) -> Translation:
    return exact(_optimizer("torch.optim.AdamW", args, facts))


@translator("optimizer", "NovoGrad")
def _novograd(args: Args, facts: Facts) -> Translation:
    betas = [args.get("beta1", 0.95), args.get("beta2", 0.99)]
    average = args.get("grad_averaging", False)
    return exact(_optimizer("Novograd", args, facts, betas=betas, grad_averaging=average))


def _optimizer(target: str, args: Args, facts: Facts, **more: Any) -> Node:
    decay = args.get("weight_decay", facts.weight_decay)
    rate = args["lr"] if "lr" in args and args["lr"] != facts.learning_rate else "@learning_rate"
    return node(target, params="$@network.parameters()", lr=rate, weight_decay=decay, **more)


@translator("lr_policy", "DecayOnStep")
def _decay(args: Args, facts: Facts) -> Translation:
    return exact(_scheduler("StepLR", step_size=args["decay_freq"], gamma=args["decay_ratio"]))


@translator("lr_policy", "ReducePoly", "ReduceLR_Poly")
def _poly(args: Args, facts: Facts) -> Translation:
    power = args.get("poly_power", 0.9)
    return exact(_scheduler("PolynomialLR", total_iters="@total_steps", power=power))


@translator("lr_policy", "ReduceCosine")
def _cosine(args: Args, facts: Facts) -> Translation:
    share = f"min(1.0, step / (@total_steps * {args.get('rate', 1.0)}))"
    rule = f"$lambda step: (1 + math.cos(math.pi * {share})) / 2"
    return exact(_scheduler("LambdaLR", lr_lambda=rule))


@translator("lr_policy", "OneCycle")
def _one_cycle(args: Args, facts: Facts) -> Translation:
    warmup, start, end = args.get("warmup", 0.3), args.get("start", 0.04), args.get("end", 4e-6)
    peak = f"max({warmup} * @total_steps - 1, 1e-9)"
    up = f"1 + ({start} - 1) * (1 + math.cos(math.pi * step / {peak})) / 2"
    share = f"min(1.0, (step - {peak}) / max(@total_steps - 1 - {peak}, 1e-9))"
    down = f"{end} + (1 - {end}) * (1 + math.cos(math.pi * {share})) / 2"
    return exact(_scheduler("LambdaLR", lr_lambda=f"$lambda step: {up} if step <= {peak} else {down}"))


def _scheduler(target: str, **args: Any) -> Node:
    return node(f"torch.optim.lr_scheduler.{target}", optimizer="@optimizer", **args)


@translator("inferer", "TFScanWindowInferer")
def _windows(args: Args, facts: Facts) -> Translation:
    windows = {"roi_size": args["roi_size"], "sw_batch_size": args.get("batch_size", 1)}
    return exact(node("SlidingWindowInferer", **windows, overlap=args.get("overlap", 0.25), mode="gaussian"))


@translator("inferer", "TFSimpleInferer")
def _whole(args: Args, facts: Facts) -> Translation:
    return exact(node("SimpleInferer"))
