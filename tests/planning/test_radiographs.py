"""What ``plan: auto`` decides for radiographs, and from which files of weights it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.planning.test_layout import LAPTOP, SERVER
from voxflow.components import Component, read_network, recognise_network
from voxflow.config import load_workflow, read_json, set_nested
from voxflow.errors import ConfigError, DataError
from voxflow.files import write_json
from voxflow.planning import RadiographProposal, plan_evaluation, plan_training
from voxflow.planning.radiographs import propose_radiographs
from voxflow.training import TrainOptions
from voxflow.workspace.create import TEMPLATES

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TEMPLATES / "auto_radiographs" / "config" / "config_train.json"


def write_cases(folder: Path, cases: int, *findings: str, every: int = 2) -> Path:
    """A table of as many cases, the last of which is unlabelled; every so many has all findings."""
    folder.mkdir()
    rows = [f"c{n},{','.join([str(int(n % every == 0))] * len(findings))}" for n in range(cases - 1)]
    header = f"case,{','.join(f'finding:{name}' for name in findings)}"
    (folder / "cases.csv").write_text("\n".join([header, *rows, f"last{',' * len(findings)}"]) + "\n")
    write_json(folder / "labels.json", {"findings": list(findings)})
    return folder


def propose(folder: Path, *, machine: Any = LAPTOP, minutes: float = 15) -> RadiographProposal:
    proposal = propose_radiographs(folder, machine, minutes)
    assert proposal is not None
    return proposal


def save_weights(path: Path, network: dict[str, Any], **changes: torch.Tensor) -> Path:
    """A file as torchvision's of a network for three colours and 1000 classes."""
    component = Component(name=network["name"], args={"in_channels": 3, "num_classes": 1000, **network["args"]})
    state = read_network(component).build().state_dict()
    # torchvision's older files write norm.1 for norm1.
    names = {name: name.replace(".layers.norm", ".norm.").replace(".layers.conv", ".conv.") for name in state}
    torch.save({names[name]: changes.get(name, value) for name, value in state.items()}, path)
    return path


def test_few_radiographs_get_a_small_network_and_their_last_state(tmp_path: Path) -> None:
    proposal = propose(write_cases(tmp_path / "data", 104, "pneumonia"))
    assert (proposal.cases, proposal.labelled, proposal.findings) == (104, 103, {"pneumonia": 52})
    assert (proposal.network["name"], proposal.is_small, proposal.positive_weights) == ("ResNet", True, ())
    many = propose(write_cases(tmp_path / "many", 5001, "pneumonia"), machine=SERVER)
    assert (many.network["name"], many.is_small) == ("DenseNet121", False)


def test_the_minutes_bound_the_epochs_and_few_radiographs_need_not_all_of_them(tmp_path: Path) -> None:
    data, many = (write_cases(tmp_path / f"d{n}", n, "mass") for n in (100, 20_000))
    lengths = [propose(data, minutes=minutes).epochs for minutes in (0.01, 1, 15, 600)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 1 < lengths[1] < lengths[2] == lengths[3]
    assert propose(many).epochs < lengths[2] < propose(many, machine=SERVER, minutes=600).epochs + 1


def test_a_rare_finding_counts_more_and_a_sided_one_forbids_mirror_images(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 102, "Effusion_left", "mass", every=10)
    proposal = propose(data)
    assert proposal.positive_weights == (2.9, 2.9)  # 90 without for 11 with it: the root of 8.2
    assert proposal.rows()["mirrored"] == "no: the name 'Effusion_left' says a side"
    values, _ = plan_training({"plan": "auto"}, data, CONFIG)
    assert values["train.pre_transforms[3].args.axes"] == []
    assert values["train.loss.args.positive_weights"] == [2.9, 2.9]
    assert propose(write_cases(tmp_path / "leftover", 10, "leftover")).sided == ""


def test_the_templates_configurations_take_the_plan(tmp_path: Path) -> None:
    data = write_cases(tmp_path / "data", 40, "mass", "effusion")
    weights = save_weights(tmp_path / "w.pth", {"name": "ResNet", "args": {}})
    values, proposal = plan_training({"plan": "auto", "pretrained": str(weights)}, data, CONFIG)
    assert isinstance(proposal, RadiographProposal)
    content = read_json(CONFIG)
    assert not [fault for place, value in values.items() if (fault := set_nested(content, place, value))]
    write_json(tmp_path / "config_train.json", content)
    workflow = load_workflow(tmp_path / "config_train.json", overrides={"DATASET_JSON": "x", "DATA_ROOT": "y"})
    assert workflow.train.model.args["pretrain_weight_name"] == weights.as_posix()
    assert workflow.train.image_pipeline.args["output_crop_size"] == [224, 224]
    sizes = [step.args["target_shape"] for step in workflow.train.pre_transforms if step.name == "ScaleToShape"]
    assert sizes == [[224, 224], [224, 224]]
    assert plan_evaluation(proposal, CONFIG.with_name("config_validation.json")) == {
        "pre_transforms[1].args.target_shape": [224, 224]
    }


def test_before_the_images_are_there_nothing_is_planned(tmp_path: Path) -> None:
    assert plan_training({"plan": "auto"}, tmp_path, CONFIG) == ({}, None)
    classification = TEMPLATES / "classification" / "config" / "config_train.json"
    assert plan_training({}, write_cases(tmp_path / "data", 9, "mass"), classification) == ({}, None)


@pytest.mark.parametrize(
    "network",
    [
        {"name": "DenseNet", "args": {"init_features": 64, "growth_rate": 32, "block_config": [6, 12, 24, 16]}},
        {"name": "ResNet", "args": {"layers": [2, 2, 2, 2], "filters": [64, 128, 256, 512], "block": "basic"}},
        {"name": "ResNet", "args": {"layers": [3, 4, 6, 3], "filters": [64, 128, 256, 512], "block": "bottleneck"}},
    ],
    ids=["densenet121", "resnet18", "resnet50"],
)
def test_a_file_of_weights_says_its_network_and_fills_it(tmp_path: Path, network: dict[str, Any]) -> None:
    path = save_weights(tmp_path / "weights.pth", network)
    assert recognise_network(path) == network
    args = {"in_channels": 1, "num_classes": 2, "pretrain_weight_name": str(path), **network["args"]}
    model = read_network(Component(name=network["name"], args=args))
    grey = model.build()
    count = len(grey.state_dict())
    # The last layer alone, for 1000 classes, has no place.
    assert f"{count - 2} of the network's {count} tensors taken, 2 left aside" in model.load_pretrained(grey)
    stem, colours = next(iter(grey.state_dict().values())), next(iter(torch.load(path, weights_only=True).values()))
    torch.testing.assert_close(stem, colours.sum(1, keepdim=True))


def test_weights_of_other_networks_are_refused_in_one_line(tmp_path: Path) -> None:
    resnet = {"name": "ResNet", "args": {"layers": [2, 2, 2, 2], "filters": [64, 128, 256, 512], "block": "basic"}}
    # ResNeXt's kernels see a part of the channels.
    grouped = save_weights(tmp_path / "grouped.pth", resnet, **{"layer1.0.conv2.weight": torch.zeros(64, 2, 3, 3)})
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "code.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    for path in (grouped, tmp_path / "vgg.pth", tmp_path / "list.pth"):
        with pytest.raises(DataError, match=r"of no DenseNet or ResNet under torchvision's names; give a state_dict"):
            recognise_network(path)
    with pytest.raises(DataError, match="runs no code of a file of weights"):
        recognise_network(tmp_path / "code.pth")
    with pytest.raises(DataError, match="no torch file of weights"):
        recognise_network(tmp_path / "broken.pth")
    with pytest.raises(DataError, match="no such file of weights"):
        plan_training({"plan": "auto", "pretrained": "x.pth"}, write_cases(tmp_path / "d", 9, "mass"), CONFIG)


def test_weights_without_a_plan_have_no_place() -> None:
    with pytest.raises(ValueError, match="pretrained needs plan: auto"):
        TrainOptions.model_validate({"pretrained": "resnet18.pth"})


def test_volumes_begin_from_no_radiographs_weights(tmp_path: Path) -> None:
    volumes = TEMPLATES / "auto" / "config" / "config_train.json"
    with pytest.raises(ConfigError, match=r"pretrained: .* radiographs"):
        plan_training({"plan": "auto", "pretrained": "x.pth"}, tmp_path, volumes)
