# SPDX-License-Identifier: MIT
"""Records as they were once written must load for ever; their Google Benchmark JSON says what they say."""

import json
import subprocess
from pathlib import Path

import pytest

from refhv import clock, comparison, junit, record

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


GOOGLES = Path("/usr/share/benchmark/compare.py")  # Debian's libbenchmark-tools


@pytest.mark.skipif(not GOOGLES.exists(), reason="libbenchmark-tools is not installed")
def test_googles_compare_agrees_in_sign_and_size(tmp_path):
    records = [FIXTURES / f"record-1-self-{name}.json" for name in "ab"]
    dump = tmp_path / "changes.json"
    subprocess.run(["/usr/bin/python3", GOOGLES, "--no-color", "-d", dump, "benchmarks",
                    *(path.with_suffix(".benchmark.json") for path in records)], check=True, capture_output=True)
    googles = {one["name"]: one["measurements"][0]["time"] for one in json.loads(dump.read_text())}
    ours = {line.name: line.changes[1] for line in comparison.lines([record.load(path) for path in records])}
    assert set(googles) == set(ours) and any(ours.values())
    for name, change in ours.items():
        if change is not None:  # what takes no longer than the stamps has no change of ours
            assert googles[name] == pytest.approx(change, abs=1e-6), name


def test_junitparser_reads_what_a_run_leaves():
    junitparser = pytest.importorskip("junitparser")
    rec = record.load(FIXTURES / "record-1-bochs.json")
    claims, rows = junitparser.JUnitXml.fromstring(junit.of_record(rec, []).encode())
    assert (claims.tests, rows.tests) == (len(rec["claims"]), len(rec["benchmarks"])) and claims.failures + claims.errors == 0
