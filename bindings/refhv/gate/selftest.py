# SPDX-License-Identifier: MIT
"""The gate's own proof: real launches against each other must pass, and slowed down they must not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy

from refhv import clock, paths
from refhv.gate import facts, times
from refhv.gate.model import Rule, Word
from refhv.gate.times import Times
from refhv.record import Record

SLOWDOWNS = (0.03, 0.05, 0.10)
MOST_FALSE, LEAST_CAUGHT, AT = 0.01, 0.80, 0.05


class TooFewError(Exception):
    """Not enough launches to make pairs of; one line."""


@dataclass(frozen=True)
class Rate:
    """`hits` of `tried`."""

    hits: int
    tried: int

    @property
    def share(self) -> float:
        return self.hits / self.tried if self.tried else 0.0

    def __str__(self) -> str:
        return f"{self.share:6.1%} ({self.hits} of {self.tried})"


@dataclass(frozen=True)
class Result:
    """`false_alarms`: A/A pairs that did not pass. By slowdown: `caught`, pairs in which everything was slowed and the gate said so;
    `alone`, pairs in which one benchmark was, and was named; `named`, benchmark by benchmark, the same by name."""

    launches: int
    benchmarks: int
    false_alarms: Rate
    caught: dict[float, Rate]
    alone: dict[float, Rate]
    named: dict[str, dict[float, Rate]]

    def good(self) -> bool:
        return self.false_alarms.share <= MOST_FALSE and self.caught[AT].share >= LEAST_CAUGHT


def _pairs(records: Sequence[Record], count: int, launches: int, seed: int) -> Iterator[list[Times]]:
    """Times of two sides of `launches` each, drawn from the records without one on both sides."""
    dice = numpy.random.default_rng(seed)
    step = max(map(clock.step, records))
    names = facts.by_name(records, "benchmarks")
    rows = [{row["name"]: row for row in rec["benchmarks"] if row["verdict"] == "PASS"} for rec in records]
    for _ in range(count):
        drawn = dice.permutation(len(records))
        sides = [[rows[i] for i in part] for part in (drawn[:launches], drawn[launches:2 * launches])]
        found = []
        for name in names:
            before, after = ([one[name] for one in side if name in one] for side in sides)
            if before and after and (one := times.of_rows(name, before, after, step)) is not None:
                found.append(one)
        yield found


def _slowed(found: Sequence[Times], by: float, which: Callable[[int], bool]) -> list[Times]:
    return [replace(one, candidate=one.candidate * (1 + by)) if which(i) else one for i, one in enumerate(found)]


def _alarms(found: Sequence[Times], rule: Rule) -> set[str]:
    return {finding.name for finding in times.judge("", found, rule, power=False) if finding.word is Word.WORSE}


def run(records: Sequence[Record], pairs: int, rule: Rule, seed: int = 1, progress: Callable[[int], None] = lambda done: None) -> Result:
    """The rates over so many random pairs of `rule.launches` a side. Records: launches of one target on one machine.
    Raises TooFewError."""
    if len(records) < 2 * rule.launches:
        raise TooFewError(f"{len(records)} launches, and {2 * rule.launches} are needed: {paths.COMMAND} run --launches={2 * rule.launches}")
    false, caught, alone, names = 0, dict.fromkeys(SLOWDOWNS, 0), dict.fromkeys(SLOWDOWNS, 0), []
    named: dict[str, dict[float, list[bool]]] = {}
    for index, found in enumerate(_pairs(records, pairs, rule.launches, seed)):
        found = [one for one in found if not one.missing]
        if not found:
            raise TooFewError("no benchmark of these records has a time")
        names = [one.name for one in found]
        false += bool(_alarms(found, rule))
        one = index % len(found)  # each benchmark in turn
        for by in SLOWDOWNS:
            caught[by] += bool(_alarms(_slowed(found, by, lambda _: True), rule))
            hit = found[one].name in _alarms(_slowed(found, by, lambda i, one=one: i == one), rule)
            alone[by] += hit
            named.setdefault(found[one].name, {}).setdefault(by, []).append(hit)
        progress(index + 1)
    return Result(len(records), len(names), Rate(false, pairs), {by: Rate(hits, pairs) for by, hits in caught.items()},
                  {by: Rate(hits, pairs) for by, hits in alone.items()},
                  {name: {by: Rate(sum(hits), len(hits)) for by, hits in rates.items()} for name, rates in named.items()})
