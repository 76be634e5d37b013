"""Looks into a folder before a workspace is made of it: what images and labels it holds, and what will be lost.

Headers and names are read, no pixels. So the conversion finds more: a missing slice, a grid that does not fit.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from voxflow.dicom import ConvertOptions, group_headers
from voxflow.errors import DataError
from voxflow.images import ImageOptions, SourceNamer, describe_other_files, pair_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.dicom import FolderScan, SeriesPart
    from voxflow.images import ConversionRow

MOST_REASONS = 6
IMAGES = ("volume", "radiograph")
AUTO, AUTO_RADIOGRAPHS = "auto", "auto_radiographs"


def choose_template(template: str, source: Path, scan: FolderScan) -> str:
    """Choose what ``auto`` means for a folder: volumes are segmented, radiographs are classified.

    Args:
        template: the one that was asked for; any other than ``auto`` stays.
        source: the folder.
        scan: its files.
    """
    return AUTO_RADIOGRAPHS if template == AUTO and _shows_radiographs(source, scan) else template


def _shows_radiographs(source: Path, scan: FolderScan) -> bool:
    """Whether it holds no volume, but DICOM of radiographs, or pictures without masks."""
    kinds = {part.kind for part in group_headers(scan.headers, ConvertOptions())} & set(IMAGES)
    if kinds:
        return kinds == {"radiograph"}
    pairs = pair_files(source, scan.other_files, ImageOptions()).pairs
    images = [pair for pair in pairs if pair.image is not None and not pair.reason]
    return bool(images) and all(pair.is_picture for pair in images)


def describe_source(
    source: Path, scan: FolderScan, *, modalities: Sequence[str] | None = None, needs_labels: bool = True
) -> list[str]:
    """Describe what a folder holds, and what a conversion will leave out.

    Args:
        source: the folder.
        scan: its files.
        modalities: of the DICOM that the workspace takes; None: all.
        needs_labels: whether the model learns from masks.

    Returns:
        Lines without anything of a patient's.

    Raises:
        DataError: it holds no image that can be read.
    """
    options = ConvertOptions(modalities=tuple(modalities) if modalities else None)
    parts = group_headers(scan.headers, options)
    volumes = [part for part in parts if part.kind in IMAGES]
    # Without names, which beside DICOM are often those of patients.
    describe = lambda _: "another file"  # noqa: E731
    pairs = pair_files(source, scan.other_files, ImageOptions(), describe=describe, has_cases=bool(volumes)).pairs
    images = [pair for pair in pairs if not pair.reason]
    # The key makes pseudonyms of folders' names, of which none is shown.
    other_rows = describe_other_files(scan.other_files, SourceNamer(source, b""), (), copies=scan.copies)
    losses = _count_losses(parts, [pair.reason for pair in pairs if pair.reason], other_rows)
    lost = [f"  left out: {count} {reason}" for reason, count in losses.most_common(MOST_REASONS)]
    lost += [f"  left out: {len(losses) - MOST_REASONS} further reasons"] if len(losses) > MOST_REASONS else []
    if not volumes and not images:
        contents = "; ".join(line.strip() for line in lost) or f"{len(scan.other_files)} other file(s)"
        raise DataError(f"holds no image that this workspace can take ({contents})", path=source)
    labels = Counter(part.first.modality for part in parts if part.kind == "label")
    labelled_files = sum(pair.label is not None for pair in images)
    lines = [f"{source}: {_describe_images(volumes, len(images))}; labels: {_describe_labels(labels, labelled_files)}"]
    if needs_labels and not labels and not labelled_files:
        lines.append("  a training needs labels: DICOM SEG, RTSTRUCT, or a mask file for each image")
    return lines + lost


def _describe_images(volumes: Sequence[SeriesPart], files: int) -> str:
    by_modality = Counter(part.first.modality for part in volumes)
    patients = len({part.first.patient for part in volumes})
    kinds = ", ".join(f"{modality} {count}" for modality, count in by_modality.most_common())
    texts = [f"{len(volumes)} DICOM images of {patients} patients ({kinds})"] if volumes else []
    return " and ".join([*texts, *([f"{files} image files"] if files else [])])


def _describe_labels(objects: Mapping[str, int], files: int) -> str:
    texts = [f"{count} {modality}" for modality, count in objects.items()]
    return ", ".join([*texts, *([f"{files} mask files"] if files else [])]) or "none"


def _count_losses(
    parts: Sequence[SeriesPart], pair_reasons: Sequence[str], other_rows: Sequence[ConversionRow]
) -> Counter[str]:
    losses = Counter(
        f"series ({part.reason or 'unreadable'})" for part in parts if part.kind in ("skipped", "unreadable")
    )
    losses.update(f"image file(s) ({reason})" for reason in pair_reasons)
    for row in other_rows:
        # Texts and tables are no loss.
        if row.verdict == "quarantined" or row.modality or "copy" in row.reason:
            losses[f"file(s) ({row.reason})"] += row.files
    return losses
