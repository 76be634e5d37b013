"""The synthetic abdomen: soft organs of similar intensity, drawn in the patient's coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

AIR, FAT, MUSCLE, BONE, GAS = -1000.0, -95.0, 48.0, 260.0, -850.0
LIVER, SPLEEN, KIDNEY, STOMACH = 64.0, 56.0, 40.0, 46.0
NOISE_HU = 14.0


@dataclass(frozen=True)
class Ellipsoid:
    """A solid in the patient's frame.

    Attributes:
        centre: mm, LPS.
        radii: mm along its own axes.
        angles: rotations about z, then x, in radians.
        bend: how strongly its long axis curves, 1/mm.
    """

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    angles: tuple[float, float] = (0.0, 0.0)
    bend: float = 0.0

    def measure_level(
        self, points: NDArray[np.float32], wobble: NDArray[np.float32] | float = 0.0
    ) -> NDArray[np.float32]:
        """Measure how far points lie from the centre, as a share of the surface's distance, squared.

        Args:
            points: (..., 3), mm, LPS.
            wobble: (...), relative change that makes the surface uneven.

        Returns:
            (...), below 1 inside.

        Example:
            >>> ball = Ellipsoid(centre=(0, 0, 0), radii=(10, 10, 10))
            >>> ball.measure_level(np.array([[0, 0, 5], [0, 0, 20]], np.float32)).tolist()
            [0.25, 4.0]
        """
        z, x = self.angles
        about_z = np.array([[np.cos(z), np.sin(z), 0], [-np.sin(z), np.cos(z), 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, np.cos(x), np.sin(x)], [0, -np.sin(x), np.cos(x)]])
        local = (points - np.asarray(self.centre, np.float32)) @ (about_x @ about_z).T.astype(np.float32)
        local[..., 0] -= self.bend * local[..., 1] ** 2
        return np.asarray(((local / np.asarray(self.radii, np.float32)) ** 2).sum(-1) * (1 + wobble), np.float32)


@dataclass(frozen=True, eq=False)
class Abdomen:
    """One invented patient.

    Attributes:
        hounsfield: (i, j, k), float32.
        spleen: (i, j, k), bool.
        geometry: the grid of both.
    """

    hounsfield: NDArray[np.float32]
    spleen: NDArray[np.bool_]
    geometry: Geometry


def draw_abdomen(rng: np.random.Generator, geometry: Geometry) -> Abdomen:
    """Draw a patient whose organs vary in place, size and shape."""
    points = list_points(geometry)
    wobble = draw_smooth_noise(rng, points)
    hounsfield = np.full(geometry.size, AIR, np.float32)
    girth = rng.uniform(0.9, 1.08)
    body = Ellipsoid((0, 0, 0), (158 * girth, 112 * girth, 1e4)).measure_level(points)
    hounsfield[body < 1] = FAT
    wall = Ellipsoid((0, 2, 0), (140 * girth, 95 * girth, 1e4)).measure_level(points)
    hounsfield[wall < 1] = MUSCLE
    hounsfield[Ellipsoid((0, 0, 0), (130 * girth, 84 * girth, 1e4)).measure_level(points) < 1] = FAT + 25
    spine = Ellipsoid((0, 62 * girth, 0), (24, 24, 1e4)).measure_level(points)
    hounsfield[spine < 1] = BONE * rng.uniform(0.8, 1.1)
    _draw_ribs(hounsfield, points, girth)
    for organ, intensity in _choose_neighbours(rng, girth):
        hounsfield[organ.measure_level(points, wobble) < 1] = intensity + rng.normal(0, 3)
    spleen = _choose_spleen(rng, girth).measure_level(points, wobble) < 1
    hounsfield[spleen] = SPLEEN + rng.normal(0, 3)
    return Abdomen(_simulate_scan(rng, hounsfield), spleen, geometry)


def _shift_randomly(
    rng: np.random.Generator, centre: tuple[float, float, float], mm: float
) -> tuple[float, float, float]:
    x, y, z = np.asarray(centre) + rng.uniform(-mm, mm, 3)
    return float(x), float(y), float(z)


def _choose_spleen(rng: np.random.Generator, girth: float) -> Ellipsoid:
    grow = rng.uniform(0.85, 1.2)
    return Ellipsoid(
        _shift_randomly(rng, (88 * girth, 34 * girth, 10), 9),
        (24 * grow, 44 * grow, 46 * grow * rng.uniform(0.85, 1.15)),
        (rng.uniform(-0.5, -0.1), rng.uniform(-0.35, 0.35)),
        rng.uniform(-0.008, -0.003),
    )


def _choose_neighbours(rng: np.random.Generator, girth: float) -> list[tuple[Ellipsoid, float]]:
    grow = rng.uniform(0.9, 1.1)
    stomach = _shift_randomly(rng, (52 * girth, -34 * girth, 18), 8)
    gas = (stomach[0], stomach[1] - 14, stomach[2])
    return [
        (
            Ellipsoid(_shift_randomly(rng, (-62 * girth, -12, 25), 8), (66 * grow, 62 * grow, 62 * grow), (0.2, 0.1)),
            LIVER,
        ),
        (Ellipsoid(stomach, (36, 26, 36 * grow), (0.5, 0.2)), STOMACH),
        (Ellipsoid(gas, (20, 9, 22)), GAS),
        (Ellipsoid(_shift_randomly(rng, (58 * girth, 46 * girth, -42), 6), (24, 22, 46 * grow), (0.3, 0.1)), KIDNEY),
        (Ellipsoid(_shift_randomly(rng, (-58 * girth, 46 * girth, -48), 6), (24, 22, 46 * grow), (-0.3, 0.1)), KIDNEY),
        (Ellipsoid(_shift_randomly(rng, (0, -10, -55), 8), (60, 32, 20)), STOMACH - 6),
    ]


def _draw_ribs(hounsfield: NDArray[np.float32], points: NDArray[np.float32], girth: float) -> None:
    ring = np.hypot(points[..., 0] / (138 * girth), points[..., 1] / (93 * girth))
    level = (points[..., 2] + 0.35 * points[..., 1]) % 32
    hounsfield[(np.abs(ring - 1) < 0.035) & (level < 11) & (points[..., 1] > -60)] = BONE


def list_points(geometry: Geometry) -> NDArray[np.float32]:
    """Return the place of each voxel's centre, (i, j, k, 3), in mm, LPS."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.size), indexing="ij"), -1)
    return geometry.to_physical(index.astype(np.float64)).astype(np.float32)


def draw_smooth_noise(rng: np.random.Generator, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw a relative change that varies slowly in space.

    Args:
        rng: decides the waves.
        points: (..., 3), mm.

    Returns:
        (...), about 0.1 at most.
    """
    total = np.zeros(points.shape[:-1], np.float32)
    for _ in range(4):
        wave = rng.normal(0, 1, 3) * 2 * np.pi / rng.uniform(60, 110)
        total += np.sin(points @ wave.astype(np.float32) + rng.uniform(0, 6.28)).astype(np.float32)
    return 0.05 * total


def _simulate_scan(rng: np.random.Generator, hounsfield: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    # The scanner's point spread, then its noise, which neighbours share.
    blurred = gaussian_filter(hounsfield, (0.6, 0.6, 0.3))
    noise = gaussian_filter(rng.normal(0, 1, hounsfield.shape), (0.5, 0.5, 0))
    return np.asarray(blurred + noise / noise.std() * NOISE_HU, np.float32)
