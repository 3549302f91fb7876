# SPDX-License-Identifier: MIT
"""The walk model against caches simulated entry by entry, and the finder of knees against curves with known answers."""

import random

import numpy
import pytest

from refhv import knees, walkmodel
from refhv.walkmodel import Cache

SIZES = [size for power in range(3, 15) for size in (1 << power, 3 << (power - 1))] + [1 << 15]


def simulated(cache, lines, cycles=40, seed=1):
    """Share of misses of a cache in which entries are really kept and thrown out, after a warm-up."""
    dice = random.Random(seed)
    order = list(range(lines))
    dice.shuffle(order)
    ways = cache.ways or cache.entries
    sets = [[] for _ in range(cache.entries // ways)]
    misses = 0
    for turn in range(cycles):
        for line in order:
            entry = line // cache.reach
            kept = sets[entry % len(sets)]
            if entry in kept:
                if cache.policy == "lru":
                    kept.remove(entry)
                    kept.append(entry)
                continue
            misses += turn >= cycles // 2
            if len(kept) == ways:
                kept.pop(0 if cache.policy == "lru" else dice.randrange(ways))
            kept.append(entry)
    return misses / (lines * (cycles - cycles // 2))


@pytest.mark.parametrize(("guest", "nested", "count"), [(4, 4, 24), (5, 5, 35), (5, 4, 29), (4, 5, 29), (4, 0, 4), (5, 0, 5), (4, 3, 19)])
def test_references(guest, nested, count):
    assert walkmodel.references(guest, nested) == count


@pytest.mark.parametrize(("guest", "nested"), [(0, 4), (4, -1)])
def test_references_of_no_walk(guest, nested):
    with pytest.raises(ValueError, match="no page walk"):
        walkmodel.references(guest, nested)


@pytest.mark.parametrize("lines", [8, 31, 32, 33, 48, 64, 100])
@pytest.mark.parametrize("cache", [
    Cache(32, 1), Cache(32, 1, ways=4), Cache(32, 1, ways=8, policy="random"), Cache(32, 1, policy="random"),
])
def test_miss_share_is_that_of_a_simulated_cache(cache, lines):
    tolerance = 0.0 if cache.policy == "lru" else 0.06
    assert walkmodel.miss_share(cache, lines) == pytest.approx(simulated(cache, lines), abs=tolerance)


@pytest.mark.parametrize("lines", [64, 128, 160, 256, 512])
def test_walk_cache_is_that_of_a_simulated_one(lines):
    cache = Cache(16, 1, reach=8)
    assert walkmodel.miss_share(cache, lines) == pytest.approx(simulated(cache, lines), abs=0.07)


def test_expected_adds_up():
    caches = [Cache(64, 7), Cache(1024, 30, ways=8)]
    assert walkmodel.expected([32, 65, 4096], caches, 4).tolist() == [4, 11, 41]
    assert walkmodel.expected([32, 65], caches, [1, 2]).tolist() == [1, 9]


@pytest.mark.parametrize("arguments", [{"policy": "fifo"}, {"entries": 0}, {"ways": 3}, {"reach": 0}])
def test_no_such_cache(arguments):
    with pytest.raises(ValueError, match="^no "):
        Cache(**({"entries": 32, "cost": 1} | arguments))


def noisy(curve, seed, share=0.02):
    return curve * (1 + share * numpy.random.default_rng(seed).standard_normal(len(curve)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("entries", [(64, 1536), (96, 4096), (72, 3072), (32, 512)])
def test_knees_are_found_where_they_were_put(entries, seed):
    first, second = entries
    curve = walkmodel.expected(SIZES, [Cache(first, 7), Cache(second, 60, ways=8)], 3)
    found = knees.find_knees(SIZES, noisy(curve, seed))
    assert len(found) == 2, found
    for knee, where, rise in zip(found, entries, (7, 60)):
        assert knee.inside <= where < knee.full  # the sweep cannot say it any closer
        assert knee.inside == max(size for size in SIZES if size <= where)
        assert knee.rise == pytest.approx(rise, rel=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_a_gradual_knee_begins_where_it_should(seed):
    curve = walkmodel.expected(SIZES, [Cache(96, 6), Cache(2048, 80, policy="random")], 3)
    found = knees.find_knees(SIZES, noisy(curve, seed))
    assert found[0].inside == 96 and found[0].rise == pytest.approx(6, rel=0.1)
    assert 1024 <= found[1].inside <= 3072
    assert sum(knee.rise for knee in found[1:]) == pytest.approx(80, rel=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_a_flat_curve_has_no_knee(seed):
    assert knees.find_knees(SIZES, noisy(numpy.full(len(SIZES), 20.0), seed)) == []


def test_more_noise_than_was_said_does_not_make_knees():
    flat = numpy.full(len(SIZES), 20.0)
    found = [bool(knees.find_knees(SIZES, noisy(flat, seed, share=0.15))) for seed in range(40)]
    assert sum(found) <= 6  # chi-square alone would have 32 of these


def test_overlapping_ramps_are_one_knee():
    parts = [knees.Knee(1536, 8192, 27.0), knees.Knee(6144, 12288, 36.0), knees.Knee(12288, 16384, 5.0)]
    assert knees._merged(parts) == [knees.Knee(1536, 12288, 63.0), parts[2]]


def test_a_fall_is_no_knee():
    curve = numpy.where(numpy.array(SIZES) < 500, 30.0, 10.0)
    assert knees.find_knees(SIZES, curve) == []


@pytest.mark.parametrize(("sizes", "curve"), [([1, 2, 3], [1, 2, 3]), ([1, 2, 2, 3], [1, 1, 1, 1]), ([1, 2, 3, 4], [1, 1, 1])])
def test_no_curve(sizes, curve):
    with pytest.raises(ValueError, match="at least 4 points"):
        knees.find_knees(sizes, curve)


@pytest.mark.parametrize("seed", range(4))
def test_slope_per_doubling(seed):
    curve = 50 + 6 * numpy.log2(SIZES) + 0.3 * numpy.random.default_rng(seed).standard_normal(len(SIZES))
    found = knees.slope(SIZES, curve, 1024, 32768)
    assert found.low < found.value < found.high < found.low + 1 and found.value == pytest.approx(6, abs=0.5)
    assert knees.slope(SIZES, curve, 30000, 32768) is None
