# SPDX-License-Identifier: MIT
"""ladder.html: what a rung adds is the difference of its row to the registers' row; what is missing has no bar."""

import html
import json

import fixture_microbench as fixture
import pytest

from refhv import browser, ladder, leaks, record, report, tables

CLAIM = "Ladder.extras_leave_the_guests_registers"
NO_IBPB = "no IBPB in IA32_PRED_CMD: CPUID.07H:EDX[26], CPUID.80000008H:EBX[12]"
P50 = {"bare": 20, "general_registers": 44, "xsave_all": 58, "msr_areas_1": 44, "msr_areas_512": 44, "msr_by_hand_1": 74,
       "msr_by_hand_4": 137, "msr_by_hand_512": 10805, "rsb_fill": 78, "indirect_call": 48, "retpoline": 51}


@pytest.fixture
def rec():
    found = fixture.record("bochs-intel")
    found["claims"].append(fixture.claim(CLAIM))
    found["benchmarks"] += [fixture.benchmark(f"ladder.{rung}/nested", "ticks", p50, [CLAIM], n=100) for rung, p50 in P50.items()]
    found["benchmarks"].append(fixture.without_number(
        fixture.benchmark("ladder.ibpb/nested", "ticks", 1, [CLAIM], n=100), "SKIP", NO_IBPB))
    return found


def test_the_fixture_is_a_record(rec):
    assert record.faults(rec) == []


def test_a_rung_adds_to_the_registers_and_they_to_the_bare_exit(rec):
    found = ladder.rungs(rec)
    assert list(found) == [*P50, "ibpb"]
    assert ladder.added(found, "bare") is None
    assert ladder.added(found, "general_registers") == 24
    assert ladder.added(found, "rsb_fill") == 34
    assert ladder.added(found, "ibpb") is None and ladder.added(found, "spec_ctrl") is None


def test_without_the_registers_rung_nothing_is_added(rec):
    found = ladder.rungs(rec)
    del found["general_registers"]
    assert ladder.added(found, "rsb_fill") is None
    assert [rung for rung, _, _ in ladder.steps(found)] == ["bare"]


def test_one_of_a_kind_comes_from_two_lengths(rec):
    found = ladder.rungs(rec)
    assert ladder.per_one(found, "msr_by_hand_512", "msr_by_hand_1", 511) == 21
    assert ladder.per_one(found, "retpoline", "indirect_call", 1) == 3
    assert ladder.per_one(found, "vmread_16", "vmread_1", 15) is None


def test_steps_begin_where_the_one_before_ends(rec):
    steps = list(ladder.steps(ladder.rungs(rec)))
    assert [rung for rung, _, _ in steps] == ["bare", "general_registers", "xsave_all", "msr_by_hand_4", "rsb_fill", "retpoline"]
    for (_, left, length), (_, following, _) in zip(steps, steps[1:]):
        assert following == left + length
    assert steps[0][1] == 0 and steps[-1][1] + steps[-1][2] == 20 + 24 + 14 + 93 + 34 + 7


def test_every_step_of_the_waterfall_is_a_rung(rec):
    declared = (report.paths.TOP / "microbench" / "rows" / "ladder.cpp").read_text()
    for rung in ladder.STEPS:
        assert rung.rstrip("0123456789").rstrip("_") in declared, rung


def test_a_rung_that_saves_time_points_back(rec):
    for row in rec["benchmarks"]:
        if row["name"] == "ladder.retpoline/nested":
            row["summary"]["p50"] = 40
    run = tables.Run([rec])
    assert "<figure>" in ladder.waterfalls(run).data
    assert "−4" in ladder.costs(run).data


def test_page_shows_rungs_and_reasons(rec, tmp_path):
    (tmp_path / "bochs-intel.json").write_text(json.dumps(rec))
    page = report.write(tmp_path, only=("ladder.html", "report.html")).with_name("ladder.html")
    text = " ".join(html.unescape(browser.text(page)).split())
    assert leaks.requests_in(page.read_text()) == [] and browser.requests(page) == []
    assert "<title>refhv: the anatomy of an exit" in page.read_text()
    assert "bochs-intel: EMULATED." in text and "10,805" in text and "+10,761" in text and NO_IBPB in text
    other = (tmp_path / "report.html").read_text()
    assert "ladder.bare" not in other and CLAIM not in other


def test_a_run_without_a_ladder_has_no_page(tmp_path):
    (tmp_path / "self.json").write_text(json.dumps(fixture.record("self")))
    (tmp_path / "ladder.html").write_text("of an earlier run")
    report.write(tmp_path, only=("report.html",))
    assert not (tmp_path / "ladder.html").exists()
    run = tables.load(str(tmp_path), page="ladder")
    assert ladder.costs(run).data == ladder.waterfalls(run).data == "" and ladder.lists(run).data == "" and ladder.singles(run).data == ""
