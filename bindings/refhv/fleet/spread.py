# SPDX-License-Identifier: MIT
"""How far equal machines are apart, and which of them stands out.

Equal are machines of one machine key, on one target. A host's value of a benchmark is the median of its launches' p50s. A host stands out in
a benchmark if it is away from the median of all hosts of its group by more than LEAST and by more than SIGMAS times the larger of two
spreads: the hosts' own (1.4826 x MAD; Iglewicz & Hoaglin, How to Detect and Handle Outliers, 1993, have 3.5 of it) and what the launches
within a host leave open about its median. On targets that count instructions any difference counts, for there is no noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from refhv import comparison, identity
from refhv.fleet import state
from refhv.record import Record

LEAST, SIGMAS = 0.02, 3.5
FEWEST = 3  # hosts: of two that differ, nobody knows which is the odd one
OF_MAD = 1.4826  # to the standard deviation of a normal distribution
OF_MEDIAN = 1.2533  # a median's standard error, in those of the mean


@dataclass(frozen=True)
class Found:
    """What a fleet's folder holds: records by host, one line for each that cannot be used, and how the hosts stand, where that is told."""

    records: dict[str, list[Record]]
    problems: list[str]
    hosts: list[state.Host]


@dataclass(frozen=True)
class Row:
    """One benchmark of one group. Values are in the target's unit, spreads parts of `middle` (0.05: 5 %)."""

    benchmark: str
    values: dict[str, float]
    launches: dict[str, int]
    middle: float
    between: float
    within: float
    out: dict[str, float]  # hosts that stand out: by how much

    def away(self, host: str) -> float:
        return (self.values[host] - self.middle) / self.middle

    def range(self) -> float:
        return (max(self.values.values()) - min(self.values.values())) / self.middle


@dataclass
class Group:
    """Equal machines. `rows` has the widest first."""

    key: str
    target: str
    example: Record
    records: dict[str, list[Record]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def out(self) -> dict[str, list[Row]]:
        """Hosts that stand out, those that do in most rows first."""
        found = {host: [row for row in self.rows if host in row.out] for host in self.records}
        return {host: rows for host, rows in sorted(found.items(), key=lambda pair: -len(pair[1])) if rows}


def load(directory: Path | str) -> Found:
    """Of a fleet's folder. Raises state.FleetError, identity.SameRecordError."""
    directory = Path(directory)
    folder = directory / state.RECORDS
    hosts = list(state.load(directory).hosts.values()) if (directory / state.FILE).exists() or not folder.is_dir() else []
    records: dict[str, list[Record]] = {}
    problems: list[str] = []
    for place in sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")):
        run = comparison.load([place])
        records[place.name] = run.records
        problems += [f"{place.name}: {problem}" for problem in run.problems]
    identity.refuse_same([rec for found in records.values() for rec in found])
    return Found(records, problems, hosts)


def _spread(values: Sequence[float]) -> float:
    return OF_MAD * float(numpy.median(numpy.abs(numpy.asarray(values) - numpy.median(values))))


def row_of(benchmark: str, launches: dict[str, list[float]], exact: bool) -> Row | None:
    """None where the hosts' median is no longer than the stamps.

    launches: p50 of each launch, by host. exact: ticks, in which any difference counts.
    """
    values = {host: float(numpy.median(found)) for host, found in launches.items()}
    middle = float(numpy.median(list(values.values())))
    if middle <= 0:
        return None
    between = _spread(list(values.values()))
    many = [found for found in launches.values() if len(found) > 1]
    within = float(numpy.median([_spread(found) for found in many])) if many else 0.0
    out = {}
    for host, value in values.items():
        open_ = OF_MEDIAN * within / len(launches[host]) ** 0.5
        bar = 0.0 if exact else max(LEAST * middle, SIGMAS * max(between, open_))
        if len(values) >= FEWEST and abs(value - middle) > bar:
            out[host] = (value - middle) / middle
    return Row(benchmark, values, {host: len(found) for host, found in launches.items()}, middle, between / middle, within / middle, out)


def groups(found: Found) -> list[Group]:
    """Equal machines, hardware first; those of most hosts first."""
    made: dict[tuple[str, str], Group] = {}
    for host, records in found.records.items():
        for rec in records:
            key = (identity.machine_key(rec), rec["target"]["name"])
            group = made.setdefault(key, Group(*key, rec))
            group.records.setdefault(host, []).append(rec)
    for group in made.values():
        group.rows = _rows(group)
    return sorted(made.values(), key=lambda group: (group.example["target"]["emulated"], -len(group.records)))


def _rows(group: Group) -> list[Row]:
    by_name: dict[str, dict[str, list[float]]] = {}
    for host, records in group.records.items():
        for rec in records:
            for row in rec["benchmarks"]:
                if row["verdict"] == "PASS":
                    by_name.setdefault(row["name"], {}).setdefault(host, []).append(row["summary"]["p50"])
    exact = identity.counts_instructions(group.example["target"])
    rows = [row_of(name, launches, exact) for name, launches in by_name.items() if len(launches) > 1]
    return sorted(filter(None, rows), key=lambda row: (-len(row.out), -row.range()))


def as_document(group: Group) -> dict[str, Any]:
    """A group for JSON: its machines, and a row a benchmark; values in `unit`, all else relative."""
    rows = [{"benchmark": row.benchmark, "values": row.values, "middle": row.middle, "between": row.between, "within": row.within,
             "out": row.out} for row in group.rows]
    return {"machine_key": group.key, "target": group.target, "unit": group.example["target"]["unit"], "cpu": identity.cpu(group.example),
            "hosts": list(group.records), "rows": rows}


def verdicts_apart(group: Group) -> list[tuple[str, dict[str, str]]]:
    """Claims that do not come out alike on all hosts, and how on each."""
    told: dict[str, dict[str, set[str]]] = {}
    for host, records in group.records.items():
        for rec in records:
            for claim in rec["claims"]:
                told.setdefault(claim["name"], {}).setdefault(host, set()).add(claim["verdict"])
    words = {name: {host: ", ".join(sorted(found)) for host, found in by_host.items()} for name, by_host in told.items()}
    return [(name, by_host) for name, by_host in words.items() if len(set(by_host.values())) > 1]


def conditions_apart(group: Group) -> list[tuple[str, dict[str, str]]]:
    """The doctor's conditions that are not alike on all hosts, by the last launch of each."""
    told: dict[str, dict[str, str]] = {}
    for host, records in group.records.items():
        last = max(records, key=lambda rec: rec["started"])
        for one in (last.get("doctor") or {}).get("findings", []):
            told.setdefault(one["name"], {})[host] = f"{one['state']}: {one['text']}"
    return [(name, by_host) for name, by_host in told.items() if len({text.partition(":")[0] for text in by_host.values()}) > 1]
