# SPDX-License-Identifier: MIT
"""The time that each part of `refhv test` may take: the table in docs/testing.md."""

import re
from dataclasses import dataclass
from pathlib import Path

from refhv import paths

TABLE = paths.TOP / "docs" / "testing.md"
MOST_SECONDS = 18 * 60  # for the whole, on two CPUs
OVER = 1.5  # of its budget, and a part gets a note

_ROW = re.compile(r"^\| `(?P<part>[^`|]+)` \| (?P<runs>\w+) \| (?P<measured>\d+|-) \| (?P<budget>\d+) \|", re.M)


@dataclass(frozen=True)
class Budget:
    runs: str
    measured: float | None  # seconds; None: not yet
    most: float  # seconds


def _seconds(cell: str) -> float | None:
    return None if cell == "-" else float(cell)


def load(path: Path = TABLE) -> dict[str, Budget]:
    """By part; empty if there is no table."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    return {row["part"]: Budget(row["runs"], _seconds(row["measured"]), float(row["budget"])) for row in _ROW.finditer(text)}


def note(name: str, seconds: float, budgets: dict[str, Budget]) -> str | None:
    """What to say about the time that a part took; None if it is within half as much again as its budget."""
    budget = budgets.get(name)
    if budget is None:
        return f"NOTE {name} has no budget in docs/testing.md"
    if seconds > OVER * budget.most:
        return f"NOTE {name} took {seconds:.0f} s, its budget is {budget.most:.0f} s"
    return None


def total(budgets: dict[str, Budget], cpus: int = 2) -> float:
    """Seconds that the whole may take by its parts' budgets."""
    return sum(one.most / (cpus if one.runs == "beside" else 1) for one in budgets.values())
