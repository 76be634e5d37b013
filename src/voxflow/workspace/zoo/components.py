"""Makes the parts of a configuration that are repeated for each class: metrics, writers, the names of their fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxflow.workspace.zoo.models import Json, Recipe, ZooModel

EVALUATION = "{MMAR_EVAL_OUTPUT_PATH}"


def fill_values(model: ZooModel, recipe: Recipe) -> dict[str, Any]:
    """Compute what the holes of the family's base configurations become.

    Args:
        model: classes and data.
        recipe: the published one, or the small one for a CPU.

    Returns:
        Values by hole: the recipe's own fields, and the lists that have one item a class.
    """
    values: dict[str, Any] = {
        **recipe.model_dump(mode="json"),
        "classes": model.classes,
        "outputs": list(model.outputs),
        "batched": recipe.patches > 1,
        "intensity": recipe.intensity or _choose_intensity(model),
    }
    if model.family == "chestxray":
        areas = _make_areas(model, "binary_preds", "binary_labels")
        training_metrics = [_make_average("mean_accuracy", "accuracy"), *areas]
        return values | {"training_metrics": training_metrics, "metrics": _make_areas(model, "model", "label")}
    # Where one class excludes the others, the background is a channel and a file, too.
    indices = range(len(model.outputs) + 1) if model.family == "volume" else ()
    predictions = [f"pred_class{index}" for index in indices] or list(model.outputs)
    truths = [f"label_class{index}" for index in indices] or [f"{name}_label" for name in model.outputs]
    tags = ["dice", *(f"dice_{name.lower()}" for name in model.outputs)]
    # With one class, its Dice is the mean.
    tags = tags[:1] if len(model.outputs) == 1 else tags
    written = [*predictions, "model"] if model.family == "volume" else predictions
    pairs = zip(model.outputs, predictions[-len(model.outputs) :], truths[-len(model.outputs) :], strict=True)
    return values | {
        "predictions": predictions,
        "truths": truths,
        "written": written,
        "writers": [_make_writer(field) for field in written],
        "metrics": [_make_dice(model, *pair) for pair in pairs],
        "dice_tags": tags,
        "training_metrics": [_make_average(f"mean_{tag}", tag, is_key_metric=tag == "dice") for tag in tags],
    }


def _choose_intensity(model: ZooModel) -> Json:
    """The modality's own: a Hounsfield window, or mean 0 and deviation 1 of what is not 0."""
    if model.hounsfield is None:
        return {"name": "NormalizeNonzeroIntensities", "args": {"fields": "image"}}
    low, high = model.hounsfield
    window = {"fields": "image", "a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return {"name": "ScaleIntensityRange", "args": window}


def _make_dice(model: ZooModel, name: str, prediction: str, truth: str) -> Json:
    args = {
        "name": "mean_dice" if len(model.outputs) == 1 else f"mean_dice_{name.lower()}",
        "field": prediction,
        "label_field": truth,
        "report_path": EVALUATION,
    }
    return {"name": "ComputeAverageDice", "args": args}


def _make_writer(field: str) -> Json:
    return {"name": "WriteNifti", "args": {"field": field, "dtype": "uint8", "write_path": EVALUATION}}


def _make_average(name: str, field: str, *, is_key_metric: bool = False) -> Json:
    key = {"is_key_metric": True} if is_key_metric else {}
    return {"name": "ComputeAverage", "args": {"name": name, "field": field, **key}}


def _make_areas(model: ZooModel, field: str, label_field: str) -> list[Json]:
    """The AUC over all findings, which is the key metric, and that of each."""
    fields = {"field": field, "label_field": label_field}
    mean = {"name": "Average_AUC", **fields, "auc_average": "macro", "is_key_metric": True}
    by_class = [{"name": name, "class_index": index, **fields} for index, name in enumerate(model.outputs)]
    return [{"name": "ComputeAUC", "args": args} for args in (mean, *by_class)]
