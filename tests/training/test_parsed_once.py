"""A component of a configuration is parsed once, by the reader of its dialect; check and training take that object."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from voxflow.components import Component, ComponentModel, build_transform, create
from voxflow.config import load_workflow
from voxflow.lint import check_workspace
from voxflow.planning import find_target
from voxflow.training import DataFacts
from voxflow.training.plan import TrainingPlan

if TYPE_CHECKING:
    from voxflow.config import Workflow

ROOT = Path(__file__).resolve().parents[2]
SPLEEN4 = ROOT / "tests/config/clara4/segmentation_ct_spleen.json"
PLACES4 = {
    "DATASET_JSON": "list.json",
    "DATA_ROOT": "data",
    "MMAR_CKPT_DIR": "models",
    "TRAIN_DATALIST_KEY": "training",
    "VAL_DATALIST_KEY": "validation",
}
CLASSES = {"spleen_demo": ("background", "spleen"), "chestxray_demo": ("nodule", "effusion", "consolidation")}


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each class of components is parsed, by its name in the registry."""
    counts: Counter[str] = Counter()
    parse: Any = vars(BaseModel)["model_validate_json"].__func__

    def count(cls: type[ComponentModel], *args: Any, **keywords: Any) -> Any:
        counts[cls.component_name()] += 1
        return parse(cls, *args, **keywords)

    monkeypatch.setattr(ComponentModel, "model_validate_json", classmethod(count))
    return counts


def components_of(workflow: Workflow) -> list[Component]:
    values = [*vars(workflow.train).values(), *vars(workflow.validate).values()]
    items = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
    return [item for item in items if isinstance(item, Component)]


@pytest.mark.parametrize("name", CLASSES)
def test_check_and_training_parse_each_component_of_a_demo_once(
    name: str, parses: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    target = dataclasses.replace(find_target(name), evaluation=None)
    workflow = check_workspace(target).require_workflow()
    plan = TrainingPlan.build(workflow, DataFacts(class_names=CLASSES[name]))
    components = components_of(workflow)
    assert len(components) > 8
    assert parses == Counter(component.name for component in components)
    assert plan.network is workflow.train.model.typed
    assert plan.metrics == tuple(metric.typed for metric in workflow.validate.metrics)


def test_metrics_take_the_parsed_transforms_that_predictions_are_compared_after(parses: Counter[str]) -> None:
    workflow = load_workflow(SPLEEN4, overrides=PLACES4)
    parses.clear()
    metrics: list[Any] = [create("metric", metric) for metric in workflow.validate.metrics]
    built = [build_transform(transform) for metric in metrics for transform in metric.post_transforms]
    assert len(built) >= len(metrics) > 1
    assert not parses


def test_a_changed_component_is_parsed_anew() -> None:
    component = Component(name="Dice")
    typed = ComponentModel()
    assert component.with_typed(typed).typed is typed
    assert component.with_typed(typed).model_copy(update={"args": {"squared_pred": True}}).typed is None


def test_parsed_arguments_make_no_difference_to_comparing_copying_and_pickling() -> None:
    workflow, again = (load_workflow(SPLEEN4, overrides=PLACES4) for _ in range(2))
    assert workflow == again
    assert pickle.loads(pickle.dumps(workflow)) == workflow  # noqa: S301 (written on the line itself)
    deep = copy.deepcopy(workflow)
    assert deep == workflow
    assert deep.train.model.typed is workflow.train.model.typed
    assert deep.train.model.args is not workflow.train.model.args


def test_a_file_can_not_bring_parsed_arguments_along() -> None:
    typed = Component(name="Dice").with_typed(ComponentModel())
    assert typed.model_dump() == Component(name="Dice").model_dump()
    assert Component.model_validate_json(typed.model_dump_json()).typed is None
