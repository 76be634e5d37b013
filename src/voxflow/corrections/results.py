"""The masks that this workspace has made: of incoming series, of cases without a label, and those once corrected."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.corrections.facts import ObjectFacts, read_facts
from voxflow.dicom import find_sources, list_origins, read_dataset
from voxflow.files import atomic_path, read_json_or_none, write_json
from voxflow.images import list_files
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxflow.dicom import ConvertOptions
    from voxflow.places import WorkspaceLayout

SEG_END = "_seg.dcm"
MASKS = "masks"  # below the folder of corrections: the masks that people corrected


@dataclass(frozen=True)
class OwnResult:
    """One DICOM SEG that this workspace has made.

    Attributes:
        path: the SEG.
        unit: SeriesInstanceUID of its image, or StudyInstanceUID where the model takes several channels.
        number: its place among the SEGs of its unit, from 0.
        study_uid: StudyInstanceUID (0020,000D).
        image_series: the series that it was made from.
        own_series: the series of the SEG, and of what was written beside it.
        model: what made it.
        folders: where the images came in; none where they are somewhere in the workspace's source.
    """

    path: Path
    unit: str
    number: int
    study_uid: str
    image_series: frozenset[str]
    own_series: frozenset[str]
    model: str = ""
    folders: tuple[Path, ...] = field(default=())

    @cached_property
    def facts(self) -> ObjectFacts:
        """What the SEG says of itself."""
        return read_facts(self.path)

    def list_image_files(self, places: WorkspaceLayout, options: ConvertOptions) -> list[Path]:
        """List the files of its images: in the inbox, which people may empty, else in the source.

        Args:
            places: of the workspace.
            options: of its conversion.
        """
        files = [file for folder in self.folders if folder.is_dir() for file in list_files(folder)]
        if files:
            return files
        rows = read_rows(places.volumes / "cases.csv") or []
        origins = {origin for row in rows for origin in list_origins(row) if origin.series_uid in self.image_series}
        return [file for source in find_sources(places.source, origins, options).values() for file in source.files]


def list_results(places: WorkspaceLayout, answers: Path, inbox: Path) -> list[OwnResult]:
    """List the masks that went to the PACS, or would have, those of the stage infer, and those that people corrected.

    Args:
        places: of the workspace.
        answers: where the masks of incoming series are kept.
        inbox: where incoming series are, as STUDY/SERIES/OBJECT.dcm.
    """
    results = [result for result in _list_answers(answers, inbox) if result.path.is_file()]
    answered_series = {uid for result in results for uid in result.image_series}
    results += [r for r in _list_inferred(places) if not r.image_series & answered_series]
    retained = list(_list_retained(places.corrections))
    units = {result.unit for result in retained}
    current_masks = {result.facts.sop_uid for result in results if result.unit in units}
    return results + [result for result in retained if result.path.stem not in current_masks]


def retain_mask(result: OwnResult, folder: Path) -> None:
    """Keep a mask that was corrected: its case goes to training, so that the stage infer makes none any more.

    Args:
        result: the mask.
        folder: of the workspace's corrections.
    """
    copy = folder / MASKS / f"{result.facts.sop_uid}.dcm"
    if copy.is_file():
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    note = {
        "unit": result.unit,
        "number": result.number,
        "study_uid": result.study_uid,
        "image_series": sorted(result.image_series),
        "own_series": sorted(result.own_series),
        "model": result.model,
        "folders": [str(path) for path in result.folders],
    }
    write_json(copy.with_suffix(".json"), note)
    with atomic_path(copy) as temporary:
        shutil.copyfile(result.path, temporary)


def _list_retained(folder: Path) -> Iterator[OwnResult]:
    for path in sorted((folder / MASKS).glob("*.dcm")):
        note = read_json_or_none(path.with_suffix(".json"))
        if isinstance(note, dict):
            yield OwnResult(
                path=path,
                unit=str(note["unit"]),
                number=int(note["number"]),
                study_uid=str(note["study_uid"]),
                image_series=frozenset(note["image_series"]),
                own_series=frozenset(note["own_series"]),
                model=str(note["model"]),
                folders=tuple(map(Path, note["folders"])),
            )


def _list_answers(answers: Path, inbox: Path) -> Iterator[OwnResult]:
    for path in sorted(answers.glob("*/answer.json")):
        note = read_json_or_none(path)
        if not isinstance(note, dict) or not note.get("study_uid"):
            continue
        study, instances = str(note["study_uid"]), note.get("instances")
        series = list(instances) if isinstance(instances, dict) else [str(note.get("series_uid") or path.parent.name)]
        files = [str(file) for file in note.get("files") or () if str(file).endswith(SEG_END)]
        for number, file in enumerate(files):
            yield OwnResult(
                path=path.parent / file,
                unit=path.parent.name,
                number=number,
                study_uid=study,
                image_series=frozenset(series),
                own_series=frozenset(map(str, note.get("own") or ())),
                model=str(note.get("model") or ""),
                folders=tuple(inbox / study / name for name in series),
            )


def _list_inferred(places: WorkspaceLayout) -> Iterator[OwnResult]:
    rows = {row["case"]: row for row in read_rows(places.volumes / "cases.csv") or []}
    for path in sorted((places.evaluation / "infer").glob(f"*/*{SEG_END}")):
        origins = list_origins(rows.get(path.parent.name, {"image": ""}))
        if not origins:
            continue
        header = read_dataset(path, tags=["StudyInstanceUID"])
        objects = [read_dataset(file, tags=["SeriesInstanceUID"]) for file in path.parent.glob("*.dcm")]
        series = [origin.series_uid for origin in origins]
        unit = series[0] if len(series) == 1 else str(header.StudyInstanceUID)
        yield OwnResult(
            path=path,
            unit=unit,
            number=origins[0].volume - 1,
            study_uid=str(header.StudyInstanceUID),
            image_series=frozenset(series),
            own_series=frozenset(str(dataset.SeriesInstanceUID) for dataset in objects),
        )
