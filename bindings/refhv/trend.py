# SPDX-License-Identifier: MIT
"""A benchmark over time on one machine, and where it changed for good: regressions that nobody gated.

Binary segmentation with a rank statistic: the cut at which the launches before and after differ most by Mann-Whitney's z; its p is
taken from random orders of the same launches, so that neither the many places of a cut nor ties or outliers make one. Both parts are
then looked at in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy import stats

from refhv.store import Point, Store

LEVEL = 0.001  # 200 benchmarks are looked at at once
LEAST = 0.02  # a change that counts at all, as in the gate
SEGMENT = 5  # launches that a level needs
ORDERS = (200, 4000)  # few first: most places are no cut by far


@dataclass(frozen=True)
class Change:
    """From launch `index` on, the level is another: medians before and after, relative change (0.05: 5 %), p of the cut."""

    index: int
    before: float
    after: float
    change: float
    p: float


@dataclass(frozen=True)
class Trend:
    """A benchmark of one target on one machine: its launches by time, their values in `unit`, and where they changed."""

    benchmark: str
    target: str
    cpu: str
    machine_key: str
    unit: str
    points: list[Point]
    values: list[float]
    changes: list[Change]


def _scores(ranks: numpy.ndarray) -> numpy.ndarray:
    """|z| of the rank sum in front of each possible cut; ranks are [..., launches]."""
    count = ranks.shape[-1]
    sizes = numpy.arange(SEGMENT, count - SEGMENT + 1)
    sums = numpy.cumsum(ranks, axis=-1)[..., sizes - 1]
    expected = sizes * (count + 1) / 2
    return numpy.abs(sums - expected) / numpy.sqrt(sizes * (count - sizes) * (count + 1) / 12)


def change_points(values: Sequence[float], seed: int = 1) -> list[Change]:
    """Where the level of values in order of time changes, by index. Values: one a launch."""
    data = numpy.asarray(values, float)
    cuts: list[tuple[int, float]] = []

    def look(begin: int, end: int) -> None:
        if end - begin < 2 * SEGMENT:
            return
        ranks = stats.rankdata(data[begin:end])
        if len(set(ranks)) == 1:
            return
        scores = _scores(ranks)
        best = int(numpy.argmax(scores))
        dice = numpy.random.default_rng((seed, begin, end))
        for orders in ORDERS:
            others = _scores(dice.permuted(numpy.broadcast_to(ranks, (orders, len(ranks))), axis=1)).max(axis=1)
            p = (1 + int((others >= scores[best]).sum())) / (1 + orders)
            if p > max(LEVEL, 1 / (1 + orders)):
                return
        cut = begin + SEGMENT + best
        look(begin, cut)
        cuts.append((cut, p))
        look(cut, end)
    look(0, len(data))
    edges = [0, *(cut for cut, _ in cuts), len(data)]
    out = []
    for (cut, p), before, after in zip(cuts, edges, edges[2:]):
        low, high = float(numpy.median(data[before:cut])), float(numpy.median(data[cut:after]))
        change = (high - low) / abs(low) if low else float("inf") if high else 0.0
        if abs(change) > LEAST:
            out.append(Change(cut, low, high, change, p))
    return out


def trends(store: Store, **wanted: str) -> list[Trend]:
    """Trends of what `Store.points` gives, by benchmark, target and machine key; those that changed most come first."""
    groups: dict[tuple[str, str, str], list[Point]] = {}
    for point in store.points(**wanted):
        if point.verdict == "PASS" and point.p50 is not None:
            groups.setdefault((point.benchmark, point.target, point.machine_key), []).append(point)
    found = []
    for (benchmark, target, key), points in groups.items():
        values = [point.p50 for point in points if point.p50 is not None]
        found.append(Trend(benchmark, target, points[-1].cpu, key, points[-1].unit, points, values, change_points(values)))
    return sorted(found, key=lambda trend: -max((abs(change.change) for change in trend.changes), default=-1.0))
