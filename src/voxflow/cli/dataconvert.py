"""Convert images of a folder tree to another format, resampled on request (nvmidl-dataconvert, tlt-dataconvert)."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED, DataError, VoxflowError
from voxflow.progress import say, track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.dicom import DicomHeader
    from voxflow.volumes import Volume

SOURCES = (".dcm", ".nii", ".nii.gz", ".mha", ".mhd")
TARGETS = (".nii", ".nii.gz", ".mha", ".mhd")


@dataclass(frozen=True)
class VolumeToConvert:
    """One volume to make.

    Attributes:
        target: path of the new file.
        source: the volume file, or the folder of the series, for messages.
        headers: the slices of a DICOM series, empty for a volume file.
    """

    target: Path
    source: Path
    headers: tuple[DicomHeader, ...] = ()

    def load(self) -> Volume:
        """Read the volume.

        Raises:
            DataError: the slices make no volume, or the file can't be read.
        """
        from voxflow.dicom import read_series
        from voxflow.volumes import read_volume

        return read_series(self.headers, tolerance_mm=0.1, min_slices=3) if self.headers else read_volume(self.source)


@dataclass(frozen=True)
class DataConvertCommand:
    """Convert all images of a tree.

    Attributes:
        folder: the tree to read.
        output: the tree to write, with the same sub-folders.
        force: replace files that are there.
        labels: the volumes are label maps: nearest neighbour, else linear.
        resolution: mm, none (keep), one (isotropic) or three (per axis).
        source, target: file types, such as ``.dcm`` and ``.nii.gz``.
    """

    folder: Path
    output: Path
    force: bool
    labels: bool
    resolution: tuple[float, ...]
    source: str
    target: str

    def run(self) -> int:
        """Convert every volume; exit code 3 when some could not be.

        Raises:
            DataError: nothing to convert, nothing could be, or files are there already and ``force`` is not given.
        """
        items = self._series() if self.source == ".dcm" else self._files()
        if not items:
            raise DataError(f"holds no {self.source} volumes", path=self.folder)
        present = [item.target for item in items if item.target.exists()]
        if present and not self.force:
            raise DataError(f"{len(present)} file(s) are there already, first {present[0]}; -f overwrites them")
        # Also on file systems that know no case.
        counts = Counter(str(item.target).lower() for item in items)
        faults = [
            fault
            for item in track(items, "converting")
            if (fault := self._convert(item, is_alone=counts[str(item.target).lower()] == 1))
        ]
        for fault in faults:
            say(f"  quarantined: {fault}")
        if len(faults) == len(items):
            raise DataError(f"none of {len(items)} volumes could be converted", path=self.folder)
        say(f"dataconvert: {len(items) - len(faults)} of {len(items)} volumes converted → {self.output}")
        return EXIT_SOME_FAILED if faults else EXIT_OK

    def _convert(self, item: VolumeToConvert, *, is_alone: bool) -> str:
        """Make one file; gives what is wrong with its source, or nothing."""
        from voxflow.dicom import PARSE_ERRORS
        from voxflow.volumes import resample, target_geometry, write_volume

        if not is_alone:
            return f"{item.source}: another volume would become {item.target}, too; rename one of them"
        try:
            volume = item.load()
            if self.resolution:
                fill = 0.0 if self.labels else float(volume.array.min())
                grid = target_geometry(volume.geometry, self.resolution)
                volume = resample(volume, grid, "nearest" if self.labels else "linear", fill)
        except VoxflowError as error:
            return f"{item.source}: {error}"
        except PARSE_ERRORS as error:
            return f"{item.source}: unreadable: {type(error).__name__}"
        write_volume(item.target, volume)
        return ""

    def _files(self) -> list[VolumeToConvert]:
        from voxflow.images import list_files

        files = [
            file
            for file in list_files(self.folder)
            if file.name.lower().endswith(self.source) and not file.name.startswith(".")
        ]
        return [VolumeToConvert(self.output / self._target_of(file), file) for file in files]

    def _target_of(self, file: Path) -> Path:
        inside = file.relative_to(self.folder)
        return inside.with_name(inside.name[: -len(self.source)] + self.target)

    def _series(self) -> list[VolumeToConvert]:
        """The volumes of every folder are called as it is, and numbered where there are several."""
        from voxflow.dicom import ConvertOptions, group_headers, scan_folder

        headers = scan_folder(self.folder).headers
        parts = [part for part in group_headers(headers, ConvertOptions()) if part.kind == "volume"]
        folders = [min(header.path for header in part.headers).parent for part in parts]
        items = []
        for number, (part, folder) in enumerate(zip(parts, folders, strict=True)):
            count = f"_{folders[: number + 1].count(folder)}" if folders.count(folder) > 1 else ""
            inside = folder.relative_to(self.folder)
            inside = inside if inside.name else Path(self.folder.resolve().name)
            target = self.output / inside.parent / f"{inside.name}{count}{self.target}"
            items.append(VolumeToConvert(target, folder, part.headers))
        return items


def read_arguments(arguments: Sequence[str] | None = None) -> DataConvertCommand:
    """Parse the flags of the old command.

    Raises:
        DataError: a resolution is not one or three positive numbers.
    """
    parser = argparse.ArgumentParser(description="Convert images to another format, and resample them on request.")
    parser.add_argument("-d", dest="folder", type=Path, required=True, help="input folder with sub-folders")
    parser.add_argument("-o", dest="output", type=Path, required=True, help="output folder")
    parser.add_argument("-f", dest="force", action="store_true", help="overwrite existing files")
    parser.add_argument("-l", dest="labels", action="store_true", help="label maps: nearest neighbour, not linear")
    parser.add_argument("-r", dest="resolution", type=float, nargs="+", default=(), help="mm: one value or three")
    parser.add_argument("-s", dest="source", choices=SOURCES, default=".dcm", help="input type (default: %(default)s)")
    parser.add_argument("-e", dest="target", choices=TARGETS, default=".nii.gz", help="output type (%(default)s)")
    namespace = parser.parse_args(arguments)
    if namespace.resolution:
        from voxflow.volumes import parse_spacing

        namespace.resolution = parse_spacing(namespace.resolution)
    return DataConvertCommand(**vars(namespace))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (see :mod:`voxflow.errors`)."""
    from voxflow.cli.main import run_guarded

    return run_guarded("dataconvert", lambda: read_arguments(arguments).run())


if __name__ == "__main__":
    sys.exit(main())
