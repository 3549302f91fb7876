# SPDX-License-Identifier: MIT
"""Knees and slopes of a sweep: where a curve leaves a plateau, how high the next one stands, how it goes on rising."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy import optimize, stats

MOST_KNEES = 4
LONGEST_RISE = 5  # steps of the sweep from one plateau to the next
LEAST_GAIN = 20.0  # of chi-square, for one knee more; three parameters at 1 % would need 11
LEAST_SHARE = 0.5  # of the chi-square that stays: holds where the noise is larger than was said


@dataclass(frozen=True)
class Knee:
    """`inside`: the largest size still on the lower plateau; `full`: the smallest on the upper one; `rise`: between the
    plateaus, in the curve's unit."""

    inside: int
    full: int
    rise: float


def _ramp(position: numpy.ndarray, begin: int, end: int) -> numpy.ndarray:
    """0 up to point `begin`, 1 from point `end` on, straight between in the logarithm of the size."""
    return numpy.clip((position - position[begin]) / (position[end] - position[begin]), 0, 1)


def _fit(position: numpy.ndarray, cycles: numpy.ndarray, weight: numpy.ndarray,
         ramps: Sequence[tuple[int, int]]) -> tuple[float, numpy.ndarray]:
    """Chi-square and coefficients (base, one rise a ramp; none negative) of the best sum of ramps."""
    columns = numpy.stack([numpy.ones_like(position), *(_ramp(position, *ramp) for ramp in ramps)], axis=1)
    best, residue = optimize.nnls(columns * weight[:, None], cycles * weight)
    return residue**2, best


def find_knees(lines: Sequence[int], cycles: Sequence[float], noise: float = 0.03, floor: float = 0.3,
               least_rise: float = 1.0) -> list[Knee]:
    """The knees of a curve of positive values, smallest size first; where it falls there is none.

    `lines`: sizes, rising; `cycles`: the curve, any unit. The error of a point is taken as the larger of `floor` and `noise`
    times its value. Rises below `least_rise` are left out. Method: a sum of ramps in the logarithm of the size, fitted by
    weighted least squares with rises that are not negative; ramps are added one by one, all are moved until nothing improves, and one more stays only if
    chi-square falls by more than LEAST_GAIN and than LEAST_SHARE of what is left. Raises ValueError for fewer than 4 points or sizes
    that do not rise.
    """
    sizes, curve = numpy.asarray(lines, float), numpy.asarray(cycles, float)
    if len(sizes) != len(curve) or len(sizes) < 4 or (numpy.diff(sizes) <= 0).any():
        raise ValueError("a curve has at least 4 points, of rising size")
    position, weight = numpy.log2(sizes), 1 / numpy.maximum(floor, noise * numpy.abs(curve))
    places = [(i, j) for i, j in itertools.combinations(range(len(sizes)), 2) if j - i <= LONGEST_RISE]
    ramps: list[tuple[int, int]] = []
    chi = _fit(position, curve, weight, ramps)[0]
    while len(ramps) < MOST_KNEES:
        more, lower = _improve(position, curve, weight, [*ramps, _best_place(position, curve, weight, ramps, places)], places)
        if chi - lower < max(LEAST_GAIN, LEAST_SHARE * lower):
            break
        ramps, chi = more, lower
    _, best = _fit(position, curve, weight, ramps)
    found = [Knee(int(sizes[i]), int(sizes[j]), float(rise)) for (i, j), rise in zip(ramps, best[1:]) if rise >= least_rise]
    return _merged(sorted(found, key=lambda knee: knee.inside))


def _merged(found: list[Knee]) -> list[Knee]:
    """Ramps that overlap are one knee of a shape of its own."""
    merged: list[Knee] = []
    for knee in found:
        if merged and knee.inside < merged[-1].full:
            last = merged.pop()
            knee = Knee(last.inside, max(last.full, knee.full), last.rise + knee.rise)
        merged.append(knee)
    return merged


def _best_place(position, curve, weight, others, places) -> tuple[int, int]:
    return min(places, key=lambda place: _fit(position, curve, weight, [*others, place])[0])


def _improve(position, curve, weight, ramps, places) -> tuple[list[tuple[int, int]], float]:
    """Moves one ramp at a time to where it fits best until none moves."""
    ramps = list(ramps)
    for _ in range(8):
        before = list(ramps)
        for k in range(len(ramps)):
            ramps[k] = _best_place(position, curve, weight, ramps[:k] + ramps[k + 1:], places)
        if ramps == before:
            break
    return ramps, _fit(position, curve, weight, ramps)[0]


@dataclass(frozen=True)
class Slope:
    """Per doubling of the size, in the curve's unit, with its 95 % interval."""

    value: float
    low: float
    high: float


def slope(lines: Sequence[int], cycles: Sequence[float], low: int, high: int) -> Slope | None:
    """Theil-Sen slope against the logarithm of the size, over low <= lines <= high; None for fewer than 3 points there."""
    points = [(size, value) for size, value in zip(lines, cycles) if low <= size <= high]
    if len(points) < 3:
        return None
    sizes, values = zip(*points)
    found = stats.theilslopes(values, numpy.log2(sizes), 0.95)
    return Slope(float(found[0]), float(found[2]), float(found[3]))
