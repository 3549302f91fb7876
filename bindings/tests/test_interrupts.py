# SPDX-License-Identifier: MIT
"""interrupts.html: what it says of injections, timers and wake-ups is what the records hold; a missing family is said to be."""

import copy
import html
import json

import fixture_microbench as fixture
import pytest

from refhv import browser, interrupts, leaks, record, report, tables

CLAIM = "Inject.external_interrupts_of_any_vector_arrive_and_clear_if"
PARTS = {"exit": 7, "handler": 231, "entry": 31}


def row(name, p50, unit="ticks", parts=None, exits=1):
    found = fixture.benchmark(name, unit, p50, [CLAIM], n=100, parts=parts)
    if parts:
        found["exits"] = {"reason": "cpuid", "expected": exits * 100, "counted": exits * 100}
    return found


@pytest.fixture(scope="module")
def rec():
    found = fixture.record("bochs-intel")
    found["claims"].append(fixture.claim(CLAIM))
    found["benchmarks"] += [
        row("inject.interrupt/nested", sum(PARTS.values()), parts=PARTS),
        row("inject.interrupt_iret/nested", 273, parts=PARTS | {"entry": 35}),
        row("inject.window_iret/nested", 512, parts=PARTS, exits=2),
        fixture.without_number(row("inject.posted/nested", 1), "SKIP", "no posted interrupts (pin-based control 7)")]
    return found


@pytest.fixture(scope="module")
def timed():
    found = fixture.record("self")
    found["claims"].append(fixture.claim(CLAIM))
    found["benchmarks"] += [row("timer.sleep/user", 110_000, "cycles"), row("wake.futex/user", 9_000, "cycles")]
    return found


def test_the_fixtures_are_records(rec, timed):
    assert record.faults(rec) == [] and record.faults(timed) == []


def test_ways_to_the_handler_and_back_stand_in_one_line(rec):
    found = interrupts.mechanisms(rec)
    assert list(found) == ["interrupt", "window", "posted"]
    there, back = found["interrupt"]
    assert (there["summary"]["p50"], back["summary"]["p50"]) == (269, 273)
    assert found["window"][0] is None and found["posted"][1] is None


def test_exits_on_the_way_are_counted_per_event(rec):
    found = interrupts.mechanisms(rec)
    assert interrupts.exits_on_the_way(found["interrupt"][0]) == 1
    assert interrupts.exits_on_the_way(found["window"][1]) == 2
    assert interrupts.exits_on_the_way(found["posted"][0]) is None


def test_parts_add_up_or_are_said_not_to(rec, tmp_path):
    whole = copy.deepcopy(rec)
    for one in whole["benchmarks"]:
        if one["family"] == "inject" and one["verdict"] == "PASS":
            one["stamped_p50"] = sum(one["parts"].values())
    assert interrupts.surplus(interrupts.mechanisms(whole)["interrupt"][0]) == 0
    assert "Parts add up" in interrupts.injection(tables.Run([whole])).data
    interrupts.mechanisms(whole)["interrupt"][0]["stamped_p50"] -= 6  # a stamp costs 5
    shown = interrupts.injection(tables.Run([whole])).data
    assert "Parts add up" not in shown and "inject.interrupt/nested on bochs-intel: +6 ticks" in shown


def test_delivery_is_what_the_entry_takes_more_than_that_of_a_plain_exit(rec, tmp_path):
    (tmp_path / "bochs-intel.json").write_text(json.dumps(rec))
    run = tables.load(str(tmp_path), page="interrupts")
    assert interrupts.plain_entries(run) == {rec["run_id"]: 11}
    line = next(line for line in interrupts.injection(run).data.split("<tr>") if ">interrupt<" in line)
    assert f'<td class="number">{PARTS["entry"]}</td><td class="number">{PARTS["entry"] - 11}</td>' in line


def test_a_second_exit_has_a_part_of_its_own(rec):
    twice = copy.deepcopy(rec)
    interrupts.mechanisms(twice)["window"][1]["parts"]["between"] = 77
    assert record.faults(twice) == []
    assert ">between<" in interrupts.injection(tables.Run([twice])).data
    assert ">between<" not in interrupts.injection(tables.Run([rec])).data


def test_lateness_may_be_negative_and_is_no_cost(rec, tmp_path):
    late = copy.deepcopy(rec)
    one = row("timer.preemption_16/nested", -1) | {"due": {"ticks": 512, "step": 32, "timer": "VMX-preemption timer, 16 units"}}
    late["benchmarks"] += [one, row("timer.rdtsc/nested", 1)]
    assert record.faults(late) == []
    run = tables.Run([late])
    shown = interrupts.lateness(run).data
    assert "VMX-preemption timer, 16 units" in shown and "512" in shown and ">-1<" in shown
    assert "preemption_16" not in interrupts.costs(run, "timer").data and "rdtsc" in interrupts.costs(run, "timer").data
    assert interrupts.late_shares(run).data == "", "nothing varies"
    one["samples"][0] += 40
    assert "<figure>" in interrupts.late_shares(tables.Run([late])).data


def test_samples_of_a_batch_are_drawn_per_operation(timed, tmp_path):
    from matplotlib import pyplot

    from refhv import plots
    halves = row("wake.futex/user", 9_000, "cycles") | {"batch": 2}
    halves["samples"] = [18_000 + halves["stamp_cost"]] * 100
    drawing, axes = pyplot.subplots()
    plots._strip(axes, 0, halves, "k")
    assert axes.collections[0].get_offsets()[0][0] == 9_000
    pyplot.close(drawing)


def test_page_shows_every_family_and_what_is_missing(rec, timed, tmp_path):
    for one in (rec, timed):
        (tmp_path / f"{one['target']['name']}.json").write_text(json.dumps(one))
    page = report.write(tmp_path, only=("interrupts.html", "report.html")).with_name("interrupts.html")
    text = " ".join(html.unescape(browser.text(page)).split())
    assert leaks.requests_in(page.read_text()) == [] and browser.requests(page) == []
    assert "<title>refhv: interrupts and timers" in page.read_text()
    assert "269" in text and "512" in text and "110,000" in text and "9,000" in text
    assert "no posted interrupts (pin-based control 7)" in text
    assert "bochs-intel: EMULATED." in text and "self: EMULATED." not in text
    assert "Interrupts between CPUs" not in text, "no section that says only that there is nothing"
    other = (tmp_path / "report.html").read_text()
    assert "inject." not in other and CLAIM not in other and "exit.cpuid" in other


def test_no_page_without_such_rows(tmp_path):
    (tmp_path / "self.json").write_text(json.dumps(fixture.record("self")))
    (tmp_path / "interrupts.html").write_text("of an earlier run")
    report.write(tmp_path, only=("report.html",))
    assert not (tmp_path / "interrupts.html").exists()


def test_families_that_are_not_there_have_no_table(timed, tmp_path):
    alone = copy.deepcopy(timed)
    alone["benchmarks"] = [r for r in alone["benchmarks"] if r["family"] == "wake"]
    run = tables.Run([alone])
    assert interrupts.injection(run).data == interrupts.lateness(run).data == ""
    assert interrupts.bars(run, "inject").data == "" and interrupts.strips(run, "timer").data == ""
    assert interrupts.late_shares(run).data == ""
