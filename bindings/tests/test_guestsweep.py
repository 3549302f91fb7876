# SPDX-License-Identifier: MIT
"""The sweep inside guests: costs that were put in come out, by mode and pages, and emulated time is called what it is."""

import copy
import html
import json

import fixture_microbench as fixture
import pytest

from refhv import browser, departures, guestsweep, leaks, plots, record, report, sweep, tables
from refhv.guestsweep import Place

CLAIM = "TlbSweep.pages_of_4k_are_walked_as_such"
ACCESSES = 2048
LINES = (64, 8192, 12288, 16384)
MISS = {"native": 40, "shadow": 44, "nested": 200}


def row(place, layout, lines, value):
    name = f"tlb.{place.page}{'_inside' if layout == 'inside' else ''}.{lines}/{place.mode}"
    found = fixture.benchmark(name, "ticks", value * ACCESSES, [CLAIM], n=5)
    found["summary"] = {key: number / ACCESSES for key, number in found["summary"].items()}
    found |= {"slope": value, "p50_interval": [value, value]}
    found["chase"] = {"page_bytes": 4096, "layout": layout, "lines": lines, "accesses": ACCESSES, "memory": "the guest's",
                      "contiguous_groups": None, "walks_event": "none", "walks_per_access": None, "walks_missing": "none here"}
    if place.nested:
        found["chase"]["nested_page_bytes"] = 1 << 21
    return found


@pytest.fixture(scope="module")
def rec():
    made = fixture.record("qemu-amd")
    made["target"] |= {"name": "qemu-amd-clock", "counts_instructions": False}
    made["claims"].append(fixture.claim(CLAIM))
    for place in (Place("native", "4k"), Place("shadow", "4k"), Place("nested", "4k", "2m")):
        for lines in LINES:
            made["benchmarks"].append(row(place, "inside", lines, 8))
            made["benchmarks"].append(row(place, "spread", lines, 8 + (MISS[place.mode] if lines > 64 else 0)))
    return made


def test_the_fixture_is_a_record(rec):
    assert record.faults(rec) == []


def test_costs_are_kept_apart_by_mode_and_pages(rec):
    assert guestsweep.miss_cost(rec, Place("native", "4k")).cost == 40
    assert guestsweep.miss_cost(rec, Place("shadow", "4k")).cost == 44
    assert guestsweep.miss_cost(rec, Place("nested", "4k", "2m")).cost == 200
    assert guestsweep.miss_cost(rec, Place("nested", "4k", "4k")) is None
    assert sweep.miss_cost(rec, "4k") is None, "a guest's rows are not the process's"


@pytest.mark.parametrize(("place", "references"), [
    (Place("native", "4k"), 4), (Place("native", "1g"), 2), (Place("nested", "4k", "4k"), 24), (Place("nested", "2m", "2m"), 15),
    (Place("nested", "1g", "1g"), 8), (Place("shadow", "4k"), 4), (Place("shadow", "1g"), 3)])
def test_references(place, references):
    assert place.references == references


def test_ticks_of_a_clock_are_not_called_instructions(rec):
    counting = fixture.record("qemu-amd", seed=1)
    assert "instructions" in plots.axis_label(counting["target"]) and "own time" in plots.axis_label(rec["target"])
    groups = plots.groups(tables.Run([counting, rec]))
    assert [[each["run_id"] for each in group] for group in groups] == [[rec["run_id"]], [counting["run_id"]]], "and share no axis with them"


def test_the_same_emulator_departs_alike():
    listed = [departures.Departure("qemu", ">=7.2", "qemu-amd", "Exit.a", "APM 2 15.5", "does otherwise")]
    claim = departures.Claim("Exit.a", "FAIL", "APM 2 15.5", None)
    assert departures.is_known("qemu-amd-clock", claim, listed)
    assert departures.judge("qemu-amd-clock", [claim], listed) == []


def test_page(rec, tmp_path):
    skipped = copy.deepcopy(rec) | {"run_id": "another"}
    skipped["target"] |= {"name": "qemu-amd", "counts_instructions": True}
    skipped["benchmarks"] = [fixture.without_number(r, "SKIP", "instruction-counting emulator: no TLB cost")
                             for r in skipped["benchmarks"] if r["family"] == "tlb"]
    for each in (rec, skipped):
        (tmp_path / f"{each['target']['name']}.json").write_text(json.dumps(each))
    page = report.write(tmp_path, only=("paging.html",)).with_name("paging.html")
    text = " ".join(html.unescape(browser.text(page)).split())
    assert leaks.requests_in(page.read_text()) == []
    assert "the emulator's own time" in text and "EMULATED nested 4k 2m 8 208 200 [200, 200] 19" in text
    assert "instruction-counting emulator: no TLB cost" in text
    assert guestsweep.heat_maps(tables.Run([skipped])).data == ""
