# SPDX-License-Identifier: MIT
"""Times: medians of launches, one against the other. METHOD.md's rule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from refhv import clock
from refhv.gate import statistics
from refhv.gate.model import Finding, Rule, Word

NO_TIMES = frozenset({"control"})  # nothing, measured against nothing: no relative change of it means anything


@dataclass(frozen=True)
class Times:
    """One benchmark: a value of each launch, in `unit`, and by how much its clock moves at once. `missing`: why it has none."""

    name: str
    base: numpy.ndarray
    candidate: numpy.ndarray
    unit: str
    step: float = 0.0
    missing: str = ""


def _values(rows: Sequence[dict[str, Any]], slope: bool) -> numpy.ndarray:
    return numpy.array([row["slope"] if slope else row["summary"]["p50"] for row in rows], float)


def of_rows(name: str, before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], step: float) -> Times | None:
    """A benchmark's times from its rows, one a launch; None where it has no time. Below ten steps of the clock the slope is taken."""
    first = before[0]
    if first["family"] in NO_TIMES or first.get("due"):
        return None
    base = _values(before, False)
    coarse = float(numpy.median(base)) < clock.STEPS_THAT_MATTER * step
    if coarse and all(row["slope"] is not None for row in (*before, *after)):
        times = Times(name, _values(before, True), _values(after, True), first["unit"])  # of n operations: a step is nothing
    else:
        times = Times(name, base, _values(after, False), first["unit"], step if step > 1 else 0.0)
    if numpy.median(times.base) <= 0:
        return replace(times, missing="not longer than what the stamps cost")
    return times


def judge(target: str, found: Sequence[Times], rule: Rule, power: bool = True) -> list[Finding]:
    """A finding of each. Tests count for the adjustment where both sides have launches enough."""
    enough = [times for times in found if not times.missing and min(len(times.base), len(times.candidate)) >= rule.launches]
    out = {times.name: Finding(target, "time", times.name, Word.UNDECIDED, times.missing or _too_few(times, rule), unit=times.unit)
           for times in found if times not in enough}
    if enough:
        slower = statistics.adjusted(numpy.array([statistics.slower(times.base, times.candidate) for times in enough]))
        faster = statistics.adjusted(numpy.array([statistics.slower(times.candidate, times.base) for times in enough]))
        for times, up, down in zip(enough, slower, faster):
            out[times.name] = _finding(target, times, float(up), float(down), rule, rule.level / len(enough) if power else None)
    return [out[times.name] for times in found]


def _too_few(times: Times, rule: Rule) -> str:
    return f"{len(times.base)} and {len(times.candidate)} launches, and {rule.launches} a side are needed"


def _finding(target: str, times: Times, up: float, down: float, rule: Rule, level: float | None) -> Finding:
    base, candidate = float(numpy.median(times.base)), float(numpy.median(times.candidate))
    change = statistics.change(times.base, times.candidate)
    floor = float(statistics.floors(times.base[None, :])[0]) + times.step / base
    bound = max(rule.least, floor)
    shows = None if level is None else statistics.smallest_shown(times.base, len(times.candidate), level, bound)
    word, p, text = Word.SAME, up, ""
    if up <= rule.level and change > bound:
        word, text = Word.WORSE, f"{change:+.1%}, of which {bound:.1%} would not count"
    elif down <= rule.level and -change > bound:
        word, p, text = Word.BETTER, down, f"{change:+.1%}"
    elif level is not None and rule.must_show is not None and (shows is None or shows > rule.must_show):
        word, text = Word.UNDECIDED, f"+{rule.must_show:.0%} could not have been shown"
    return Finding(target, "time", times.name, word, text, base, candidate, times.unit, change, p, floor, shows,
                   None if level is None else statistics.interval(times.base, times.candidate))
