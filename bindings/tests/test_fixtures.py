# SPDX-License-Identifier: MIT
"""Records as they were once written must load for ever; their Google Benchmark JSON says what they say."""

import json
from pathlib import Path

import pytest

from refhv import clock, record

FIXTURES = Path(__file__).parent / "fixtures"
RECORDS = sorted(path for path in FIXTURES.glob("record-*.json") if record.is_record(path))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_it_loads(path):
    rec = record.load(path)
    assert rec["schema_version"] == int(path.name.split("-")[1])
    assert any(row["verdict"] == "PASS" for row in rec["benchmarks"])


def test_every_schema_version_has_one():
    known = record.validator().schema["properties"]["schema_version"]["const"]
    assert {int(path.name.split("-")[1]) for path in RECORDS} == set(range(1, known + 1))


def benchmark_json(path):
    whole = json.loads(path.with_suffix("").with_suffix(".benchmark.json").read_text())
    return whole["context"], {one["name"]: one for one in whole["benchmarks"]}


@pytest.mark.parametrize("path", [path for path in RECORDS if path.with_suffix(".benchmark.json").exists()], ids=lambda path: path.name)
def test_real_time_is_the_measured_value(path):
    rec, (context, rows) = record.load(path), benchmark_json(path)
    assert context["target"] == rec["target"]["name"] and context["unit"] == "ns"
    numbers = {row["name"]: row["summary"]["p50"] for row in rec["benchmarks"] if row["verdict"] == "PASS"}
    assert set(rows) == set(numbers), "a row without a number is not there"
    for name, p50 in numbers.items():
        assert rows[name]["real_time"] == pytest.approx(clock.nanoseconds(rec, p50), rel=1e-6), name


def change(old, new):
    """As Google Benchmark's tools/gbench/report.py defines a change of `real_time`, in its own words: of the old, relative to it."""
    return 0.0 if old == new == 0 else (new - old) / abs(old or (old + new) / 2)


def test_what_its_compare_would_say_is_what_ours_says():
    from refhv import comparison

    paths = [FIXTURES / f"record-1-self-{name}.json" for name in "ab"]
    old, new = (benchmark_json(path)[1] for path in paths)
    ours = {line.name: line.changes[1] for line in comparison.lines([record.load(path) for path in paths])}
    assert {name for name in old if name in new} == set(ours)
    for name in ours:
        if ours[name] is not None:
            assert change(old[name]["real_time"], new[name]["real_time"]) == pytest.approx(ours[name], abs=1e-4), name
    assert any(ours[name] for name in ours)
