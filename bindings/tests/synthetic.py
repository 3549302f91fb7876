#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""SYNTHETIC records, of no machine: as many and as large as a test of time or memory needs them.

Usage: synthetic.py FOLDER LAUNCHES [BENCHMARKS [SAMPLES [MACHINES]]]

Medians of launches spread by 0.6 % and samples by 4 % with a tail of 2 % of twice the time, as 60 launches of `self` on a busy
two-core virtual machine did. Each record says "synthetic" where a machine is named.
"""

import datetime
import json
import sys
from pathlib import Path

import fixture_microbench as fixture
import numpy

LAUNCHES_SPREAD, SAMPLES_SPREAD, TAIL = 0.006, 0.04, 0.02
COST = 36
START = datetime.datetime(2026, 1, 1)


def row(name: str, samples: numpy.ndarray, claims: list[str]) -> dict:
    net = numpy.sort(samples - COST)
    p50, p90, p99 = numpy.quantile(net, (0.5, 0.9, 0.99))
    return {
        "name": name, "family": name.partition(".")[0], "mode": name.rpartition("/")[2], "unit": "cycles", "verdict": "PASS",
        "claims": claims, "n": len(samples), "samples": samples.tolist(), "stamp_cost": COST,
        "summary": {"min": int(net[0]), "p50": float(p50), "p90": float(p90), "p99": float(p99), "max": int(net[-1]),
                    "mad": float(numpy.median(abs(net - p50)))},
        "parts": {"exit": None, "handler": None, "entry": None}, "disturbed": 0, "reason": None, "slope": float(p50),
        "p50_interval": [float(p50), float(p50)], "stamped_p50": None, "exits": None, "flags": [], "part_samples": None,
        "hypervisor_exit": None,
    }


def record(launch: int, benchmarks: int = 200, samples: int = 1000, machine: int = 0, slower: dict[int, float] | None = None) -> dict:
    """One launch. `slower`: by number of a benchmark, by how much, 0.05 is 5 %."""
    dice = numpy.random.default_rng((launch, machine, 7))
    rows = []
    for index in range(benchmarks):
        median = (300 + 137 * index) * (1 + machine / 20) * (1 + LAUNCHES_SPREAD * dice.standard_normal())
        median *= 1 + (slower or {}).get(index, 0.0)
        values = median * (1 + SAMPLES_SPREAD * dice.standard_normal(samples)) * (1 + (dice.random(samples) < TAIL))
        rows.append(row(f"exit.synthetic_{index}/user", numpy.rint(values).astype(int) + COST, ["Self.cpuid_runs"]))
    started = (START + datetime.timedelta(hours=launch)).strftime("%Y-%m-%dT%H:%M:%SZ")
    rec = fixture.record("self") | {"run_id": f"synthetic-{machine}-{launch}", "started": started, "benchmarks": rows}
    rec["machine"] |= {"machine_key": f"synthetic-{machine}", "name": f"synthetic CPU {machine}"}
    return rec


def write(folder: Path, launches: range, machine: int = 0, **options) -> None:
    for launch in launches:
        place = folder / f"launch-{launch:03}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "self.json").write_text(json.dumps(record(launch, machine=machine, **options)))


def main() -> int:
    folder, count, *more = sys.argv[1:]
    benchmarks, samples, machines = (list(map(int, more)) + [200, 1000, 1][len(more):])
    for machine in range(machines):
        place = Path(folder) / f"machine-{machine:03}" if machines > 1 else Path(folder)
        write(place, range(1, int(count) + 1), machine, benchmarks=benchmarks, samples=samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())
