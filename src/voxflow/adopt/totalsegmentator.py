"""Recognises folders of TotalSegmentator's weights, and puts what it does around nnU-Net into the model file.

After totalsegmentator 2.18.0 (Apache-2.0, Jakob Wasserthal): ``map_tasks_config.py``, ``python_api.py`` and
``nnunet.py``; where earlier versions do otherwise, the version that lies beside the class map counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from voxflow.adopt.class_maps import read_class_maps
from voxflow.adopt.nnunet import find_result_folder
from voxflow.errors import ConfigError
from voxflow.spec import ModelSpec, TotalSegmentatorSteps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.adopt.model import AdoptedModel

Mode = Literal["", "fast", "fastest"]
KNOWN = (2, 18, 0)
# The first versions that resample as all later ones, linearly by default, and with few windows at low resolution, too.
FIRST, LINEAR, FEW_WINDOWS = (2, 8, 0), (2, 15, 0), (2, 16, 0)
TOTAL = ("total", "total_v3", "total_mr")
LOW_MM = 3.0
FEW_OVERLAP = 0.2  # windows 0.8 of a window apart
_PACKAGE = re.compile(r"totalsegmentator-(\d+)\.(\d+)(?:\.(\d+))?.*\.dist-info", re.IGNORECASE)


@dataclass(frozen=True)
class TotalSegmentatorTask:
    """A task of TotalSegmentator whose steps are repeated.

    Attributes:
        name: as its ``--task`` has it.
        folders: names of the folders of weights; several are joined.
        spacing_mm: of the working grid, along (x, y, z).
        mode: "" or its flag without dashes.
        folds: that it runs; empty: all that are there.
        removed: see :class:`voxflow.spec.TotalSegmentatorSteps`.
        largest: see there.
        least_mm3: see there.
        renamed: classes that have another name than in ``class_map["total"]``, by that name.
    """

    name: str
    folders: tuple[str, ...]
    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 1.5)
    mode: Mode = ""
    folds: tuple[str, ...] = ("0",)
    removed: tuple[int, ...] = ()
    largest: tuple[int, ...] = ()
    least_mm3: tuple[tuple[int, float], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()


_FAST, _FASTEST = (3.0, 3.0, 3.0), (6.0, 6.0, 6.0)
_SIXTH = (("vertebrae_S1", "vertebrae_L6"),)
_BODY = ((2, 50000.0),)  # body_extremities; the other class is body_trunc
TASKS = (
    TotalSegmentatorTask(
        "total",
        (
            "Dataset291_TotalSegmentator_part1_organs_1559subj",
            "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
            "Dataset293_TotalSegmentator_part3_cardiac_1559subj",
            "Dataset294_TotalSegmentator_part4_muscles_1559subj",
            "Dataset295_TotalSegmentator_part5_ribs_1559subj",
        ),
    ),
    TotalSegmentatorTask("total", ("Dataset297_TotalSegmentator_total_3mm_1559subj",), _FAST, "fast"),
    TotalSegmentatorTask("total", ("Dataset298_TotalSegmentator_total_6mm_1559subj",), _FASTEST, "fastest"),
    TotalSegmentatorTask(
        "total_v3",
        (
            "Dataset831_TotalSegmentator_part1_organs_1830subj",
            "Dataset832_TotalSegmentator_part2_vertebrae_1559subj",
            "Dataset833_TotalSegmentator_part3_cardiac_1830subj",
            "Dataset834_TotalSegmentator_part4_muscles_1830subj",
            "Dataset835_TotalSegmentator_part5_ribs_1559subj",
        ),
        renamed=_SIXTH,
    ),
    TotalSegmentatorTask(
        "total_v3", ("Dataset836_TotalSegmentator_total_3mm_1559subj",), _FAST, "fast", renamed=_SIXTH
    ),
    TotalSegmentatorTask(
        "total_v3", ("Dataset837_TotalSegmentator_total_6mm_1559subj",), _FASTEST, "fastest", renamed=_SIXTH
    ),
    TotalSegmentatorTask(
        "total_mr", ("Dataset850_TotalSegMRI_part1_organs_1088subj", "Dataset851_TotalSegMRI_part2_muscles_1088subj")
    ),
    TotalSegmentatorTask("total_mr", ("Dataset852_TotalSegMRI_total_3mm_1088subj",), _FAST, "fast"),
    TotalSegmentatorTask("total_mr", ("Dataset853_TotalSegMRI_total_6mm_1088subj",), _FASTEST, "fastest"),
    TotalSegmentatorTask("body", ("Dataset299_body_1559subj",), largest=(1,), least_mm3=_BODY),
    TotalSegmentatorTask("body", ("Dataset300_body_6mm_1559subj",), _FASTEST, "fast", largest=(1,), least_mm3=_BODY),
    TotalSegmentatorTask("body_mr", ("Dataset597_mri_body_139subj",)),
    TotalSegmentatorTask("body_mr", ("Dataset598_mri_body_6mm_139subj",), _FASTEST, "fast"),
    TotalSegmentatorTask("vertebrae_mr", ("Dataset756_mri_vertebrae_1076subj",)),
    TotalSegmentatorTask("vertebrae_body", ("Dataset305_vertebrae_discs_1559subj",)),
    TotalSegmentatorTask("breasts", ("Dataset527_breasts_1559subj",)),
    TotalSegmentatorTask("trunk_cavities", ("Dataset343_mediastinum_1786subj",)),
    TotalSegmentatorTask("brain_aneurysm", ("Dataset615_MAXIMUS",), (0.390625, 0.390625, 0.5000016391277313), folds=()),
    TotalSegmentatorTask(
        "appendicular_bones", ("Dataset304_appendicular_bones_ext_1559subj",), removed=(12, 13, 14, 15)
    ),
    TotalSegmentatorTask("appendicular_bones_mr", ("Dataset855_TotalSegMRI_appendicular_bones_1088subj",)),
    TotalSegmentatorTask("tissue_types", ("Dataset481_tissue_1559subj",)),
    TotalSegmentatorTask("tissue_4_types", ("Dataset485_tissue_4types_1559subj",)),
    TotalSegmentatorTask("tissue_types_mr", ("Dataset925_MRI_tissue_subset_903subj",)),
    TotalSegmentatorTask("face", ("Dataset303_face_1559subj",)),
    TotalSegmentatorTask("face_mr", ("Dataset856_TotalSegMRI_face_1088subj",), removed=(2, 3)),
    TotalSegmentatorTask("thigh_shoulder_muscles", ("Dataset857_TotalSegMRI_thigh_shoulder_1088subj",)),
)
# Of these the steps are not repeated: they crop the image to another task's mask first, or order vertebrae anew.
NOT_REPEATED = {
    "Dataset117_lung_airways_arteries_veins_282subj": "lung_vessels",
    "Dataset258_lung_vessels_248subj": "lung_vessels_LEGACY",
    "Dataset150_icb_v0": "cerebral_bleed",
    "Dataset260_hip_implant_71subj": "hip_implant",
    "Dataset315_thoraxCT": "pleural_pericard_effusion",
    "Dataset775_head_glands_cavities_492subj": "head_glands_cavities",
    "Dataset776_headneck_bones_vessels_492subj": "headneck_bones_vessels",
    "Dataset777_head_muscles_492subj": "head_muscles",
    "Dataset778_headneck_muscles_part1_492subj": "headneck_muscles",
    "Dataset779_headneck_muscles_part2_492subj": "headneck_muscles",
    "Dataset351_oculomotor_muscles_18subj": "oculomotor_muscles",
    "Dataset913_lung_nodules": "lung_nodules",
    "Dataset789_kidney_cyst_501subj": "kidney_cysts",
    "Dataset552_ventricle_parts_38subj": "ventricle_parts",
    "Dataset570_ct_liver_segments": "liver_segments",
    "Dataset576_mri_liver_segments_120subj": "liver_segments_mr",
    "Dataset591_ct_liver_lesions_842subj": "liver_lesions",
    "Dataset589_ct_mri_liver_lesions_750subj": "liver_lesions_mr",
    "Dataset115_mandible": "craniofacial_structures",
    "Dataset952_abdominal_muscles_167subj": "abdominal_muscles",
    "Dataset113_ToothFairy3": "teeth",
    "Dataset803_TotalSegmentator_vertebrae_inner_1559subj": "vertebrae_pp",
    "Dataset301_heart_highres_1559subj": "heartchambers_highres",
    "Dataset409_neuro_550subj": "brain_structures",
    "Dataset509_coronary_arteries_cm_nativ_400subj_SKELETON": "coronary_arteries",
    "Dataset507_coronary_arteries_cm_nativ_400subj": "coronary_arteries_LEGACY",
    "Dataset920_aortic_sinuses_cm_nativ_400subj": "aortic_sinuses",
}


def find_task(folders: Sequence[Path]) -> TotalSegmentatorTask | None:
    """Find the task whose weights lie in result folders, by the names of their data sets; None: they are of none.

    Raises:
        DataError: a folder is no result folder.
    """
    names = sorted(_name_dataset(find_result_folder(folder)) for folder in folders)
    return next((task for task in TASKS if sorted(task.folders) == names), None)


def describe_omission(folders: Sequence[Path]) -> str:
    """Say what of TotalSegmentator is left out where :func:`find_task` finds no task; empty: they are not its own.

    Raises:
        DataError: a folder is no result folder.
    """
    names = [_name_dataset(find_result_folder(folder)) for folder in folders]
    other = next((NOT_REPEATED[name] for name in names if name in NOT_REPEATED), None)
    if other:
        message = f"what TotalSegmentator does around its task {other} is not repeated here"
        return f"{message}: masks are those of nnU-Net alone"
    task = next((task for task in TASKS if set(names) & set(task.folders)), None)
    if task is None:
        return ""
    count = len(set(names) & set(task.folders))
    return (
        f"{count} of the {len(task.folders)} folders of TotalSegmentator's task {task.name}, and {len(names) - count} "
        "others: masks are those of nnU-Net alone; name just its folders for TotalSegmentator's own"
    )


def repeat_steps(model: AdoptedModel, task: TotalSegmentatorTask, classes: str | None = None) -> AdoptedModel:
    """Put what TotalSegmentator does around nnU-Net into a model's specification.

    Args:
        model: as it was read of the task's folders.
        task: what :func:`find_task` found.
        classes: the class map, by whose place the installed version is told; None: the version that is known here.

    Raises:
        ConfigError: TotalSegmentator is so old that it resamples otherwise.
        DataError: the class map can't be read.
    """
    version = _find_version(classes) if classes else None
    counted = version or KNOWN
    if counted < FIRST:
        message = f"TotalSegmentator {_word(counted)} resamples otherwise than is known here, from {_word(FIRST)} on; "
        raise ConfigError(f"{message}--steps nnunet leaves its steps out", where="--classes")
    is_few = task.name in TOTAL and counted >= FEW_WINDOWS
    is_few = is_few or (task.name in TOTAL[:2] and min(task.spacing_mm) < LOW_MM)
    steps = TotalSegmentatorSteps(
        task=task.name,
        spacing_mm=task.spacing_mm,
        order=1 if counted >= LINEAR else 3,
        splits=len(task.folders) > 1,
        removed=task.removed,
        largest=task.largest,
        least_mm3=task.least_mm3,
    )
    content = model.spec.model_dump() | {"totalsegmentator": steps}
    names = dict(task.renamed)
    content["class_names"] = [names.get(name, name) for name in model.spec.class_names]
    for entry in [content, *(part["spec"] for part in content.get("parts", ()))]:
        entry["mirrored"] = ()
        if is_few:
            entry["overlap"] = FEW_OVERLAP
    spec = ModelSpec.model_validate(content)
    return replace(model, spec=spec, notes=(*model.notes, _describe(steps, version)))


def _describe(steps: TotalSegmentatorSteps, version: tuple[int, ...] | None) -> str:
    """What is repeated, in a line."""
    spacing = " × ".join(f"{step:g}" for step in dict.fromkeys(steps.spacing_mm))
    whose = f"TotalSegmentator {_word(version or KNOWN)}"
    if version and version > KNOWN:
        whose = f"TotalSegmentator {_word(KNOWN)}, the last one that is known here (installed: {_word(version)})"
    return (
        f"the steps of {whose} around nnU-Net are repeated, task {steps.task}: images to {spacing} mm by splines of "
        f"order {steps.order}, no mirroring, masks back by the nearest voxel; --steps nnunet leaves them out"
    )


def _find_version(classes: str) -> tuple[int, int, int] | None:
    """The version of the package that a class map lies in; None: it lies elsewhere."""
    package = read_class_maps(classes)[0].path.resolve().parent
    for entry in sorted(package.parent.iterdir()) if package.name == "totalsegmentator" else ():
        if match := _PACKAGE.fullmatch(entry.name):
            return int(match[1]), int(match[2]), int(match[3] or 0)
    return None


def _word(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)


def _name_dataset(folder: Path) -> str:
    """The name of the data set's folder that a result folder lies in."""
    folder = folder.resolve()
    known = {name for task in TASKS for name in task.folders} | NOT_REPEATED.keys()
    return next((path.name for path in (folder, *folder.parents) if path.name in known), folder.name)
