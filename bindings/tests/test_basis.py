# SPDX-License-Identifier: MIT
"""Rows of every page lead to the claims they rest on; figures say in their alternative text what came out."""

import re

import fixture_microbench as fixture
import pytest
from test_guestsweep import rec as guest_sweep  # noqa: F401  (a fixture)
from test_interrupts import rec as injected  # noqa: F401  (likewise)
from test_interrupts import timed  # noqa: F401
from test_ladder import rec as rungs  # noqa: F401
from test_pages import Ids
from test_paging import rec as swept  # noqa: F401
from test_shadowcost import tied  # noqa: F401

from refhv import basis, guestsweep, interrupts, ladder, launches, paging, report, run, shadowcost, tables


def page_of(rec, name):
    return tables.Run([tables.part(rec, name)])


def parts(rec, name, *made):
    """The tables of a page, one behind the other."""
    run_ = page_of(rec, name)
    return Ids("".join(one(run_).data for one in (*made, basis.rows, tables.conformance)))


@pytest.mark.parametrize(("fixture_name", "page", "made", "least"), [
    ("rungs", "ladder", [ladder.costs], 12), ("injected", "interrupts", [interrupts.injection], 2),
    ("timed", "interrupts", [lambda run_: interrupts.costs(run_, "timer"), lambda run_: interrupts.costs(run_, "wake")], 1), ("tied", "paging", [shadowcost.operations], 3)])
def test_each_row_leads_to_its_claims(fixture_name, page, made, least, request):
    rec = request.getfixturevalue(fixture_name)
    found = parts(rec, page, *made)
    local = [link for link in found.links if link.startswith("#")]
    assert {link[1:] for link in local} <= set(found.ids) and len(found.ids) == len(set(found.ids))
    assert len({link for link in local if link.startswith("#row-")}) >= least
    assert any(link.startswith("#claim-") for link in local)
    rows = {basis.operation(row) for row in page_of(rec, page).records[0]["benchmarks"]}
    assert {one for one in found.ids if one.startswith("row-")} == {f"row-{name}" for name in rows}


def test_what_a_claim_came_to_stands_beside_the_row_and_its_command_runs_it_alone():
    rec, other = fixture.record("bochs-intel"), fixture.record("qemu-amd")
    fixture.break_claim(rec, "Exit.cpuid_exits_when_intercepted")
    shown = basis.rows(tables.Run([rec, other])).data
    line = re.search(r'<tr id="row-exit.cpuid">.*?</tr>', shown)[0]
    lost = line.partition("<details>")[0]
    assert "Exit.cpuid_exits_when_intercepted" in lost and "FAIL" in lost and "bochs-intel" in lost and "qemu-amd" not in lost
    assert "Exit.cpuid_leaves_registers" not in lost and "Exit.cpuid_leaves_registers" in line
    assert "--target=bochs-intel,qemu-amd" in line and "--filter=^exit\\.cpuid/" in line


def test_two_launches_of_one_target_are_told_apart():
    broken = fixture.break_claim(fixture.record("self", seed=1), "Self.cpuid_runs")
    broken["started"] = "2026-01-02T03:20:05Z"
    shown = basis.rows(tables.Run([fixture.record("self"), broken])).data
    line = re.search(r'<tr id="row-exit.cpuid">.*?</tr>', shown)[0]
    assert "self · 2026-01-02 03:20:05 UTC" in line and "03:04:05" not in line and "--target=self " in line


def alts(made):
    return Ids(made.data).alts


def test_figures_say_what_came_out(rungs, timed, swept, guest_sweep):  # noqa: F811
    assert alts(ladder.lists(page_of(rungs, "ladder"))) == [
        "What lists of MSRs add on bochs-intel, EMULATED, ticks. the CPU's areas: 0 for 1, 0 for 512; by RDMSR and WRMSR: 30 for 1, 10,761 for 512."]
    sweep, = alts(paging.sweeps(page_of(swept, "paging")))
    assert "a miss costs 65.0" in sweep and re.search(r"4k pages: [\d.]+ at \d+ lines, [\d.]+ at [\d,]+", sweep)
    excess, = alts(paging.excesses(page_of(swept, "paging")))
    assert re.search(r"4k pages: .*; knees at [\d,]+ lines \(\+[\d.]+\)", excess)
    heat, = alts(guestsweep.heat_maps(page_of(guest_sweep, "paging")))
    assert re.search(r"native: [\d,.]+ for guest pages of 4k", heat)
    curves, = alts(guestsweep.curves(page_of(guest_sweep, "paging")))
    assert re.search(r"4k pages native: [\d,.]+ at \d+ lines, [\d,.]+ at [\d,]+", curves)


def test_lateness_is_told_by_quantiles(timed):  # noqa: F811
    late = fixture.benchmark("timer.late/user", "cycles", 50, [], n=9) | {"due": {"ticks": 100, "step": 0, "timer": "the fixture's"}}
    varied = late | {"samples": [s + n for n, s in enumerate(late["samples"])]}
    rec = timed | {"benchmarks": [varied]}
    told, = alts(interrupts.late_shares(tables.Run([rec])))
    assert late["name"] in told and re.search(r"half of the firings by [−\d,.-]+ after they were due, 99 % by", told)


def test_launches_leave_every_page(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(report, "write", lambda directory: written.append(directory) or directory / "index.html")
    made = run.folder(tmp_path, 1)
    made.mkdir()
    (made / "self.json").write_text("{}")
    plan = launches.Plan(tmp_path, run.Options(["self"]), [(1, "self")], {(1, "self"): (0, None)})
    from rich.console import Console

    assert launches.go_on(plan, {}, Console(quiet=True)).page == tmp_path / "index.html" and written == [tmp_path]
