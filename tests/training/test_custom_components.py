"""An MMAR whose transforms, network, loss, metric and optimizer are all the user's own: trained, loaded, inferred."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.training.conftest import volume_config
from voxflow.config import load_workflow
from voxflow.engines import TorchEngine
from voxflow.errors import ConfigError
from voxflow.files import write_json
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, load_model, train
from voxflow.training.digests import digest_training

if TYPE_CHECKING:
    from voxflow.config import Workflow
    from voxflow.datalist import Datalist

OWN = {
    "blocks.py": """
import torch

def block(channels_in, channels_out):
    return torch.nn.Sequential(
        torch.nn.Conv3d(channels_in, channels_out, 3, padding=1), torch.nn.InstanceNorm3d(channels_out), torch.nn.ReLU()
    )
""",
    "nets.py": """
import torch
from custom.blocks import block

class Flat(torch.nn.Module):
    divisor = 4

    def __init__(self, in_channels, num_classes, width=8):
        super().__init__()
        self.body = torch.nn.Sequential(block(in_channels, width), block(width, width))
        self.head = torch.nn.Conv3d(width, num_classes, 1)

    def forward(self, image):
        return self.head(self.body(image))
""",
    "steps.py": """
class Halve:
    def __init__(self, fields, by=2.0):
        self.fields, self.by = [fields] if isinstance(fields, str) else fields, by

    def __call__(self, sample):
        for field in self.fields:
            sample[field] /= self.by
        return sample

class Brighten:
    def __call__(self, sample, rng):
        sample["image"] += rng.normal(0, 0.05)
        return sample
""",
    "measures.py": """
import torch

class WeightedEntropy(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.entropy = torch.nn.CrossEntropyLoss(weight=torch.tensor(weight))

    def forward(self, logits, label):
        return self.entropy(logits, label[:, 0].long())

class Agreement:
    def __init__(self):
        self.right, self.all = 0, 0

    def update(self, prediction, label):
        same = prediction.argmax(1) == label[:, 0]
        self.right, self.all = self.right + int(same.sum()), self.all + same.numel()

    def compute(self):
        return self.right / self.all

class Plain(torch.optim.AdamW):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
""",
}


@pytest.fixture
def mmar(tmp_path: Path) -> Path:
    folder = tmp_path / "mmar"
    (folder / "custom").mkdir(parents=True)
    for name, text in OWN.items():
        (folder / "custom" / name).write_text(text, encoding="utf-8")
    config = volume_config()
    halve = {"path": "custom.steps.Halve", "args": {"fields": "image"}}
    training, validation = config["train"], config["validate"]
    training["pre_transforms"] = [*training["pre_transforms"][:2], halve, training["pre_transforms"][2]]
    training["pre_transforms"].append({"path": "steps.Brighten"})
    validation["pre_transforms"] = [*validation["pre_transforms"], halve]
    training["model"] = {"path": "custom.nets.Flat", "args": {"width": 6}}
    training["loss"] = {"path": "custom.measures.WeightedEntropy", "args": {"weight": [1.0, 3.0]}}
    training["optimizer"] = {"path": "measures.Plain"}
    agreement = {"path": "measures.Agreement", "args": {"name": "agreement", "is_key_metric": True}}
    validation["metrics"] = [agreement, *validation["metrics"]]
    validation["metrics"][1]["args"] |= {"is_key_metric": False}
    (folder / "config").mkdir()
    write_json(folder / "config" / "config_train.json", config)
    return folder


def read(mmar: Path) -> Workflow:
    return load_workflow(mmar / "config" / "config_train.json", overrides={"DATASET_JSON": "x", "DATA_ROOT": "y"})


def test_a_workspace_of_custom_components_trains_and_infers(
    mmar: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    out = mmar / "models" / "train"
    result = train(read(mmar), cubes, options, out, facts=facts, tracker=NullTracker())
    assert result.key_metric == "agreement"
    assert result.best_metric > 0.9
    assert math.isfinite(result.metrics["mean_dice"])
    network, spec = load_model(out / "model.pt")
    assert type(network).__name__ == "Flat"
    assert [(t.name, t.path) for t in spec.preprocess][-1] == ("Halve", "custom.steps.Halve")
    assert spec.preprocess[-1].custom == mmar / "custom"
    assert spec.divisor == 4
    logits = TorchEngine(out / "model.pt").run(np.zeros((1, 1, 16, 16, 16), np.float32))
    assert logits.shape == (1, 2, 16, 16, 16)

    shutil.move(out / "model.pt", mmar.parent / "model.pt")
    with pytest.raises(ConfigError, match=r"custom.nets.Flat.* is a class of a workspace's own"):
        load_model(mmar.parent / "model.pt")


def test_changed_code_is_another_training_and_a_moved_workspace_is_not(
    mmar: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    def prints() -> dict[str, str]:
        return digest_training(read(mmar), cubes.cases("training"), options, facts)

    first = prints()
    assert prints() == first
    moved = mmar.rename(mmar.with_name("moved"))
    moved_prints = digest_training(read(moved), cubes.cases("training"), options, facts)
    assert moved_prints == first
    (moved / "custom" / "blocks.py").write_text(OWN["blocks.py"].replace("ReLU", "SiLU"))
    assert digest_training(read(moved), cubes.cases("training"), options, facts) != first


def test_a_class_outside_the_folder_is_refused_before_anything_runs(mmar: Path) -> None:
    outside = mmar / "nets.py"
    outside.write_text(OWN["nets.py"], encoding="utf-8")
    (mmar / "custom" / "nets.py").unlink()
    with pytest.raises(ConfigError, match=r"train.model.path: 'custom.nets.Flat': no file custom/nets.py"):
        read(mmar)
    (mmar / "custom" / "nets.py").symlink_to(outside)
    with pytest.raises(ConfigError, match=r"train.model.path: .*leads outside the workspace's custom/ folder"):
        read(mmar)


def test_the_guide_s_example_trains_as_it_is_printed(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    printed = re.findall(r"^`((?:custom|config)/\w+\.\w+)`[^\n]*\n\n```\w+\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert len(printed) == 4
    for name, text in printed:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    result = train(read(tmp_path), cubes, options, tmp_path / "models", facts=facts, tracker=NullTracker())
    assert result.key_metric == "agreement"
    assert math.isfinite(result.train_loss)
