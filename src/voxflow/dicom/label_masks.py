"""Reads the masks of label objects one by one, each on the grid of the image that it was drawn on.

The conversion makes one label volume of all label objects of an image. Here each object stands alone, so that two of
them can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.dicom.group import SeriesPart, group_headers
from voxflow.dicom.label_grid import LabelGrid
from voxflow.dicom.labels import LabelShare, match_label, read_label_object
from voxflow.dicom.mapping import choose_mapping_path, read_pseudonyms
from voxflow.dicom.plain import read_header
from voxflow.dicom.reading import read_part
from voxflow.dicom.references import ImageIndex
from voxflow.dicom.rtstruct import StructureSet
from voxflow.dicom.seg import Segmentation
from voxflow.dicom.sources import SourceFiles
from voxflow.errors import DicomError
from voxflow.images import load_pseudonym_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from voxflow.dicom.options import ConvertOptions
    from voxflow.geometry import Geometry


@dataclass(frozen=True)
class ObjectMasks:
    """The masks of one label object on one image.

    Attributes:
        place: of the image among those of the reader.
        share: what of the object belongs to the image.
        grid: of the image.
        problems: why some segments or ROIs can't be used, by number.
        reader: reads them.
    """

    place: int
    share: LabelShare
    grid: LabelGrid
    problems: dict[int, str]
    reader: Segmentation | StructureSet

    @property
    def numbers(self) -> list[int]:
        """The segments or ROIs that can be read, ascending."""
        return sorted(set(self.share.items) - set(self.problems))

    def read(self, number: int) -> tuple[NDArray[np.bool_], bool]:
        """Read one segment or ROI.

        Args:
            number: SegmentNumber (0062,0004) or ROINumber (3006,0022).

        Returns:
            The mask (i, j, k), and whether its edge is rounded: it was drawn as contours or on another grid.

        Raises:
            DicomError: it can't be read.
        """
        mask = self.reader.read_mask(number, self.share.items[number], self.grid)
        return mask.array, bool(mask.remedy) or self.share.label.kind == "rtstruct"


class ImageMasks:
    """The volumes of some DICOM files, and the masks of label objects that were drawn on them.

    Args:
        files: of the images, in any order; other files among them are left out.
        options: of the conversion.
    """

    def __init__(self, files: Sequence[Path], options: ConvertOptions) -> None:
        headers = [header for file in files if (header := read_header(file)) is not None]
        self._parts = [part for part in group_headers(headers, options) if part.kind != "label"]
        self._index = ImageIndex(self._parts)
        self._options = options
        self._grids: dict[int, LabelGrid] = {}

    def open(self, path: Path) -> ObjectMasks:
        """Find the image of a label object.

        Raises:
            DicomError: it was drawn on none of the images, or on several, or it can't be read.
        """
        header = read_header(path)
        if header is None or header.fault:
            raise DicomError(header.fault if header else "is no DICOM", path=path)
        label = read_label_object(SeriesPart("label", (header,)))
        shares, problems = match_label(label, self._index, label.names)
        places = [place for place in shares if self._parts[place].kind == "volume"]
        if len(places) > 1:
            raise DicomError(f"it was drawn on {len(places)} volumes, and one is expected", path=path)
        if not places:
            reasons = dict.fromkeys(problems.values()) or ["it refers to no image that is here"]
            raise DicomError("; ".join(reasons), path=path)
        place, share = places[0], shares[places[0]]
        reader = StructureSet(path) if label.kind == "rtstruct" else Segmentation(path, share.items)
        return ObjectMasks(place, share, self._find_grid(place), problems, reader)

    def geometry(self, place: int) -> Geometry:
        """The grid of one image."""
        return self._find_grid(place).geometry

    def source_files(self, place: int) -> SourceFiles:
        """The files of one image."""
        part = self._parts[place]
        return SourceFiles(tuple(header.path for header in part.headers), part.frames)

    def name_patient(self, place: int, volumes: Path) -> str:
        """Give the patient of one image the pseudonym that the conversion gives.

        Args:
            place: of the image.
            volumes: the folder that the conversion makes.
        """
        patient = self._parts[place].first.patient
        key = load_pseudonym_key(self._options.pseudonym_key)
        return read_pseudonyms(key, choose_mapping_path(volumes)).assign([patient])[patient]

    def _find_grid(self, place: int) -> LabelGrid:
        if place not in self._grids:
            reading = read_part(self._parts[place], self._options)
            self._grids[place] = LabelGrid(reading.volume.geometry, reading.remedy_plan)
        return self._grids[place]
