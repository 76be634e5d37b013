"""Makes a workspace of ``kind: adopted``: a model file that no stage trains, and a block in params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.adopt.model import AdoptedModel, write_adopted
from voxflow.adopt.report import describe_parity, write_parity_report
from voxflow.adopt.start import describe_start
from voxflow.files import atomic_directory, read_text, write_json, write_text
from voxflow.places import ADOPTED, ADOPTED_MODEL, PARAMS
from voxflow.workspace import check_request, set_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.adopt.parity import ParityResult

NETWORK = "network.json"  # beside the model: what a training that begins from it has as its network


def check_adoption(name: str, root: Path) -> None:
    """Refuse a name before the model is read and compared.

    Raises:
        ConfigError: the name is taken, or no name.
    """
    check_request(name, "segmentation", "published", root)


def describe_adoption(model: AdoptedModel, result: ParityResult | None = None) -> dict[str, Any]:
    """Describe where a model comes from, and how its masks were compared; names of cases stay out.

    Args:
        model: what is adopted.
        result: the comparison with the original's masks; None: there was none.
    """
    record: dict[str, Any] = {"from": model.origin}
    if model.folds:
        record |= {
            "configuration": model.configuration,
            "trainer": model.trainer,
            "folds": list(model.folds),
            "epochs": model.epochs,
        }
    if model.parts:
        record["parts"] = [describe_adoption(part) for part in model.parts]
    if model.spec.totalsegmentator:
        record["totalsegmentator"] = model.spec.totalsegmentator.model_dump()
    if model.notes:
        record["notes"] = list(model.notes)
    return record | (describe_parity(result) if result else {})


def create_adopted(
    name: str,
    model: AdoptedModel,
    *,
    source: str,
    root: Path,
    result: ParityResult | None = None,
    largest: Sequence[str] = (),
) -> Path:
    """Make the workspace ``mmars/NAME`` with its block; outside of a repository the folder ``NAME`` alone.

    Beside the model lies ``network.json`` where a training can begin from its weights.

    Args:
        name: of the workspace.
        model: what is adopted.
        source: the folder of images, as params.yaml names it.
        root: the present folder, usually.
        result: the comparison with the original; None: there was none.
        largest: classes of which the largest component is kept.

    Returns:
        The workspace's folder.
    """
    check_adoption(name, root)
    is_repository = (root / PARAMS).is_file()
    folder = root / "mmars" / name if is_repository else root / name
    with atomic_directory(folder) as temporary:
        file = temporary / (ADOPTED_MODEL if is_repository else Path("models/model.pt"))
        file.parent.mkdir(parents=True)
        write_adopted(model, file)
        record = describe_adoption(model, result)
        if start := describe_start(model):
            write_json(file.parent / NETWORK, start)
        write_parity_report(temporary / ADOPTED_MODEL.parent, name, record, result)
    if is_repository:
        params = root / PARAMS
        block = _make_block(model, source, largest)
        write_text(params, set_value(read_text(params), ("workspaces", name), block))
    return folder


def _make_block(model: AdoptedModel, source: str, largest: Sequence[str]) -> dict[str, Any]:
    modality = model.spec.modality
    answers: dict[str, Any] = {"engine": "auto"}
    if largest:
        answers["clean"] = {"largest_component": list(largest)}
    return {
        "kind": ADOPTED,
        "task": "segmentation",
        "source": source,
        "convert": {"modalities": [modality]} if modality else {},
        "validate": {},
        "resample": {},
        "split": {"seed": 7, "testing": 0.2, "validation": 0.2, "folds": 0},
        "train": {},
        "export": {"engines": ["onnx", "openvino"]},
        "evaluate": answers,
        "infer": {**answers, "dicom_seg": True},
        "promote": {},
        "report": {},
    }
