"""The synthetic head: tissues in four contrasts of MR, with a tumour of three nested regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from voxflow.synthetic.anatomy import Ellipsoid, draw_smooth_noise, list_points

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

Contrast = Literal["T1", "T1c", "T2", "FLAIR"]
CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)
REGIONS = ("whole tumour", "tumour core", "enhancing tumour")
AIR, FAT, FLUID, GREY, WHITE, OEDEMA, NECROSIS, ENHANCING = range(8)
# One row a contrast, one column a tissue: only all four together tell the parts of a tumour apart.
SIGNAL: dict[Contrast, tuple[float, ...]] = {
    "T1": (0, 240, 35, 110, 140, 95, 70, 90),
    "T1c": (0, 240, 35, 112, 142, 97, 75, 215),
    "T2": (0, 150, 230, 125, 95, 180, 205, 160),
    "FLAIR": (0, 150, 20, 120, 95, 190, 85, 165),
}
NOISE = 7.0


@dataclass(frozen=True, eq=False)
class Head:
    """One invented patient.

    Attributes:
        images: the magnitude of each contrast, (i, j, k), float32, not below 0.
        regions: whether a voxel belongs to each of :data:`REGIONS`, (region, i, j, k).
        geometry: the grid of all.
    """

    images: Mapping[Contrast, NDArray[np.float32]]
    regions: NDArray[np.bool_]
    geometry: Geometry


def draw_head(rng: np.random.Generator, geometry: Geometry) -> Head:
    """Draw a patient whose tumour varies in place, size and shape, and a scanner that varies in scale and noise."""
    points = list_points(geometry)
    wobble = draw_smooth_noise(rng, points)
    tissue = _draw_tissues(rng, points, wobble)
    regions = _draw_tumour(rng, points, draw_smooth_noise(rng, points), tissue)
    for region, value in zip(regions, (OEDEMA, NECROSIS, ENHANCING), strict=True):
        tissue[region] = value
    return Head({contrast: _simulate_scan(rng, tissue, contrast) for contrast in CONTRASTS}, regions, geometry)


def _draw_tissues(
    rng: np.random.Generator, points: NDArray[np.float32], wobble: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Scalp, fluid, grey and white matter, ventricles: (i, j, k)."""
    grow = rng.uniform(0.93, 1.05)
    tissue = np.full(points.shape[:-1], AIR, np.uint8)
    for radii, value in (
        ((74, 88, 72), FAT),
        ((68, 82, 67), AIR),  # bone has no signal
        ((65, 79, 64), FLUID),
        ((62, 76, 61), GREY),
        ((52, 65, 52), WHITE),
    ):
        level = Ellipsoid((0, 0, 0), (radii[0] * grow, radii[1] * grow, radii[2] * grow)).measure_level(points)
        tissue[level * (1 + 2 * wobble * (value == WHITE)) < 1] = value
    for side in (-1, 1):
        ventricle = Ellipsoid((side * 12.0, 0, 8), (7 * rng.uniform(0.8, 1.3), 30, 13), (side * 0.25, 0.1))
        tissue[ventricle.measure_level(points, wobble) < 1] = FLUID
    return tissue


def _draw_tumour(
    rng: np.random.Generator,
    points: NDArray[np.float32],
    wobble: NDArray[np.float32],
    tissue: NDArray[np.uint8],
) -> NDArray[np.bool_]:
    """The regions, each inside the one before, within grey and white matter: (region, i, j, k)."""
    side = rng.choice([-1, 1])
    centre = np.array([side * rng.uniform(26, 34), rng.uniform(-34, 34), rng.uniform(-14, 24)])
    radius = rng.uniform(24, 32)
    shape = rng.uniform(0.85, 1.15, 3)
    core_centre = centre + rng.uniform(-3, 3, 3)
    core_radii = radius * rng.uniform(0.62, 0.72) * shape
    whole = _measure_ball(points, centre, radius * shape, wobble) < 1
    core_level = _measure_ball(points, core_centre, core_radii, -wobble)
    core = core_level < 1
    # Most tumours enhance at the core's rim and are dead inside.
    enhancing = core & (core_level > rng.uniform(0.2, 0.38))
    matter = np.isin(tissue, (GREY, WHITE))
    whole = (whole | core) & matter
    return np.stack([whole, core & matter, enhancing & matter])


def _measure_ball(
    points: NDArray[np.float32], centre: NDArray[np.float64], radii: NDArray[np.float64], wobble: NDArray[np.float32]
) -> NDArray[np.float32]:
    (x, y, z), (a, b, c) = centre.tolist(), radii.tolist()
    return Ellipsoid((x, y, z), (a, b, c)).measure_level(points, 2 * wobble)


def _simulate_scan(rng: np.random.Generator, tissue: NDArray[np.uint8], contrast: Contrast) -> NDArray[np.float32]:
    """The magnitude image: blurred, shaded by the coil, of a scale of its own, with Rician noise."""
    from scipy.ndimage import gaussian_filter

    signal = np.asarray(SIGNAL[contrast], np.float32)
    signal = signal * rng.uniform(0.97, 1.03, len(signal)).astype(np.float32)
    blurred = gaussian_filter(signal[tissue], (0.5, 0.5, 0.3))
    ramps = [np.linspace(-1, 1, n, dtype=np.float32) * rng.uniform(-0.06, 0.06) for n in tissue.shape]
    shading = 1 + ramps[0][:, None, None] + ramps[1][None, :, None] + ramps[2][None, None, :]
    noise = rng.normal(0, NOISE * rng.uniform(0.8, 1.3), (2, *tissue.shape))
    scale = rng.uniform(2.0, 6.0)
    return np.asarray(scale * np.hypot(blurred * shading + noise[0], noise[1]), np.float32)
