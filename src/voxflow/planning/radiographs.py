"""Plans a training that classifies radiographs: their size, the network, its length, how rare findings count.

Few radiographs are learnt by heart soon, whatever the minutes: a small network of small images, and as many passes as
were measured to help (docs/accuracy.md). Where the user names a file of weights, the network is the one it was made of.
"""

from __future__ import annotations

import json
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from voxflow.components import recognise_network
from voxflow.files import read_text
from voxflow.findings import FaultyConfigError, Finding
from voxflow.machine import GB, Machine
from voxflow.planning.mirroring import SIDES, WORD
from voxflow.tables import FINDING_PREFIX, read_rows
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Pixels along each edge that the network sees.
EDGE, PRETRAINED_EDGE = 256, 224
CPU_BATCH, GPU_BATCH = 16, 32
# Fewer labelled radiographs are too few for a large network, and for a validation that chooses among its states.
FEW = 1000
SMALL: dict[str, Any] = {"name": "ResNet", "args": {"layers": [1, 1, 1, 1], "filters": [16, 32, 64, 128]}}
# Networks that answer together where there are few: each alone is learnt in a minute.
MEMBERS = 4
LARGE: dict[str, Any] = {"name": "DenseNet121", "args": {}}
PASSES = 60.0
# Pixels a second of a training, for one core and for a GPU; the pretrained networks cost ten times as much.
PIXELS_A_CORE, PIXELS_A_GPU, COST = 1.2e6, 300e6, 10.0
SHARE_OF_TIME = 0.8  # of the minutes that the steps may take; the rest is for reading and validating
FINE_TUNING_RATE = 0.0003
VALIDATIONS = 10
RARE, MOST_WEIGHT = 0.2, 10.0
FLOAT_BYTES = 4
FLIP, RESIZE, LOSS = "RandomSpatialFlip", "ScaleToShape", "BinaryClassificationLoss"


class RadiographProposal(BaseModel):
    """Radiographs, machine, and what follows from both.

    Attributes:
        cases: radiographs, of which ``labelled`` have every finding known.
        findings: how many of the labelled ones have each finding.
        minutes: that the training may take.
        edge: rows and columns that the network sees.
        network: name and arguments.
        weights: the file that the network begins from; empty: none.
        batch: radiographs a step.
        epochs: passes through the training's radiographs.
        positive_weights: how much a radiograph that has a finding counts, by finding; empty: all count alike.
        sided: the finding whose name says a side, so that nothing is mirrored; empty: none does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int
    labelled: int
    findings: dict[str, int]
    machine: Machine
    minutes: float
    edge: int
    network: dict[str, Any]
    weights: str = ""
    batch: int
    epochs: int
    positive_weights: tuple[float, ...] = ()
    sided: str = ""

    @property
    def workers(self) -> int:
        """Threads that prepare batches."""
        return min(4 if self.machine.gpu else 1, self.machine.cores - 1)

    @property
    def gigabytes(self) -> float:
        """Of the prepared radiographs, in 10⁹ bytes."""
        return self.cases * self.edge**2 * FLOAT_BYTES / GB

    @property
    def is_small(self) -> bool:
        """Whether there are too few radiographs to choose the best state by some of them."""
        return self.labelled < FEW

    @property
    def _network_line(self) -> str:
        members = self.network["args"].get("members", 1)
        count = f"{members} of {self.network['name']}" if members > 1 else str(self.network["name"])
        return f"{count}, begun from {self.weights}" if self.weights else f"{count}, from scratch"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        content: dict[str, Any] = json.loads(self.model_dump_json())
        return content

    def rows(self) -> dict[str, str]:
        """Each value by its name, for a person."""
        counts = ", ".join(f"{name} in {count}" for name, count in self.findings.items())
        weights = ", ".join(f"{weight:g}" for weight in self.positive_weights)
        return {
            "cases": f"{self.cases}, {self.labelled} labelled",
            "findings": counts or "none",
            "machine": self.machine.line,
            "size": f"{self.edge} × {self.edge}",
            "network": self._network_line,
            "length": f"{self.epochs} epochs, {self.minutes:g} min at most",
            "best state": "the last: too few radiographs to choose" if self.is_small else "by the validation's AUC",
            "weights": f"a radiograph with the finding counts {weights} times" if weights else "all count alike",
            "mirrored": f"no: the name {self.sided!r} says a side" if self.sided else "left and right",
        }


def propose_radiographs(
    resampled: Path, machine: Machine, minutes: float, weights: Path | None = None
) -> RadiographProposal | None:
    """Choose size, network and length of a training.

    Args:
        resampled: the folder of the stage resample, with cases.csv.
        machine: that trains.
        minutes: that the training may take.
        weights: a torch file of ImageNet weights under torchvision's names; None: from scratch.

    Returns:
        None where the stage has not run.

    Raises:
        DataError: the file of weights can't be read, or is of no network that is known.
    """
    rows = read_rows(resampled / "cases.csv")
    if rows is None:
        return None
    names = [name for name in (rows[0] if rows else {}) if name.startswith(FINDING_PREFIX)]
    labelled = [row for row in rows if names and all(row[name] != "" for name in names)]
    counts = {name.removeprefix(FINDING_PREFIX): sum(float(row[name]) > 0 for row in labelled) for name in names}
    has_gpu = bool(machine.gpu)
    network = recognise_network(weights) if weights else LARGE if has_gpu and len(labelled) >= FEW else SMALL
    edge = PRETRAINED_EDGE if weights else EDGE
    cost = COST if network != SMALL else 1.0
    if network == SMALL and len(labelled) < FEW:
        network = {"name": SMALL["name"], "args": SMALL["args"] | {"members": MEMBERS}}
    rate = (PIXELS_A_GPU if has_gpu else PIXELS_A_CORE * machine.cores) / (edge * edge * cost)
    possible = rate * 60 * minutes * SHARE_OF_TIME / max(1, len(labelled))
    return RadiographProposal(
        cases=len(rows),
        labelled=len(labelled),
        findings=counts,
        machine=machine,
        minutes=minutes,
        edge=edge,
        network=network,
        weights=weights.as_posix() if weights else "",
        batch=GPU_BATCH if has_gpu and len(labelled) >= FEW else CPU_BATCH,
        epochs=max(1, round(min(PASSES, possible))),
        positive_weights=_weigh_findings(counts, len(labelled)),
        sided=next((name for name in _read_names(resampled, counts) if _says_side(name)), ""),
    )


def place_radiographs(config: Mapping[str, Any], proposal: RadiographProposal, *, path: Path) -> dict[str, Any]:
    """Return what a proposal puts over a training configuration, as ``--set`` takes it.

    Args:
        config: the content of a configuration of Clara 3's form.
        proposal: of :func:`propose_radiographs`.
        path: of the configuration, for errors.

    Raises:
        ConfigError: it is of another form.
    """
    sections = {name: config.get(name) for name in ("train", "validate")}
    for name, section in sections.items():
        if not isinstance(section, dict) or not isinstance(section.get("pre_transforms"), list):
            message = "no list of transforms there; planning reads configurations of Clara 3's form"
            raise FaultyConfigError.of(Finding("missing-component", "error", path, f"{name}.pre_transforms", message))
    size, epochs = [proposal.edge] * 2, proposal.epochs
    network = proposal.network["args"] | ({"pretrain_weight_name": proposal.weights} if proposal.weights else {})
    values: dict[str, Any] = {
        "epochs": epochs,
        "num_training_epoch_per_valid": epochs if proposal.is_small else ceil(epochs / VALIDATIONS),
        "train.model.name": proposal.network["name"],
        "train.model.args": network,
    }
    if proposal.weights:
        values["learning_rate"] = FINE_TUNING_RATE
    if proposal.positive_weights and config["train"].get("loss", {}).get("name") == LOSS:
        values["train.loss.args.positive_weights"] = list(proposal.positive_weights)
    for name, section in sections.items():
        values |= _place_sizes(section["pre_transforms"], f"{name}.pre_transforms", size)  # type: ignore[index]
        values[f"{name}.image_pipeline.args.output_crop_size"] = size
        values[f"{name}.image_pipeline.args.output_batch_size"] = proposal.batch
    flips = [n for n, step in enumerate(config["train"]["pre_transforms"]) if step.get("name") == FLIP]
    if proposal.sided:
        values |= {f"train.pre_transforms[{n}].args.axes": [] for n in flips}
    return values


def place_radiograph_evaluation(config: Mapping[str, Any], proposal: RadiographProposal) -> dict[str, Any]:
    """Return the same for config_validation.json."""
    return _place_sizes(config.get("pre_transforms", []), "pre_transforms", [proposal.edge] * 2)


def _place_sizes(steps: Sequence[Any], json_path: str, size: list[int]) -> dict[str, Any]:
    return {f"{json_path}[{n}].args.target_shape": size for n, step in enumerate(steps) if step.get("name") == RESIZE}


def _weigh_findings(counts: Mapping[str, int], labelled: int) -> tuple[float, ...]:
    """More than 1 for rare findings alone: the root of how many have it not for each that has it."""
    weights = [
        min(MOST_WEIGHT, round(sqrt((labelled - count) / count), 1)) if 0 < count < RARE * labelled else 1.0
        for count in counts.values()
    ]
    return tuple(weights) if any(weight > 1 for weight in weights) else ()


def _read_names(resampled: Path, counts: Mapping[str, int]) -> list[str]:
    path = resampled / "labels.json"
    content = parse_json(read_text(path)) if path.is_file() else {}
    names = content.get("findings") if isinstance(content, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else list(counts)


def _says_side(name: str) -> bool:
    return bool({word.lower() for word in WORD.findall(name.replace("_", " "))} & SIDES["LR"])
