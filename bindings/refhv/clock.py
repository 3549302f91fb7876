# SPDX-License-Identifier: MIT
"""The clock under a record's numbers: by how much the TSC moves at once, and how long a cycle is."""

from typing import Any

import numpy

MOST_STEP = 128
LEAST_VALUES, MOST_VALUES = 6, 100  # fewer lie on some lattice by chance
MOST_VALUE = 1000  # beyond it, an error of the step would have lost the lattice
LIKE_A_LATTICE = 0.9
STEPS_THAT_MATTER = 10  # below so many steps a median is too coarse, and the slope is preferred


def step_of(values: numpy.ndarray) -> float:
    """The lattice, in cycles, on which differences of time stamps lie; 1 where there is none coarser.

    A clock of a step s that is read in whole cycles gives multiples of s, each a cycle off at most. So their cosines of period s
    are near 1; the largest period of which that is so is the clock's, if values stand on three of its multiples or more.
    """
    values = numpy.unique(values[(values > 0) & (values <= MOST_VALUE)]).astype(float)
    if len(values) < LEAST_VALUES or len(values) > 0.7 * numpy.ptp(values):
        return 1.0  # nearly every whole number between
    values = values[:: len(values) // MOST_VALUES + 1]
    steps = numpy.arange(2, MOST_STEP, 0.02)
    turns = values[None, :] / steps[:, None]
    agree = numpy.cos(2 * numpy.pi * turns).mean(axis=1)
    multiples = (numpy.diff(numpy.sort(numpy.rint(turns)), axis=1) > 0).sum(axis=1) + 1
    found = numpy.flatnonzero((agree > LIKE_A_LATTICE) & (multiples >= 3))
    if not len(found):
        return 1.0
    near = found[steps[found] > steps[found[-1]] - 1]  # one peak: the best of it
    return round(float(steps[near[numpy.argmax(agree[near])]]), 1)


def step(rec: dict[str, Any]) -> float:
    """By how many cycles the TSC under this record moves at once; 1 where it moves by one, or ticks are instructions."""
    if rec["target"]["emulated"]:
        return 1.0
    rows = [numpy.asarray(row["samples"][:400]) for row in rec["benchmarks"] if row["verdict"] == "PASS" and not row.get("due")]
    quick = [row for row in rows if len(row) and numpy.median(row) <= MOST_VALUE]
    return step_of(numpy.concatenate(quick)) if quick else 1.0


def nanoseconds(rec: dict[str, Any], cycles: float | None) -> float | None:
    """Cycles of this record's TSC as ns; None where its rate is not known or its unit is no cycle."""
    rate = (rec["machine"] or {}).get("tsc_hz")
    if cycles is None or rec["target"]["unit"] != "cycles" or not rate:
        return None
    return cycles * 1e9 / rate
