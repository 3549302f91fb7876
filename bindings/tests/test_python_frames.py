# SPDX-License-Identifier: MIT
"""Records as tables, and claims and benchmarks by name."""

import json
import os
import signal
import threading
from pathlib import Path

import fixture_microbench
import pytest

import refhv
from refhv import frames, paths, record, tools

FIXTURES = Path(__file__).parent


@pytest.fixture(scope="module")
def measured():
    import native_module

    if not (paths.build_dir() / "bin/refhv-microbench").is_file():
        pytest.skip("refhv-microbench is not built")
    with refhv.open(native_module.usable("qemu-amd")) as target:
        events = []
        rec = target.run_benchmark("exit.cpuid/*", samples=16, progress=events.append)
        return target.name, rec, events


def test_a_benchmark_by_name(measured):
    name, rec, events = measured
    assert rec["target"]["name"] == name
    assert {row["name"] for row in rec["benchmarks"]} >= {"exit.cpuid/nested", "exit.cpuid/native"}
    assert [e["event"] for e in events][:2] == ["start", "hello"] and events[-1]["event"] == "end"


def test_the_table_of_benchmarks(measured):
    _, rec, _ = measured
    table = rec.frame()
    row = table.set_index("benchmark").loc["exit.cpuid/nested"]
    source = next(r for r in rec["benchmarks"] if r["name"] == "exit.cpuid/nested")
    assert row["p50"] == source["summary"]["p50"] and row["parts.exit"] == source["parts"]["exit"]
    assert (row["target"], row["mode"], row["verdict"], row["exits.reason"]) == ("qemu-amd", "nested", "PASS", "cpuid")


def test_the_table_of_samples_is_long(measured):
    _, rec, _ = measured
    table = rec.frame("samples")
    assert len(table) == sum(len(row["samples"]) for row in rec["benchmarks"])
    nested = table[table.benchmark == "exit.cpuid/nested"]
    assert nested.net.median() == next(r for r in rec["benchmarks"] if r["name"] == "exit.cpuid/nested")["summary"]["p50"]


def test_the_table_of_claims(measured):
    _, rec, _ = measured
    table = rec.frame("claims")
    assert list(table.columns) == ["target", "machine", "machine_key", "claim", "verdict", "section", "detail"]
    assert len(table) == len(rec["claims"])


def test_there_and_back(measured, tmp_path):
    _, rec, _ = measured
    assert refhv.to_record(rec.frame()) == rec
    path = tmp_path / "r.json"
    path.write_text(json.dumps(refhv.to_record(rec.frame())))
    again = refhv.load(path)
    assert again == rec and isinstance(again, frames.Record)
    one = rec.frame()
    one = one[one.benchmark == "exit.cpuid/nested"]
    assert [row["name"] for row in refhv.to_record(one)["benchmarks"]] == ["exit.cpuid/nested"]


def test_a_table_that_lies_gives_no_record(measured):
    _, rec, _ = measured
    table = rec.frame()
    table["p50"] = table["p50"] + 100
    with pytest.raises(refhv.RecordError, match="gives no record: exit.cpuid"):
        refhv.to_record(table)
    with pytest.raises(refhv.RecordError, match="not a table that frame"):
        refhv.to_record(rec.frame("claims"))
    with pytest.raises(ValueError, match="there are the tables"):
        rec.frame("rows")


def test_every_column_is_documented(measured):
    _, rec, _ = measured
    text = (paths.TOP / "docs/python.md").read_text()
    for kind in frames.KINDS:
        for column in rec.frame(kind).columns:
            assert f"`{column}`" in text, column


@pytest.mark.parametrize("target", ["self", "bochs-intel", "qemu-amd"])
def test_all_kinds_of_rows_go_there_and_back(target):
    """Rows without numbers, with lists, with parts that others lack: those of the fixture that stands for the tools."""
    rec = frames.Record(fixture_microbench.record(target))
    assert not record.faults(rec) and refhv.to_record(rec.frame()) == rec
    fixture_microbench.break_claim(rec, rec["claims"][0]["name"])
    assert not record.faults(rec) and refhv.to_record(rec.frame()) == rec
    rec["benchmarks"] = []
    assert refhv.to_record(rec.frame()) == rec and rec.frame("samples").empty


def test_claims_by_name():
    import native_module

    with refhv.open(native_module.usable("qemu-amd")) as target:
        claims = target.check("Exit.cpuid*")
    assert len(claims) >= 3 and {claim.verdict for claim in claims} == {"PASS"} and all("15.9" in claim.section for claim in claims)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: tools.check("self", "Nope*"), "selects no claim"),
    (lambda: tools.run_benchmark("self", "nope"), "selects no row"),
    (lambda: tools.run_benchmark("self", "exit.cpuid/user", samples=10**6), "not in range"),
    (lambda: tools.run_benchmark("nope", "exit.cpuid/user"), "nope"),
])
def test_what_leaves_no_result_says_why(call, words):
    if not (paths.build_dir() / "bin/refhv-microbench").is_file():
        pytest.skip("refhv-microbench is not built")
    with pytest.raises(refhv.ToolError, match=words) as told:
        call()
    assert "\n" not in str(told.value) and told.value.code == 2


@pytest.mark.parametrize("name", ["", None, 3, "a\0b"])
def test_names_that_are_none(name):
    for call in (tools.check, tools.run_benchmark):
        with pytest.raises(ValueError, match="is a text"):
            call("self", name)


def test_ctrl_c_ends_a_benchmark():
    if not (paths.build_dir() / "bin/refhv-microbench").is_file():
        pytest.skip("refhv-microbench is not built")
    started = threading.Event()

    def on_event(event):
        if event["event"] == "start" and not started.is_set():
            started.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        tools.run_benchmark("self", "*", progress=on_event)
    assert started.is_set()
