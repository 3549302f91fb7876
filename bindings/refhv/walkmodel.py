# SPDX-License-Identifier: MIT
"""What a TLB sweep should look like: references of a page walk, and the curve that given TLBs and walk caches give.

The chase visits `lines` lines, one per 4 KB of address space, in one fixed random cycle. A cache of translations then sees
every one of its entries come round once a cycle, which makes its hits computable:

- least recently used, one line an entry: a set that must hold more entries than it has ways misses every time, any other
  never. A fully associative cache is one set.
- random replacement, one line an entry: between two uses of an entry there are m·d misses (m the share of misses, d the
  distinct entries), each of which evicts it with probability 1/entries, so m = 1 - exp(-m·d/entries). With x = d/entries the
  solution is m = 1 + W(-x·exp(-x))/x for x > 1 (W: Lambert's function, principal branch), else 0.
- many lines an entry (large pages, walk caches): which entry comes next is as good as drawn at random, so the share of hits
  is about entries/d under any policy that does not look ahead (within 0.07 of a simulated cache).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.special import lambertw


def references(guest_levels: int, nested_levels: int = 0) -> int:
    """Page-table entries that one walk reads when nothing is cached: (g+1)(h+1)-1; native (nested_levels 0): g.

    Source: Bhargava et al., "Accelerating Two-Dimensional Page Walks", ASPLOS 2008. 24 for 4 by 4 levels, 35 for 5 by 5.
    Raises ValueError for a negative number of levels or no guest level.
    """
    if guest_levels < 1 or nested_levels < 0:
        raise ValueError(f"no page walk has {guest_levels} guest and {nested_levels} nested levels")
    return (guest_levels + 1) * (nested_levels + 1) - 1


@dataclass(frozen=True)
class Cache:
    """A TLB level or a walk cache: `entries` of them, each covering `reach` lines; a miss adds `cost` to an access.

    `ways`: None is fully associative (the set is the entry's number modulo the number of sets). `policy`: lru or random.
    """

    entries: int
    cost: float
    reach: int = 1
    ways: int | None = None
    policy: str = "lru"

    def __post_init__(self) -> None:
        if self.policy not in ("lru", "random"):
            raise ValueError(f"no policy {self.policy!r}")
        if self.entries < 1 or self.reach < 1 or (self.ways and self.entries % self.ways):
            raise ValueError(f"no cache has {self.entries} entries in {self.ways} ways of reach {self.reach}")


def _lru_misses(distinct: int, sets: int, ways: int) -> float:
    each, more = divmod(distinct, sets)
    crowded = (more * (each + 1) if each + 1 > ways else 0) + ((sets - more) * each if each > ways else 0)
    return crowded / distinct


def _random_misses(pressure: float) -> float:
    return 0.0 if pressure <= 1 else float(1 + lambertw(-pressure * numpy.exp(-pressure)).real / pressure)


def miss_share(cache: Cache, lines: int) -> float:
    """Share of accesses, 0 to 1, that miss `cache` in a chase over `lines` lines."""
    distinct = -(-lines // cache.reach)
    if cache.reach > 1:
        return max(0.0, 1 - cache.entries / distinct)
    ways = cache.ways or cache.entries
    sets = cache.entries // ways
    if cache.policy == "lru":
        return _lru_misses(distinct, sets, ways)
    each, more = divmod(distinct, sets)
    shares = ((more, each + 1), (sets - more, each))
    return sum(count * load * _random_misses(load / ways) for count, load in shares) / distinct


def expected(lines: Sequence[int], caches: Sequence[Cache], base: float | Sequence[float] = 0.0) -> numpy.ndarray:
    """Time per access for each of `lines`, in the unit of the costs: `base` (one number, or one for each of `lines`: what the
    data caches cost) plus, for every cache, its cost times its share of misses."""
    shares = numpy.array([[miss_share(cache, count) for cache in caches] for count in lines]).reshape(len(lines), len(caches))
    return numpy.asarray(base, float) + shares @ numpy.array([cache.cost for cache in caches], float)
