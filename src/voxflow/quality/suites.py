"""The expectations of volumes and radiographs; every limit can be set in params.yaml."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from voxflow.errors import ConfigError
from voxflow.findings import nearest_name
from voxflow.quality.checks import DataCheck
from voxflow.quality.labels import LABEL_CHECKS
from voxflow.quality.measure import APART, DIFFER, MISSING, ORDER, OWN_GRIDS
from voxflow.quality.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Range = tuple[float, float]

# Where a modality has units, its values lie between these; they bound the 1st and 99th percentile, so that metal or a
# single bad voxel is no finding: CT in Hounsfield units (padding of -2000 outside the field of view is one), PET in
# SUV or Bq/ml, both positive.
INTENSITY: dict[str, Range] = {"CT": (-1024.0, 4000.0), "PT": (-1e-3, 1e7)}
# What a modality's darkest value must reach, else rescaling was lost: CT holds air or at least water.
DARKEST: dict[str, Range] = {"CT": (-32768.0, 0.0)}


class ValidateOptions(BaseModel):
    """The key ``validate`` of a workspace in params.yaml.

    Attributes:
        spacing_mm: smallest and largest distance between voxels that is believed.
        size: volumes: fewest and most voxels along each axis; radiographs: rows and columns.
        intensity: bounds of the 1st and 99th percentile of an image; None: what is usual for the modality.
        label_values: values that a label may hold; None: those of labels.json.
        critical: checks, by name, to treat as critical although they warn by default.
        warning: checks, by name, to treat as a warning although they are critical by default.
        suites: further rules, by modality and measured column; ``voxflow profile`` makes them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spacing_mm: Range = (0.05, 12.0)
    size: Range = (4, 4096)
    intensity: Range | None = None
    label_values: tuple[int, ...] | None = None
    critical: tuple[str, ...] = ()
    warning: tuple[str, ...] = ()
    suites: dict[str, dict[str, Rule]] = {}


def build_volume_checks(
    options: ValidateOptions,
    modalities: Sequence[str],
    label_values: Sequence[int],
    channels: Mapping[str, str] | None = None,
    *,
    ignore: int | None = None,
    has_several_images: bool = False,
) -> list[DataCheck]:
    """Build the checks of 3D images and their labels.

    Args:
        options: bounds and severities.
        modalities: DICOM modalities in the table.
        label_values: values that labels.json names, background included.
        channels: modality of each channel by its name, where a case has several; empty where it is not known.
        ignore: the label value of voxels that nobody labelled, which is known, too; None where there is none.
        has_several_images: whether a case has several, though nothing names its channels.

    Raises:
        ConfigError: ``critical`` or ``warning`` names a check that does not exist.
    """
    values = {0, *(options.label_values or label_values), *(() if ignore is None else (ignore,))}
    allowed = " ".join(map(str, sorted(values)))
    # The stage resample brings several images onto one grid. Of a single one the check says what it always said.
    one_grid = DataCheck(
        "channels share one grid",
        "channels_on_grid",
        "true",
        severity="warning" if has_several_images else "critical",
    )
    checks = [
        *_build_identity_checks(),
        *(DataCheck(f"spacing along {a} in mm", f"spacing_{a}", "range", options.spacing_mm) for a in "ijk"),
        *(DataCheck(f"voxels along {a}", f"size_{a}", "range", options.size) for a in "ijk"),
        *(_build_channel_checks() if channels else [one_grid]),
        DataCheck("label lies on the image's grid", "label_on_grid", "true", optional=True),
        DataCheck("label values are known", "label_values", "values", tuple(allowed.split()), optional=True),
        DataCheck("label is not empty", "label_voxels", "range", (1, None), severity="warning", optional=True),
        *([] if channels else _build_intensity_checks(options, modalities)),
    ]
    for channel, modality in (channels or {}).items():
        of_channel = _build_intensity_checks(options, [modality] if modality else [])
        checks += [replace(c, name=f"{c.name}: {channel}", column=f"{c.column}:{channel}") for c in of_channel]
    return _apply_severities(checks, options)


def _build_channel_checks() -> list[DataCheck]:
    """The checks of how the channels of a case go together; a text says what is wrong."""
    return [
        DataCheck("channels are complete", MISSING, "set", ("",)),
        DataCheck("channels show one place", APART, "set", ("",), optional=True),
        DataCheck("channels share one grid", OWN_GRIDS, "set", ("",), severity="warning", optional=True),
        DataCheck("channels are different images", DIFFER, "true", optional=True),
        DataCheck("channels are in their places", ORDER, "set", ("",), severity="warning", optional=True),
    ]


def build_radiograph_checks(
    options: ValidateOptions, modalities: Sequence[str], findings: Sequence[str]
) -> list[DataCheck]:
    """Build the checks of 2D images and their findings.

    Raises:
        ConfigError: ``critical`` or ``warning`` names a check that does not exist.
    """
    checks = [
        *_build_identity_checks(),
        DataCheck("rows", "rows", "range", options.size),
        DataCheck("columns", "columns", "range", options.size),
        *(DataCheck(f"{name} is 0 or 1", f"finding:{name}", "set", (0, 1), optional=True) for name in findings),
        *_build_intensity_checks(options, modalities),
    ]
    return _apply_severities(checks, options)


def _build_identity_checks() -> list[DataCheck]:
    return [
        DataCheck("case is listed once", "case", "unique"),
        DataCheck("files can be read", "readable", "true"),
        DataCheck("pixels occur once", "pixel_hash", "unique"),
    ]


def _build_intensity_checks(options: ValidateOptions, modalities: Sequence[str]) -> list[DataCheck]:
    checks = [
        DataCheck("values are finite", "finite", "true"),
        DataCheck("image is not constant", "deviation", "range", (1e-12, None)),
    ]
    usual = INTENSITY.get(modalities[0]) if len(set(modalities)) == 1 else None
    low, high = options.intensity or usual or (None, None)
    if low is not None:
        checks += [
            DataCheck("dark values are of the modality", "percentile_1", "range", (low, None), severity="warning"),
            DataCheck("bright values are of the modality", "percentile_99", "range", (None, high), severity="warning"),
        ]
    darkest = DARKEST.get(modalities[0]) if len(set(modalities)) == 1 else None
    if darkest:
        checks.append(DataCheck("darkest value is rescaled", "minimum", "range", darkest, severity="warning"))
    return checks


def _apply_severities(checks: list[DataCheck], options: ValidateOptions) -> list[DataCheck]:
    names = [*(check.name for check in checks), *LABEL_CHECKS]
    # Without the channel's name it is the check of all channels.
    bases = {name: name.partition(": ")[0] for name in names}
    accepted_names = {*names, *bases.values()}
    findings = [
        _describe_unknown(name, names) for name in (*options.critical, *options.warning) if name not in accepted_names
    ]
    if findings:
        raise ConfigError("the key 'validate' names checks that there are not", findings=findings)
    severity_by_name = dict.fromkeys(options.warning, "warning") | dict.fromkeys(options.critical, "critical")
    return [
        check.with_severity(severity_by_name.get(check.name) or severity_by_name.get(bases[check.name], check.severity))
        for check in checks
    ]


def _describe_unknown(name: str, names: Sequence[str]) -> str:
    suggestion = nearest_name(name, names, cutoff=0.3)
    return f"{name!r}: did you mean {suggestion!r}?" if suggestion else f"{name!r}: expected one of {', '.join(names)}"
