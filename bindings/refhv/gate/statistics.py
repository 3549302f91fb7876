# SPDX-License-Identifier: MIT
"""The gate's statistics: rank sums of launch medians, many tests at once, what two halves of one side differ by.

Arrays of times are [rows, launches], in the target's unit. Nothing here knows what a record is.
"""

import functools

import numpy
from scipy import stats

MOST_EXACT = 60  # launches of both sides up to which a rank sum's distribution is counted out
FLOOR_QUANTILE = 0.95
SPLITS = 400


def _tail(ranks: numpy.ndarray, size: int, least: int) -> float:
    """P(the sum of `size` of these doubled ranks, drawn at random, is at least `least`)."""
    total = int(ranks.sum())
    ways = numpy.zeros((size + 1, total + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :total + 1 - rank].copy()
    return float(ways[size, least:].sum() / ways[size].sum())


@functools.cache
def _tail_without_ties(count: int, size: int, least: int) -> float:
    return _tail(2 * numpy.arange(1, count + 1), size, least)


def slower(base: numpy.ndarray, candidate: numpy.ndarray) -> float:
    """One-sided Mann-Whitney: p of `candidate`'s times being no larger than `base`'s. 1-D arrays.

    The permutation distribution of the rank sum with mid-ranks (Mann & Whitney 1947; ties: Lehmann, Nonparametrics, 1.4) is
    counted out for up to 60 launches: the normal approximation cannot go below what 200 tests at once ask for at 10 a side.
    """
    both = numpy.concatenate([base, candidate])
    ranks = numpy.rint(2 * stats.rankdata(both)).astype(int)
    least = int(ranks[len(base):].sum())
    if len(both) > MOST_EXACT:
        return float(stats.mannwhitneyu(candidate, base, alternative="greater", method="asymptotic").pvalue)
    if len(set(both.tolist())) == len(both):
        return _tail_without_ties(len(both), len(candidate), least)
    return _tail(ranks, len(candidate), least)


def adjusted(p: numpy.ndarray) -> numpy.ndarray:
    """p values as Benjamini and Hochberg (1995) adjust them: those at most q are a set with a share q of false ones."""
    order = numpy.argsort(p)
    scaled = p[order] * len(p) / numpy.arange(1, len(p) + 1)
    out = numpy.empty(len(p))
    out[order] = numpy.minimum(numpy.minimum.accumulate(scaled[::-1])[::-1], 1)
    return out


def floors(base: numpy.ndarray, seed: int = 1) -> numpy.ndarray:
    """By row, the A/A floor: the relative change between two random halves of one side's launches that 95 % stay below."""
    rows, count = base.shape
    half = count // 2
    if half < 1:
        return numpy.full(rows, numpy.inf)
    dice = numpy.random.default_rng(seed)
    order = numpy.argsort(dice.random((SPLITS, count)), axis=1)
    one = numpy.median(base[:, order[:, :half]], axis=2)
    other = numpy.median(base[:, order[:, half:2 * half]], axis=2)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        changes = numpy.abs(one / other - 1)
    return numpy.quantile(numpy.where(numpy.isfinite(changes), changes, numpy.inf), FLOOR_QUANTILE, axis=1, method="higher")


def change(base: numpy.ndarray, candidate: numpy.ndarray) -> float:
    """How much larger the median of the candidate's launches is, relative to the base's."""
    return float(numpy.median(candidate) / numpy.median(base) - 1)


INTERVAL = 0.95


@functools.cache
def _outside(before: int, after: int) -> int:
    """How many of the sorted ratios of pairs lie outside of the interval at each end; negative where there are too few launches."""
    tail, pairs = (1 - INTERVAL) / 2, before * after
    if before + after > MOST_EXACT:
        return int(pairs / 2 + stats.norm.ppf(tail) * numpy.sqrt(pairs * (before + after + 1) / 12)) - 1
    count = -1
    while _tail_without_ties(before + after, after, 2 * (pairs - count - 1) + after * (after + 1)) <= tail:
        count += 1
    return count


def interval(base: numpy.ndarray, candidate: numpy.ndarray) -> tuple[float, float] | None:
    """The 95 % interval of the relative change: Hodges and Lehmann's, that of the changes that the rank sum does not refuse (Lehmann,
    Nonparametrics, 2.6), over the ratios of all pairs of launches. None where there are too few launches, or times of 0."""
    outside = _outside(len(base), len(candidate))
    if outside < 0 or base.min() <= 0:
        return None
    ratios = numpy.sort((candidate[None, :] / base[:, None]).ravel()) - 1
    return float(ratios[outside]), float(ratios[len(ratios) - 1 - outside])


def smallest_shown(base: numpy.ndarray, launches: int, level: float, least: float) -> float | None:
    """The smallest slowdown that launches like these would show at this level: the base's own, slowed down, against the base's.
    None where no slowdown could. `least`: the change that counts at all."""
    drawn = numpy.quantile(base, (numpy.arange(launches) + 0.5) / launches)
    ranks_above = 2 * numpy.arange(len(base) + 1, len(base) + launches + 1)
    if len(base) + launches <= MOST_EXACT and _tail_without_ties(len(base) + launches, launches, int(ranks_above.sum())) > level:
        return None

    def shown(slowdown: float) -> bool:
        return slower(base, drawn * (1 + slowdown) * (1 + 1e-9)) <= level
    low, high = 0.0, 1.0
    while not shown(high):
        high *= 2
        if high > 1e3:
            return None
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return max(high, least)
