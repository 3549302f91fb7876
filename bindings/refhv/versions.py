# SPDX-License-Identifier: MIT
"""Emulators and ranges of their versions, as conformance/departures.json writes them.

A version is numbers with points between them and compares number by number: 3.10 is newer than 3.9. A range is one or more
conditions, separated by blanks, that all must hold: `2.7`, `>=2.7`, `>=7.2 <10`. A condition looks at as many numbers of
the version as it has itself, so 7.2.22 is a 7.2 and is not above it, and every 2.x is below 3. Missing numbers are 0.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Numbers = tuple[int, ...]
_CONDITION = re.compile(r"(>=|<=|>|<)?(\d+(?:\.\d+)*)")
_COMPARE: dict[str, Callable[[Numbers, Numbers], bool]] = {
    "": operator.eq, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Emulator:
    """`version` is None where the program did not tell."""

    name: str
    version: str | None

    def __str__(self) -> str:
        return f"{self.name} {self.version or 'of a version that it does not tell'}"


def emulator_of(told: Mapping[str, Any]) -> Emulator | None:
    """From a record's `target`. None: no emulator, or a record of before they were asked."""
    emulator = told.get("emulator")
    return Emulator(emulator["name"], emulator.get("version")) if emulator else None


def numbers(version: str) -> Numbers:
    """Raises ValueError."""
    return tuple(int(number) for number in version.split("."))


def _conditions(text: str) -> list[tuple[str, Numbers]]:
    found = []
    for condition in text.split():
        match = _CONDITION.fullmatch(condition)
        if match is None:
            raise ValueError(f"{condition!r} is no condition on a version")
        found.append((match[1] or "", numbers(match[2])))
    if not found:
        raise ValueError("a range of versions must not be empty")
    return found


def _holds(version: Numbers, conditions: list[tuple[str, Numbers]]) -> bool:
    def cut(length: int) -> Numbers:
        return (version + (0,) * length)[:length]
    return all(_COMPARE[sign](cut(len(bound)), bound) for sign, bound in conditions)


def within(version: str, text: str) -> bool:
    """Does the version lie in the range? Raises ValueError."""
    return _holds(numbers(version), _conditions(text))


def overlap(one: str, other: str) -> bool:
    """Is there a version in both ranges? Raises ValueError."""
    both = _conditions(one) + _conditions(other)
    length = max(len(bound) for _, bound in both)
    # Where a range begins or ends the answer changes, so versions at, right above and right below each bound will do.
    candidates = set()
    for _, bound in both:
        for step in (-1, 0, 1):
            near = (*bound[:-1], bound[-1] + step)
            if step == 0 or near[-1] >= 0:
                candidates |= {near, near + (0,) * (length - len(near)), near + (10**9,) * (length - len(near))}
        if bound[-1] == 0 and len(bound) > 1:  # right below 10.0 is 9 and anything
            candidates.add((*bound[:-2], bound[-2] - 1, 10**9) if bound[-2] else bound)
    return any(_holds(candidate, both) for candidate in candidates)
