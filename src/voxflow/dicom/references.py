"""What segments and ROIs refer to, and the volumes of a folder that they therefore belong to.

Plan: a frame of a SEG, or a contour, names the images that it was drawn on; it belongs to their volumes. One that names
none, or none that is there, follows the others of its segment or ROI. Where none names any, the images that the whole
object names count (for an ROI: those of its frame of reference), then the series, and only when nothing at all that it
refers to is there, the one volume of its frame of reference. Images that are left out own their labels as any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxflow.dicom.headers import SECONDARY_CAPTURE
from voxflow.dicom.options import VOLUME_MODALITIES
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pydicom.dataset import Dataset

    from voxflow.dicom.group import SeriesPart

FRAME_OF_REFERENCE = "(0020,0052)"
# Fewer slices that were left out are a scout.
FEWEST_SLICES = 3
_PER_FRAME = "PerFrameFunctionalGroupsSequence"
BY_FRAME_OF_REFERENCE = (
    "nothing that it refers to is here: given to the only volume of its patient in its frame of reference"
)


@dataclass(frozen=True, slots=True)
class Source:
    """An image that something was drawn on.

    Attributes:
        sop_uid: ReferencedSOPInstanceUID (0008,1155).
        frames: ReferencedFrameNumber (0008,1160), from 1; empty for all.
    """

    sop_uid: str
    frames: frozenset[int] = frozenset()


@dataclass(frozen=True)
class References:
    """What a segment or an ROI refers to.

    Attributes:
        items: the numbers of its frames in the SEG, or of its contours among those of the ROI, from 0.
        item_sources: of each of them, the images that it was drawn on.
        sources: the images that the whole object names.
        series: the series that the whole object names.
        frames_of_reference: FrameOfReferenceUID (0020,0052) of what it is drawn in.
        is_foreign: whether ``sources`` and ``series`` are of another frame of reference, for want of its own.
    """

    items: tuple[int, ...]
    item_sources: tuple[frozenset[Source], ...]
    sources: frozenset[Source] = frozenset()
    series: frozenset[str] = frozenset()
    frames_of_reference: frozenset[str] = frozenset()
    is_foreign: bool = False


@dataclass
class Ownership:
    """Which parts a label object belongs to.

    Attributes:
        items: of each part, by its place in the list, the frames or contours that belong to it, by segment or ROI.
        problems: why a segment or ROI belongs to none.
        by_frame_of_reference: the parts that were found by the frame of reference alone.
    """

    items: dict[int, dict[int, set[int]]] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    by_frame_of_reference: set[int] = field(default_factory=set)


class ImageIndex:
    """Finds the parts that a label refers to."""

    def __init__(
        self, parts: Sequence[SeriesPart], labelled: Collection[int] = (), *, has_channels: bool = False
    ) -> None:
        """Index images.

        Args:
            parts: with images of any kind, converted or left out.
            labelled: places of those that a label lies on which says no more than its frame of reference.
            has_channels: several parts are one case.
        """
        self.parts = parts
        self._has_channels = has_channels
        self._labelled = frozenset(labelled)
        self._by_sop_uid: dict[str, list[int]] = {}
        self._by_series: dict[str, list[int]] = {}
        for n, part in enumerate(parts):
            for uid in dict.fromkeys(header.sop_uid for header in part.headers):
                self._by_sop_uid.setdefault(uid, []).append(n)
            for uid in dict.fromkeys(header.series_uid for header in part.headers):
                self._by_series.setdefault(uid, []).append(n)

    def assign_owners(self, references_by_number: Mapping[int, References], patient: str) -> Ownership:
        """Find the parts that the segments or ROIs of one object belong to.

        Args:
            references_by_number: by segment or ROI number.
            patient: of the label object, as :attr:`DicomHeader.patient`.
        """
        ownership = Ownership()
        empty: dict[int, list[int]] = {}
        for number, references in references_by_number.items():
            try:
                owners = self._find_item_owners(references, patient)
                if not any(owners):
                    parts = self._find_object_owners(references, patient) or self._find_frame_owners(
                        references, patient, ownership
                    )
                    owners = [parts for _ in references.items]
                    empty |= {} if references.items else {number: parts}
            except DicomError as error:
                ownership.problems[number] = str(error)
                continue
            siblings = list(dict.fromkeys(part for parts in owners for part in parts))
            for item, parts in zip(references.items, owners, strict=True):
                for part in parts or siblings:
                    ownership.items.setdefault(part, {}).setdefault(number, set()).add(item)
        # What has no frame or contour is empty in every image that the object labels.
        labelled = list(ownership.items)
        for number, parts in empty.items():
            for part in labelled or parts:
                ownership.items.setdefault(part, {})[number] = set()
        return ownership

    def _find_item_owners(self, references: References, patient: str) -> list[list[int]]:
        by_source = {
            source: self._find_source_owners(source, references, patient)
            for source in frozenset[Source]().union(*references.item_sources)
        }
        return [
            list(dict.fromkeys(part for source in sorted(sources, key=_sort_key) for part in by_source[source]))
            for sources in references.item_sources
        ]

    def _find_object_owners(self, references: References, patient: str) -> list[int]:
        """The parts that the object as a whole names: its images, else its series."""
        if references.is_foreign and self._find_volumes_of_frame(references, patient):
            return []
        named = [
            part
            for source in sorted(references.sources, key=_sort_key)
            for part in self._find_source_owners(source, references, patient)
        ]
        if named:
            return self._check_one_frame(self._leave_out_scouts(list(dict.fromkeys(named))), references)
        members = [n for uid in sorted(references.series) for n in self._by_series.get(uid, ())]
        members = self._check_patient(members, patient)
        volumes = [n for n in members if self.parts[n].kind == "volume"]
        for uid in references.series:
            count = sum(self.parts[n].first.series_uid == uid for n in volumes)
            if count > 1:
                raise DicomError(
                    f"its series holds {count} volumes, and it names no image of one of them", where="(0008,1115)"
                )
        return self._check_one_frame(volumes or members, references)

    def _check_one_frame(self, parts: list[int], references: References) -> list[int]:
        """Those in the label's own frame of reference; it can't be drawn in several."""
        frames = references.frames_of_reference
        in_frame = [n for n in parts if self.parts[n].first.frame_of_reference in frames] or parts
        count = len({self.parts[n].first.frame_of_reference for n in in_frame})
        if count > 1:
            message = f"refers to images of {count} frames of reference, and does not say in which it is drawn"
            raise DicomError(message, where=FRAME_OF_REFERENCE)
        return in_frame

    def _leave_out_scouts(self, parts: list[int]) -> list[int]:
        """Parts without the slices that were left out of a series of which a volume is among them."""
        series = {self.parts[n].first.series_uid for n in parts if self.parts[n].kind == "volume"}
        return [n for n in parts if _is_volume(self.parts[n]) or self.parts[n].first.series_uid not in series]

    def _find_frame_owners(self, references: References, patient: str, ownership: Ownership) -> list[int]:
        volumes = self._find_volumes_of_frame(references, patient)
        volumes = [n for n in volumes if n in self._labelled] or volumes
        if len(volumes) == 1:
            ownership.by_frame_of_reference.add(volumes[0])
            return volumes
        message = "no image series here is the one that it refers to, or shares its frame of reference"
        if volumes:
            message = f"{len(volumes)} image series share its frame of reference, and it refers to none of them"
            message += "; `labels_on` names the channel that it is drawn on" if self._has_channels else ""
        raise DicomError(message, where=FRAME_OF_REFERENCE)

    def _find_volumes_of_frame(self, references: References, patient: str) -> list[int]:
        """The patient's volumes in a frame of reference, converted or left out."""
        return [
            n
            for n, part in enumerate(self.parts)
            if part.first.patient == patient
            and part.first.frame_of_reference in references.frames_of_reference
            and _is_volume(part)
        ]

    def _find_source_owners(self, source: Source, references: References, patient: str) -> list[int]:
        owners = [n for n in self._by_sop_uid.get(source.sop_uid, ()) if _has_frames(self.parts[n], source)]
        owners = self._check_patient(owners, patient)
        # A SOP UID that was used twice: the image that fits all else that the object names.
        in_series = [n for n in owners if self.parts[n].first.series_uid in references.series] or owners
        frames = references.frames_of_reference
        return [n for n in in_series if self.parts[n].first.frame_of_reference in frames] or in_series

    def _check_patient(self, parts: list[int], patient: str) -> list[int]:
        """Those of the label's patient; identity never hangs on one UID alone."""
        of_patient = [n for n in parts if self.parts[n].first.patient == patient]
        # Where one of the two has no PatientID (0010,0020), nothing contradicts.
        of_patient = of_patient or [
            n for n in parts if not (self.parts[n].first.patient_id and patient.startswith("id "))
        ]
        if parts and not of_patient:
            raise DicomError("refers to images of another patient", where="(0010,0020)")
        return of_patient


def read_segment_references(dataset: Dataset, numbers: Iterable[int]) -> dict[int, References]:
    """Read what each segment of a SEG refers to, from its functional groups and the whole object.

    Args:
        dataset: the SEG.
        numbers: of its segments.

    Returns:
        References by SegmentNumber (0062,0004). In a label map, each segment has all frames.

    Raises:
        DicomError: frames are not described, or name no segment of the object.
    """
    count, described = int(dataset.get("NumberOfFrames") or 0), len(_list_images(dataset, _PER_FRAME))
    if not 1 <= count <= max(1, described):
        raise DicomError(f"says to hold {count} frames and describes {described}", where="(0028,0008)")
    frames = _group_frames(dataset, numbers, count)
    series = list(_list_series(dataset))
    instances = [image for item in [*series, dataset] for image in _list_images(item, "ReferencedInstanceSequence")]
    sources = _collect_sources([*instances, *_list_images(dataset, "SourceImageSequence")])
    return {
        number: References(
            items=tuple(frame for frame, _ in members),
            item_sources=tuple(item_sources for _, item_sources in members),
            sources=sources,
            series=frozenset(_read_uid(item, "SeriesInstanceUID") for item in series) - {""},
            frames_of_reference=frozenset([_read_uid(dataset, "FrameOfReferenceUID")]) - {""},
        )
        for number, members in frames.items()
    }


def _group_frames(
    dataset: Dataset, numbers: Iterable[int], count: int
) -> dict[int, list[tuple[int, frozenset[Source]]]]:
    """The frames of each segment, from 0, and the images that each frame was drawn on."""
    is_label_map = str(dataset.get("SegmentationType", "")) == "LABELMAP"
    frames: dict[int, list[tuple[int, frozenset[Source]]]] = {number: [] for number in numbers}
    for frame in range(count):
        sources = _collect_sources(
            image
            for item in find_functional_groups(dataset, frame, "DerivationImageSequence")
            for image in item.get("SourceImageSequence") or []
        )
        identified = find_functional_groups(dataset, frame, "SegmentIdentificationSequence")
        segments = list(frames) if is_label_map else [int(item.ReferencedSegmentNumber) for item in identified[:1]]
        if not segments or segments[0] not in frames:
            raise DicomError(f"frame {frame + 1} names no segment of the object", where="(0062,000A)")
        for number in segments:
            frames[number].append((frame, sources))
    return frames


def read_roi_references(dataset: Dataset, contours_by_number: Mapping[int, Sequence[Dataset]]) -> dict[int, References]:
    """Read what each ROI of an RTSTRUCT refers to, from its contours and its frame of reference.

    Args:
        dataset: the RTSTRUCT.
        contours_by_number: items of ContourSequence (3006,0040) by ROINumber (3006,0022).
    """
    own_frame = {
        int(item.ROINumber): _read_uid(item, "ReferencedFrameOfReferenceUID")
        for item in dataset.get("StructureSetROISequence") or []
    }
    series_by_frame: dict[str, list[Dataset]] = {}
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            series = study.get("RTReferencedSeriesSequence") or []
            series_by_frame.setdefault(_read_uid(frame, "FrameOfReferenceUID"), []).extend(series)
    common_series = list(_list_series(dataset))
    object_frames = {*series_by_frame, _read_uid(dataset, "FrameOfReferenceUID")}
    references = {}
    for number, contours in contours_by_number.items():
        frame = own_frame.get(number, "")
        is_own = not frame or frame in series_by_frame
        members = series_by_frame.get(frame) or [item for items in series_by_frame.values() for item in items]
        series = members or common_series
        keywords = ("ContourImageSequence", "ReferencedInstanceSequence")
        references[number] = References(
            items=tuple(range(len(contours))),
            item_sources=tuple(_collect_sources(_list_images(item, keywords[0])) for item in contours),
            sources=_collect_sources(image for item in series for key in keywords for image in _list_images(item, key)),
            series=frozenset(_read_uid(item, "SeriesInstanceUID") for item in series) - {""},
            frames_of_reference=frozenset([frame] if frame else object_frames) - {""},
            is_foreign=not is_own,
        )
    return references


def find_functional_groups(dataset: Dataset, frame: int, keyword: str) -> list[Dataset]:
    """Find all items of a functional group of one frame: its own, or those that all frames share (PS3.3 C.7.6.16)."""
    per_frame = dataset.get(_PER_FRAME) or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        for group in groups:
            if group.get(keyword):
                return list(group[keyword])
    return []


def _collect_sources(images: Iterable[Dataset]) -> frozenset[Source]:
    """The images that are named; frames of an image where they are, since those say more than the whole image."""
    frames_by_uid: dict[str, set[int]] = {}
    for image in images:
        uid, frames = _read_uid(image, "ReferencedSOPInstanceUID"), image.get("ReferencedFrameNumber")
        several = frames if hasattr(frames, "__iter__") and not isinstance(frames, str) else [frames]
        frames_by_uid.setdefault(uid, set()).update(int(number) for number in several if number not in (None, ""))
    frames_by_uid.pop("", None)
    return frozenset(Source(uid, frozenset(frames)) for uid, frames in frames_by_uid.items())


def _list_series(dataset: Dataset) -> Iterator[Dataset]:
    """The series that an object names in PS3.3 C.12.1.1.20, of its own study and of others."""
    yield from dataset.get("ReferencedSeriesSequence") or []
    for study in dataset.get("StudiesContainingOtherReferencedInstancesSequence") or []:
        yield from study.get("ReferencedSeriesSequence") or []


def _list_images(item: Dataset, keyword: str) -> list[Dataset]:
    return list(item.get(keyword) or [])


def _read_uid(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword) or "").strip()


def _has_frames(part: SeriesPart, source: Source) -> bool:
    """Whether a part of a multi-frame object, or of a concatenation, holds any frame that is referred to."""
    if not (part.frames and source.frames):
        return True
    # The frames of a concatenation are counted through all of its objects.
    before = 0
    for header in part.headers:
        if header.sop_uid == source.sop_uid:
            break
        before += header.frame_count
    return not source.frames.isdisjoint(frame + 1 - before for frame in part.frames)


def _is_volume(part: SeriesPart) -> bool:
    """Whether labels may be drawn on it by its frame of reference: no scout, and no dose."""
    first = part.first
    is_picture = "LOCALIZER" in first.image_type or first.sop_class.startswith(SECONDARY_CAPTURE)
    has_slices = first.plane.rows > 0 and sum(header.frame_count for header in part.headers) >= FEWEST_SLICES
    return part.kind == "volume" or (
        part.kind in ("skipped", "unreadable") and first.modality in VOLUME_MODALITIES and has_slices and not is_picture
    )


def _sort_key(source: Source) -> tuple[str, list[int]]:
    return source.sop_uid, sorted(source.frames)
