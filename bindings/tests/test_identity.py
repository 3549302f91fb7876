# SPDX-License-Identifier: MIT
"""Records are told apart by what they are. Two of one target name, one CPU and one host show their own numbers everywhere."""

import copy
import json
import re

import fixture_microbench as fixture
import pytest
import test_guestsweep
import test_interrupts
import test_ladder
import test_paging
import test_shadowcost

from refhv import cli, guestsweep, identity, interrupts, ladder, paging, plots, published, record, shadowcost, tables

NUMBERS = ("min", "p50", "p90", "p99", "max")


def rows(*made):
    return [row for group in made for row in group]


def late(name):
    row = fixture.benchmark(name, "cycles", 900, [], n=40, jitter=9000)
    return row | {"due": {"ticks": 100_000, "step": 1, "timer": "the fixture's"}}


@pytest.fixture(scope="module")
def hardware():
    """A record of `self` with rows of every family that a process has."""
    rec = test_paging.with_sweep({"4k": [test_paging.FIRST, test_paging.SECOND], "2m": []})
    rec["benchmarks"] += [late("timer.late/user"), fixture.benchmark("wake.futex/user", "cycles", 9000, [], n=50, jitter=90)]
    return rec


@pytest.fixture(scope="module")
def emulated():
    """A record of an emulator with rows of every family that a guest has."""
    rec = test_shadowcost.with_shadow(lambda share: 1 + share, lambda share: 1 + 8 * share)
    rec["benchmarks"] += rows(
        [fixture.benchmark(f"ladder.{rung}/nested", "ticks", p50, [], n=20) for rung, p50 in test_ladder.P50.items()],
        [test_interrupts.row("inject.interrupt/nested", 269, parts=test_interrupts.PARTS)],
        [fixture.benchmark(f"{name}/{mode}", "ticks", p50, [], n=20, jitter=9) for name, p50 in
         (("fault.pf", 40), ("flush.invlpg", 12), ("ipi.self", 77), ("wake.mwait", 31)) for mode in ("native", "nested")],
        [fixture.without_number(fixture.benchmark("flush.invpcid/nested", "ticks", 1, []), "SKIP", "why 1")])
    rec["claims"].append(fixture.claim("Exit.unlike", "FAIL", detail="what 1"))
    return rec


@pytest.fixture(scope="module")
def clocked():
    """A record of an emulator by its own clock, with the sweep in guests."""
    rec = fixture.record("qemu-amd")
    rec["target"] |= {"name": "qemu-amd-clock", "counts_instructions": False}
    rec["benchmarks"] += [test_guestsweep.row(place, layout, lines, value)
                          for place in (test_guestsweep.Place("native", "4k"), test_guestsweep.Place("nested", "4k", "2m"))
                          for lines in test_guestsweep.LINES for layout, value in (("inside", 8), ("spread", 8 if lines <= 64 else 60))]
    return rec


def other(rec, factor, minute):
    """The same machine, launched in another minute, with other numbers."""
    rec = copy.deepcopy(rec)
    rec |= {"run_id": f"{rec['run_id']}-{minute}-{factor}", "started": f"2026-01-02T03:{minute:02}:05Z"}

    def times(value):
        return value if value is None else value * factor
    for row in rec["benchmarks"]:
        row["samples"] = [value * factor for value in row["samples"]]
        row["stamp_cost"] = times(row["stamp_cost"])
        row["summary"] = {name: times(value) for name, value in row["summary"].items()}
        row["parts"] = {name: times(value) for name, value in row["parts"].items()}
        row |= {name: times(row[name]) for name in ("slope", "stamped_p50")}
        row["p50_interval"] = row["p50_interval"] and [times(value) for value in row["p50_interval"]]
        row["reason"] = row["reason"] and row["reason"].replace("1", str(factor))
        if row["exits"]:
            row["exits"] = row["exits"] | {"counted": row["exits"]["counted"] * factor, "expected": row["exits"]["expected"] * factor}
        if row.get("exits_per_operation"):
            told = row["exits_per_operation"]
            row["exits_per_operation"] = {"total": told["total"] * factor,
                                          "by_reason": {name: value * factor for name, value in told["by_reason"].items()}}
        if "due" in row:
            row["due"] = row["due"] | {"ticks": row["due"]["ticks"] * factor}
    for claim in rec["claims"]:
        claim["detail"] = claim["detail"] and claim["detail"].replace("1", str(factor))
    for finding in rec["doctor"]["findings"]:
        finding["text"] += str(factor)
    return rec


def drawn(draw):
    """Runs one function of a run for each group of records that may share a figure."""
    return lambda run: "".join(draw(group).data for group in plots.groups(run))


SHOWN = {  # everything that shows numbers, and on which record it does
    "tables.machines": ("hardware", tables.machines), "tables.side_by_side": ("emulated", tables.side_by_side),
    "tables.every_row": ("emulated", tables.every_row), "tables.conformance": ("emulated", tables.conformance),
    "tables.not_passed": ("emulated", tables.not_passed), "plots.split": ("emulated", drawn(plots.split)),
    "plots.split on hardware": ("hardware", drawn(plots.split)), "plots.distribution": ("emulated", drawn(plots.distribution)),
    "published.against_published": ("hardware", published.against_published), "paging.where": ("hardware", paging.where),
    "paging.miss_costs": ("hardware", paging.miss_costs), "paging.sweeps": ("hardware", paging.sweeps),
    "paging.excesses": ("hardware", paging.excesses), "paging.knee_table": ("hardware", paging.knee_table),
    "paging.without_numbers": ("emulated", paging.without_numbers), "shadowcost.crossings": ("emulated", shadowcost.crossings),
    "shadowcost.operations": ("emulated", shadowcost.operations), "shadowcost.exits": ("emulated", shadowcost.exits),
    "shadowcost.faults": ("emulated", shadowcost.faults), "shadowcost.guest_flushes": ("emulated", shadowcost.guest_flushes),
    "ladder.units": ("emulated", ladder.units), "ladder.costs": ("emulated", ladder.costs),
    "ladder.singles": ("emulated", ladder.singles), "ladder.waterfalls": ("emulated", ladder.waterfalls),
    "ladder.lists": ("emulated", ladder.lists), "interrupts.units": ("emulated", interrupts.units),
    "interrupts.injection": ("emulated", interrupts.injection),
    "interrupts.bars": ("emulated", lambda run: interrupts.bars(run, "ipi")),
    "interrupts.strips": ("emulated", lambda run: interrupts.strips(run, "ipi")),
    "interrupts.costs": ("emulated", lambda run: interrupts.costs(run, "ipi")),
    "interrupts.lateness": ("hardware", interrupts.lateness), "interrupts.late_shares": ("hardware", interrupts.late_shares),
    "guestsweep.heat_maps": ("clocked", guestsweep.heat_maps), "guestsweep.costs": ("clocked", guestsweep.costs),
    "guestsweep.curves": ("clocked", guestsweep.curves),
}
NO_NUMBERS = {"paging.where", "ladder.units", "interrupts.units"}  # words about machines


def shown(show, *records):
    found = show(tables.Run(list(records), whole=list(records)))
    return found if isinstance(found, str) else found.data


@pytest.mark.parametrize("name", SHOWN)
def test_two_launches_of_one_target_show_their_own_numbers(name, request):
    kind, show = SHOWN[name]
    rec = request.getfixturevalue(kind)
    first, second = other(rec, 1, 10), other(rec, 2, 20)
    both = shown(show, first, second)
    for minute in (10, 20):  # the one fact in which they differ
        assert f"2026-01-02 03:{minute}:05 UTC" in both or "data:image" in both, "each has its title"
    if name not in NO_NUMBERS:
        assert both != shown(show, other(rec, 3, 10), second), "the first record's numbers are shown"
        assert both != shown(show, first, other(rec, 3, 20)), "the second record's numbers are shown"


def test_every_function_that_shows_a_run_is_held_to_it():
    for module in (tables, plots, paging, shadowcost, ladder, interrupts, guestsweep):
        for name, value in vars(module).items():
            result = getattr(value, "__annotations__", {}).get("return")
            if callable(value) and value.__module__ == module.__name__ and not name.startswith("_") and result is tables.HTML:
                assert f"{module.__name__.rpartition('.')[2]}.{name}" in SHOWN or name == "host_flushes", name


def test_numbers_stand_in_the_column_of_their_record(emulated):
    run = tables.Run([other(emulated, 1, 10), other(emulated, 2, 20)])
    line = next(line for line in tables.side_by_side(run).data.split("<tr>") if ">exit.cpuid<" in line)
    assert re.findall(r">([\d.,]+) <small>", line) == ["39", "1", "78", "2"]


def test_what_comes_from_another_row_is_of_the_same_record(emulated):
    """The delivery of an interrupt is what its entry takes more than that of a plain exit, on that machine: 31 less 11, and twice that."""
    shown_ = shown(interrupts.injection, other(emulated, 1, 10), other(emulated, 2, 20))
    lines = [line for line in shown_.split("<tr>") if ">interrupt<" in line]
    assert ['<td class="number">20</td>' in lines[0], '<td class="number">40</td>' in lines[1]] == [True, True]


def test_titles_in_figures(hardware, monkeypatch):
    kept = []
    monkeypatch.setattr(plots, "figure", lambda drawing, alt, caption: kept.append(alt) or plots.HTML(alt))
    shown(drawn(plots.split), other(hardware, 1, 10), other(hardware, 2, 20))
    assert ["03:10:05" in kept[0], "03:20:05" in kept[1]] == [True, True]


def test_a_title_has_what_differs_and_no_more():
    one, two = other(fixture.record("self"), 1, 10), other(fixture.record("self"), 1, 20)
    assert [identity.title(rec) for rec in identity.tell_apart([one, fixture.record("qemu-amd")])] == ["self", "qemu-amd"]
    two["machine"]["name"] = "Another CPU"
    assert [identity.title(rec) for rec in identity.tell_apart([one, two])] == ["self · fixture machine for self", "self · Another CPU"]
    two["machine"]["name"] = one["machine"]["name"]
    two["environment"]["revision"] = "v2"
    assert [identity.title(rec) for rec in identity.tell_apart([one, two])] == ["self · fixture", "self · v2"]
    two |= {"started": one["started"]}
    two["environment"]["revision"] = one["environment"]["revision"]
    two["benchmarks"].pop()
    assert identity.title(identity.tell_apart([one, two])[1]) == f"self · launch {two['run_id']}"


def test_what_cannot_be_told_apart_is_refused(tmp_path, capfd):
    rec = fixture.record("self")
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(rec))
    with pytest.raises(identity.SameRecordError, match=f"{tmp_path}/a.json and {tmp_path}/b.json are one launch, {rec['run_id']}"):
        record.load_all([tmp_path])
    (tmp_path / "b.json").write_text(json.dumps(rec | {"run_id": "another"}))
    with pytest.raises(identity.SameRecordError, match="same content"):
        record.load_all([tmp_path])
    assert cli.execute(["report", str(tmp_path)]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    (tmp_path / "b.json").write_text(json.dumps(other(rec, 1, 20)))
    assert len(record.load_all([tmp_path])[0]) == 2


def test_two_launches_of_an_emulator_in_one_second_may_say_the_same():
    rec = fixture.record("qemu-amd")
    assert len(identity.tell_apart([rec, rec | {"run_id": "another"}])) == 2
