# SPDX-License-Identifier: MIT
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from refhv import budget, cli, parts, paths, schedule, testing
from refhv.departures import Claim, Departure
from refhv.schedule import Part, Runs
from refhv.tally import Tally


def boom(_stop):
    raise OSError(2, "no such program", "x")


@pytest.fixture
def two(tmp_path, monkeypatch):
    monkeypatch.setenv("REFHV_BUILD_DIR", str(tmp_path))
    monkeypatch.setattr(testing.budget, "load", lambda: {"one": budget.Budget("beside", 1, 2)})
    found = [Part("one", Runs.BESIDE, lambda _stop: Tally(passed=3)), Part("two", Runs.ALONE, boom)]
    monkeypatch.setattr(testing.parts, "all_parts", lambda *_: found)


def test_closing_line_and_code(two, capsys):
    assert testing.run(False, None, Console()) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "3 passed, 1 failed"
    assert testing.run(False, "one", Console()) == 0
    assert testing.run(False, "none", Console()) == 1


def test_the_table_has_every_part_its_class_and_its_budget(two, capsys):
    testing.run(False, None, Console(width=200))
    table = [line.split() for line in capsys.readouterr().out.partition("part ")[2].splitlines()]
    assert ["one", "beside", "0", "s", "2", "s"] in table
    assert ["two", "alone", "0", "s", "none"] in table


def test_a_part_far_over_its_budget_gets_a_note(two, capsys, monkeypatch):
    monkeypatch.setattr(testing.schedule, "run", lambda chosen, workers, seconds, done: done(schedule.Done(chosen[0], Tally(1), 3.2)))
    testing.run(False, "one", Console())
    assert "NOTE one took 3 s, its budget is 2 s" in capsys.readouterr().out
    monkeypatch.setattr(testing.schedule, "run", lambda chosen, workers, seconds, done: done(schedule.Done(chosen[0], Tally(1), 2.9)))
    testing.run(False, "one", Console())
    assert "NOTE" not in capsys.readouterr().out


def test_quick_says_what_it_leaves_out_and_fits_no_long(two, capsys, monkeypatch):
    testing.run(False, "one", Console(), quick=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "3 passed, 0 failed" and "clang-tidy" in lines[-2]
    monkeypatch.setenv("REFHV_PARSE_ONLY", "1")
    assert cli.execute(["test", "--quick"]) == 0
    assert cli.execute(["test", "--quick", "--long"]) == 2


def test_the_table_of_budgets_is_that_of_the_parts(tmp_path):
    """docs/testing.md has each part once, in the class that the part itself names, and a budget that its time fits."""
    budgets = budget.load()
    found = {part.name: part for part in parts.all_parts(False, False, tmp_path, 2)}
    assert set(budgets) == set(found)
    for name, one in budgets.items():
        assert one.runs == found[name].runs.value, name
        assert (one.measured or 0) <= one.most, name
    assert budget.TABLE.read_text().count("\n| `") == len(budgets)


def test_the_budgets_of_all_parts_fit_the_whole():
    assert budget.total({"a": budget.Budget("wide", None, 9), "b": budget.Budget("beside", None, 4), "c": budget.Budget("alone", None, 2)}) == 13
    assert budget.total(budget.load()) <= budget.MOST_SECONDS


def test_a_missing_table_is_no_error(tmp_path):
    assert budget.load(tmp_path / "none.md") == {}
    assert "no budget" in budget.note("x", 1, {})


def test_every_check_is_executable_and_says_how_it_runs():
    found = sorted(paths.CI.glob("check-*"))
    assert len(found) >= 12
    for script in found:
        assert script.stat().st_mode & 0o111, script
        assert parts.declared(script), script


def test_what_a_check_says_of_itself(tmp_path):
    script = tmp_path / "check-x"
    for line, due in (("# runs: alone", (Runs.ALONE, "")), ("# runs: beside, quick", (Runs.BESIDE, "quick")),
                      ("# runs: wide", (Runs.WIDE, "")), ("# runs: alone, long", (Runs.ALONE, "long")), ("# runs: wide, slow", None),
                      ("# runs: fast", None), ("", None), ("# runs: alone\n# runs: wide", None)):
        script.write_text(f"#!/bin/sh\n{line}\n")
        assert parts.declared(script) == due


def test_quick_is_a_part_of_the_whole(tmp_path):
    whole = [part.name for part in parts.all_parts(False, False, tmp_path, 2)]
    quick = [part.name for part in parts.all_parts(False, True, tmp_path, 2)]
    assert set(quick) < set(whole)
    assert {"unit", "conformance bochs-intel", "conformance qemu-amd", "check-format"} <= set(quick)
    assert "check-tidy" not in quick


def test_what_is_for_long_alone_is_not_in_the_whole(tmp_path):
    whole, long_ = ({part.name for part in parts.all_parts(is_long, False, tmp_path, 2)} for is_long in (False, True))
    assert long_ - whole == {"check-debian-13"} and not whole - long_


def test_parts_of_no_stop_end_by_themselves(tmp_path):
    script = tmp_path / "check-x"
    script.write_text("#!/bin/sh\necho PASS a\nexit 1\n")
    script.chmod(0o755)
    found = parts.check(script, False, threading.Event())
    assert (found.passed, found.failed) == (1, 1), "the code counts, too"


@pytest.mark.parametrize(("wanted", "failures"), [("*", 1), ("Exit.b*", 0)])
def test_only_a_run_of_all_claims_misses_a_listed_one(wanted, failures, tmp_path, monkeypatch):
    passing = Claim("Exit.b", "PASS", "APM 2 15.5", None)
    listed = [Departure("qemu", ">=7.2", "qemu-amd", "Exit.a", "APM 2 15.5", "it never exits")]
    monkeypatch.setattr(parts, "watch", lambda *_, **__: SimpleNamespace(why=lambda: None))
    monkeypatch.setattr(parts.paths, "tool", lambda name: tmp_path / name)
    monkeypatch.setattr(parts.departures, "load", lambda: listed)
    monkeypatch.setattr(parts.departures, "load_tried", dict)
    monkeypatch.setattr(parts.gtest, "read_claims", lambda _: [passing])
    monkeypatch.setattr(parts.gtest, "read_emulator", lambda _: None)
    tally = parts.conformance("qemu-amd", tmp_path, wanted, threading.Event())
    assert tally.failed == failures
