# SPDX-License-Identifier: MIT
import json
import os
import threading
import time
import xml.etree.ElementTree as xml
from pathlib import Path

import fixture_microbench as fixture
import pytest

from refhv import child, cli, departures, parts, paths, record, run

FAST = ["--silence=1", "--limit=20", "--no-report"]


@pytest.fixture
def call(fixture_tools, tmp_path, monkeypatch, capfd):
    """Runs one `refhv run` with the fixture in a mode; gives exit code, output and the run's directory."""
    monkeypatch.setattr(departures, "load", lambda path=None: [])

    def invoke(*arguments, mode="ok", only=None):
        monkeypatch.setenv("FIXTURE_MODE", mode)
        if only:
            monkeypatch.setenv("FIXTURE_TARGET", only)
        code = cli.execute(["run", f"--out={tmp_path / 'out'}", *FAST, *arguments])
        out, err = capfd.readouterr()
        return code, out + err, tmp_path / "out" / "latest"

    return invoke


def test_default_targets_leave_everything(call):
    code, text, latest = call()
    assert code == 0
    assert latest.is_symlink() and os.readlink(latest).endswith("Z")
    for target in ("self", "bochs-intel", "qemu-amd"):
        assert record.load(latest / f"{target}.json")["target"]["name"] == target
        assert (latest / f"{target}.xml").exists()
        assert f"{target}: benchmarks " in text
    assert "exit.cpuid/nested" in text and "fixture machine for qemu-amd" in text


def test_plain_output_has_no_escapes(call):
    assert "\x1b" not in call("--target=self")[1]


def test_a_second_run_takes_over_latest(call):
    _, _, latest = call("--target=self")
    first = os.readlink(latest)
    call("--target=self")
    assert os.readlink(latest) != first
    assert (latest.parent / first).is_dir()


def test_a_failed_claim_is_1(call):
    code, text, latest = call("--target=bochs-intel", mode="fail")
    assert code == run.FAILED
    assert "Exit.cpuid_exits_when_intercepted FAIL on bochs-intel" in text and "INVALID" in text
    assert xml.parse(latest / "bochs-intel.junit.xml").getroot()[0].get("failures") == "1"


def test_a_known_departure_is_0_and_said(call, monkeypatch):
    listed = [departures.Departure("bochs", ">=2.7", "bochs-intel", "Exit.cpuid_exits_when_intercepted", "SDM 3C 26.1.0", "nothing")]
    monkeypatch.setattr(departures, "load", lambda path=None: listed)
    code, text, latest = call("--target=bochs-intel", mode="departure")
    assert code == run.OK
    suites = xml.parse(latest / "bochs-intel.junit.xml").getroot()
    assert [suite.get("failures") for suite in suites] == ["0", "0"]
    skipped = {case.get("name"): case[0].get("message") for case in suites.iter("testcase") if len(case)}
    assert "a known departure of this emulator: FAIL" in skipped["cpuid_exits_when_intercepted"]
    assert skipped["exit.cpuid/nested"].startswith("INVALID")
    assert "1 known departures" in text and "a known departure of this emulator" in text
    assert json.loads((latest / "run.json").read_text())["departures"][0]["instead"] == "nothing"


@pytest.mark.parametrize("mode, words", [
    ("hang", "reported nothing for 1 s"), ("hang_at_start", "reported nothing for 1 s"),
    ("rubbish", "reported nothing for 1 s"), ("close_pipes", "reported nothing for 1 s"), ("die", "died of SIGKILL"),
    ("truncated", "cut short"), ("no_record", "there is no record"), ("miss", "the target died"),
])
def test_a_broken_target_is_a_miss_and_the_others_go_on(call, mode, words):
    begin = time.monotonic()
    code, text, latest = call("--target=bochs-intel,qemu-amd", mode=mode, only="bochs-intel")
    assert code == run.MISS
    assert time.monotonic() - begin < 15
    line = next(line for line in text.splitlines() if line.startswith("MISS bochs-intel"))
    assert words in line
    assert len(record.load(latest / "qemu-amd.json")["benchmarks"]) > 60
    assert line in json.loads((latest / "run.json").read_text())["problems"]


@pytest.mark.parametrize("mode", ["hang", "die", "rubbish", "close_pipes"])
def test_what_was_measured_before_is_kept(call, mode):
    _, text, latest = call("--target=bochs-intel", mode=mode)
    assert [row["verdict"] for row in record.load(latest / "bochs-intel.json")["benchmarks"]] == ["PASS"] * 3
    assert "kept what was measured before" in text


def test_a_full_disk_is_one_line(call):
    code, text, _ = call("--target=bochs-intel", mode="disk_full")
    assert code == run.USAGE
    assert "cannot write /dev/full: No space left on device; free space there" in text


def test_a_full_disk_of_ours_is_one_line(fixture_tools, tmp_path, monkeypatch, capfd):
    def full(*_):
        raise OSError(28, "No space left on device", "out/x")

    monkeypatch.setattr(run, "write_notes", full)
    assert cli.execute(["run", f"--out={tmp_path}", "--target=self", *FAST]) == run.USAGE
    assert capfd.readouterr().err == "refhv: out/x: No space left on device; free space there, or name another folder\n"


def test_a_log_that_cannot_be_written_ends_the_child_and_names_the_log(tmp_path):
    with pytest.raises(OSError) as error:
        child.watch(["/bin/sh", "-c", "echo x; exec sleep 1000"], Path("/dev/full"), lambda event: None, 60, 60)
    assert (error.value.filename, error.value.strerror) == ("/dev/full", "No space left on device")


@pytest.mark.parametrize("arguments, words", [
    (["--target=nosuch"], "unknown target 'nosuch'"), (["--filter=("], "no regular expression"),
    (["--samples=0"], "--samples"), (["--samples=2001"], "--samples"), (["--bogus"], "--bogus"), (["--target=self,"], "unknown target ''"),
    (["--out=/proc/nosuch"], "/proc/nosuch"),
])
def test_usage_errors_are_one_line_and_2(fixture_tools, capfd, arguments, words):
    assert cli.execute(["run", *FAST, *arguments]) == run.USAGE
    error = capfd.readouterr().err
    assert words in error and error.count("\n") == 1


def test_usage_error_of_the_tool_itself(call):
    code, text, latest = call("--target=self", mode="usage")
    assert code == run.USAGE and not latest.exists()


def test_a_filter_that_one_target_has_no_row_for(call):
    code, text, latest = call("--target=self,qemu-amd", mode="nothing_selected", only="self")
    assert code == run.OK
    assert "self: the filter selects no row that this target has" in text
    assert record.load(latest / "qemu-amd.json")


def test_a_filter_that_no_target_has_a_row_for(call):
    code, text, _ = call("--target=self,qemu-amd", "--filter=x", mode="nothing_selected")
    assert code == run.USAGE
    assert text.splitlines()[-1] == "refhv: no target has a benchmark that matches 'x'"


def test_not_built_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("REFHV_BIN_DIR", str(tmp_path))
    assert cli.execute(["run", *FAST]) == run.USAGE
    assert "is not built" in capfd.readouterr().err


def test_options_are_checked_without_a_build(tmp_path, monkeypatch):
    monkeypatch.setenv("REFHV_BIN_DIR", str(tmp_path))
    monkeypatch.setenv("REFHV_PARSE_ONLY", "1")
    assert cli.execute(["run", *FAST]) == run.OK
    for slip in ("--bogus", "--target=nosuch", "--samples=0", "--samples=2001", "--filter=(", "--claims=some", "--out=/proc/x"):
        assert cli.execute(["run", slip]) == run.USAGE


def test_a_departure_that_has_gone_is_no_fault_of_a_run():
    rec = fixture.record("bochs-intel")
    gone = departures.Departure("bochs", ">=2.7", "bochs-intel", rec["claims"][0]["name"], rec["claims"][0]["section"], "something")
    assert run.judge("bochs-intel", rec, [gone]) == ([], [])


def test_a_departure_counts_in_its_versions_only(tmp_path):
    rec = fixture.record("bochs-intel")
    fixture.break_claim(rec, "Exit.cpuid_exits_when_intercepted")
    broken = rec["claims"][0]
    departure = departures.Departure("bochs", ">=2.7 <3", "bochs-intel", broken["name"], broken["section"], "mended in 3.0")
    for version, known in (("2.7", True), ("3.0", False)):
        rec["target"]["emulator"] = {"name": "bochs", "version": version, "banner": None}
        assert run.judge("bochs-intel", rec, [departure])[0] == ([broken["name"]] if known else [])
        result = run.TargetResult("bochs-intel", run.OK, rec=rec)
        run.write_notes(tmp_path, [result], [departure])
        assert len(json.loads((tmp_path / "run.json").read_text())["departures"]) == known


def test_a_version_that_the_list_was_not_held_against_is_said_once():
    results = []
    for target in ("bochs-intel", "bochs-amd"):
        rec = fixture.record(target)
        rec["target"]["emulator"] = {"name": "bochs", "version": "99.1", "banner": None}
        results.append(run.TargetResult(target, run.OK, rec=rec))
    assert sum("not 99.1" in line for line in run.closing_lines(results)) == 1


def test_a_tool_that_says_failed_where_all_is_known_is_believed(tmp_path):
    rec = fixture.break_claim(fixture.record("bochs-intel"), "Exit.cpuid_exits_when_intercepted")
    (tmp_path / "bochs-intel.json").write_text(json.dumps(rec))
    broken = rec["claims"][0]
    departure = departures.Departure("bochs", ">=2.7", "bochs-intel", broken["name"], broken["section"], "nothing")
    codes = [run.conclude("bochs-intel", tmp_path, child.Ending(code, None, 0, 1.0), [departure]).code for code in (0, 1)]
    assert codes == [run.OK, run.FAILED]


@pytest.mark.parametrize("listed, code", [(True, run.OK), (False, run.MISS)])
def test_a_claim_that_takes_an_emulator_down_may_be_known(tmp_path, listed, code):
    rec = fixture.record("bochs-amd")
    fixture.break_claim(rec, "Exit.cpuid_exits_when_intercepted")
    rec["claims"][0]["verdict"] = "MISS"
    (tmp_path / "bochs-amd.json").write_text(json.dumps(rec))
    departure = departures.Departure("bochs", ">=2.7", "bochs-amd", rec["claims"][0]["name"], rec["claims"][0]["section"], "it ends", "MISS")
    result = run.conclude("bochs-amd", tmp_path, child.Ending(0 if listed else 3, None, 0, 1.0), [departure] if listed else [])
    assert result.code == code


def test_hardware_runs_alone_and_emulators_together():
    words = {"self": "here", "bochs-intel": "Bochs (emulated, VMX)", "qemu-amd": "QEMU (emulated, SVM)"}
    assert run.waves(["bochs-intel", "self", "qemu-amd"], words) == [["self"], ["bochs-intel", "qemu-amd"]]
    assert run.waves(["self"], words) == [["self"]]


def test_miss_tells_more_than_failed():
    results = [run.TargetResult("a", code) for code in (0, 1, 3)]
    assert run.exit_code(results) == run.MISS
    assert run.exit_code(results[:2]) == run.FAILED


def test_the_command_line_of_the_tool(fixture_tools, tmp_path):
    argv = run.command(run.Options(["self"], filter="exit.*", samples=7, claims="all"), "self", tmp_path)
    assert {"--target=self", "--claims=all", "--samples=7", "--benchmark_filter=exit.*",
            f"--record={tmp_path}/self.json", f"--benchmark_out={tmp_path}/self.benchmark.json",
            f"--gtest_output=xml:{tmp_path}/self.xml"} <= set(argv)


def test_conformance_part(fixture_tools, tmp_path, monkeypatch):
    monkeypatch.setattr(departures, "load", lambda path=None: [])
    tally = parts.conformance("bochs-intel", tmp_path, "*", threading.Event())
    assert (tally.passed, tally.failed) == (66, 0)
    monkeypatch.setenv("FIXTURE_MODE", "fail")
    tally = parts.conformance("bochs-intel", tmp_path, "*", threading.Event())
    assert (tally.passed, tally.failed) == (65, 1)
    monkeypatch.setenv("FIXTURE_MODE", "hang_at_start")
    monkeypatch.setattr(parts, "watch", lambda *a, **k: run.watch(*a, **(k | {"silence": 1})))
    (tmp_path / "bochs-intel.xml").unlink()
    tally = parts.conformance("bochs-intel", tmp_path, "*", threading.Event())
    assert tally.failed == 1 and "reported nothing" in tally.lines[0]


def test_no_path_of_the_tree_is_missing():
    assert all(path.exists() for path in (paths.SCHEMA, paths.REPORTS, paths.TEMPLATES, paths.CI))
