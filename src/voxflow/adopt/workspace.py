"""Makes a workspace of ``kind: adopted``: a model file that no stage trains, and a block in params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.adopt.model import AdoptedModel, write_adopted
from voxflow.files import atomic_directory, read_text, write_json, write_text
from voxflow.places import ADOPTED, ADOPTED_MODEL, PARAMS
from voxflow.workspace import check_request, set_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.adopt.parity import CaseParity

RECORD = ADOPTED_MODEL.with_suffix(".json")


def check_adoption(name: str, root: Path) -> None:
    """Refuse a name before the model is read and compared.

    Raises:
        ConfigError: the name is taken, or no name.
    """
    check_request(name, "segmentation", "published", root)


def describe_adoption(model: AdoptedModel, cases: Sequence[CaseParity]) -> dict[str, Any]:
    """Describe where a model comes from, and how its masks were compared; names of cases stay out.

    Args:
        model: what is adopted.
        cases: that were compared with the original's masks.
    """
    record: dict[str, Any] = {"from": model.origin}
    if model.folds:
        record |= {
            "configuration": model.configuration,
            "trainer": model.trainer,
            "folds": list(model.folds),
            "epochs": model.epochs,
        }
    if cases:
        record["compared_cases"] = len(cases)
        record["least_equal_share"] = min(case.equal for case in cases)
        record["differing_voxels"] = sum(case.differing for case in cases)
    return record


def create_adopted(
    name: str,
    model: AdoptedModel,
    *,
    source: str,
    root: Path,
    record: Mapping[str, Any],
    largest: Sequence[str] = (),
) -> Path:
    """Make the workspace ``mmars/NAME`` with its block; outside of a repository the folder ``NAME`` alone.

    Args:
        name: of the workspace.
        model: what is adopted.
        source: the folder of images, as params.yaml names it.
        root: the present folder, usually.
        record: what is written beside the model file of where it comes from.
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
        (temporary / RECORD).parent.mkdir(exist_ok=True)
        write_adopted(model, file)
        write_json(temporary / RECORD, record)
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
