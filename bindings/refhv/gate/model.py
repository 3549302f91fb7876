# SPDX-License-Identifier: MIT
"""What a gate is asked and what it finds."""

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any


class Code(IntEnum):
    """Exit codes of the gate (docs/gate.md)."""

    PASS = 0
    REGRESSION = 1
    CONFORMANCE = 2
    HARNESS = 3
    INCONCLUSIVE = 4


# What is proved stands, whatever else went wrong.
ORDER = (Code.CONFORMANCE, Code.REGRESSION, Code.HARNESS, Code.INCONCLUSIVE)


class Word(Enum):
    """What is said of one thing that was compared, and the code that follows from it."""

    SAME = ("same", Code.PASS)
    BETTER = ("better", Code.PASS)
    NEW = ("new", Code.PASS)
    WORSE = ("WORSE", Code.REGRESSION)
    CHANGED = ("CHANGED", Code.REGRESSION)
    BROKEN = ("BROKEN", Code.CONFORMANCE)
    LOST = ("LOST", Code.HARNESS)
    UNDECIDED = ("undecided", Code.INCONCLUSIVE)

    @property
    def text(self) -> str:
        return self.value[0]

    @property
    def code(self) -> Code:
        return self.value[1]


@dataclass(frozen=True)
class Rule:
    """METHOD's numbers. `level`: share of false alarms among alarms (Benjamini-Hochberg); `least`: change that counts at all;
    `launches` a side that a time needs; `must_show`: slowdown that a time must be able to show, else it is undecided."""

    level: float = 0.01
    least: float = 0.02
    launches: int = 10
    must_show: float | None = None
    unlike: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that was compared. `base` and `candidate` are words or medians in `unit`; changes are relative: 0.05 is 5 %."""

    target: str
    kind: str  # claim, row, exits, ticks, time, records
    name: str
    word: Word
    text: str = ""  # one line
    base: float | None = None
    candidate: float | None = None
    unit: str = ""
    change: float | None = None
    p: float | None = None  # adjusted
    floor: float | None = None  # A/A
    shows: float | None = None  # the smallest slowdown that this data could have shown
    interval: tuple[float, float] | None = None  # of the change, 95 %
    base_ns: float | None = None
    candidate_ns: float | None = None


@dataclass
class Side:
    """One side's launches of one target, told of."""

    launches: int
    machine_keys: list[str]
    titles: list[str]
    revisions: list[str]


@dataclass
class Verdict:
    """All that a gate found."""

    rule: Rule
    findings: list[Finding] = field(default_factory=list)
    sides: dict[str, tuple[Side, Side]] = field(default_factory=dict)  # by target: base, candidate

    @property
    def code(self) -> Code:
        codes = {finding.word.code for finding in self.findings}
        if not any(finding.kind in ("ticks", "time") for finding in self.findings):
            codes.add(Code.INCONCLUSIVE)
        return next((code for code in ORDER if code in codes), Code.PASS)

    def of(self, *words: Word) -> list[Finding]:
        return [finding for finding in self.findings if finding.word in words]

    def power(self) -> dict[str, Any]:
        """Of the times: how many, how many could show nothing, and the median and the largest of the rest's smallest slowdowns."""
        times = [finding for finding in self.findings if finding.kind == "time"]
        shown = sorted(finding.shows for finding in times if finding.shows is not None)
        return {"times": len(times), "blind": len(times) - len(shown), "median": shown[len(shown) // 2] if shown else None,
                "largest": shown[-1] if shown else None}
