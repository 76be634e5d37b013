"""Translation of metrics and auxiliary operations to MONAI's and ignite's classes.

In the bundle a metric reads ``pred`` and ``label`` after postprocessing: one channel a class, 0 or 1, or a probability
a finding.
"""

from __future__ import annotations

from voxflow.migrate.translation import Args, Facts, Translation, approximate, exact, node, translator

PREDICTION_AND_LABEL = "$monai.handlers.from_engine(['pred', 'label'])"


@translator("metric", "ComputeAverageDice", "MetricAverageFromArrayDice")
def _dice(args: Args, facts: Facts) -> Translation:
    metric = node(
        "MeanDice", include_background=facts.activation == "sigmoid", output_transform=PREDICTION_AND_LABEL
    )  # fmt: skip
    why = "a class that is only predicted is left out where Voxflow counts 0"
    if facts.classes > 2:
        why += "; classes are averaged before cases"
    return approximate(why, metric)


@translator("metric", "ComputeAUC", "MetricAUC")
def _auc(args: Args, facts: Facts) -> Translation:
    index = args.get("class_index")
    pairs = PREDICTION_AND_LABEL
    if index is not None:
        channel = f"[{index}:{index} + 1]"
        pairs = f"$lambda x: ([i['pred']{channel} for i in x], [i['label']{channel} for i in x])"
    metric = node("ROCAUC", average=args.get("auc_average", "macro"), output_transform=pairs)
    return approximate("a finding that all cases share makes MONAI's average undefined; Voxflow leaves it out", metric)


@translator("metric", "ComputeAverage", "MetricAverage")
def _average(args: Args, facts: Facts) -> Translation:
    field = str(args.get("field", args.get("applied_key", "model")))
    if field in facts.dice_fields:
        return _masked_dice(facts.dice_fields[field], facts)
    if facts.task != "classification":
        return Translation(verdict="not carried", why=f"a mean of {field!r}, which only Voxflow's own operations make")
    right = "((i['pred'] > 0.5) == (i['label'] > 0.5)).float().mean().item()"
    if facts.activation == "softmax":
        right = "float(i['pred'].argmax() == i['label'].argmax())"
    mean = f"$lambda x: sum({right} for i in x) / len(x)"
    return approximate("the accuracy, averaged by batch", node("ignite.metrics.Average", output_transform=mean))


@translator("aux_op", "ComputeAccuracy", "compute_accuracy", "ComputeBinaryPreds")
@translator("aux_op", "DiceMaskedOutput", "dice_metric_masked_output", "NegLoss")
def _auxiliary(args: Args, facts: Facts) -> Translation:
    return exact(why="nothing to do: metrics of the bundle read the postprocessed prediction and label themselves")


def _masked_dice(channel: int | None, facts: Facts) -> Translation:
    """The Dice of one channel, or the mean of all that are judged; classes that a case lacks are left out."""
    if channel is None:
        metric = node("MeanDice", include_background=facts.dice_background, output_transform=PREDICTION_AND_LABEL)
        return exact(metric)
    channel_slice = f"[{channel}:{channel} + 1]"
    pairs = f"$lambda x: ([i['pred']{channel_slice} for i in x], [i['label']{channel_slice} for i in x])"
    return exact(node("MeanDice", include_background=True, output_transform=pairs))
