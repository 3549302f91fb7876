# SPDX-License-Identifier: MIT
import socket
import subprocess
import sys
import time

import fixture_microbench as fixture
import pytest
from rich.console import Console

from refhv import checks, testing


def test_lines_are_counted():
    tally = testing.from_lines("PASS a\nnoise\nFAIL b: because\nSKIP c: absent\nPASS d\n", 1, "x")
    assert (tally.passed, tally.failed, tally.skipped) == (2, 1, 1)


@pytest.mark.parametrize("text, code", [("", 0), ("", 1), ("PASS a\n", 1), ("Traceback\nValueError: x\n", 1), ("noise\n", 0)])
def test_a_check_that_breaks_is_a_failure(text, code):
    assert testing.from_lines(text, code, "x").failed == 1


JUNIT = '<testsuite><testcase classname="a" name="b"/><testcase name="c"><skipped/></testcase>{}</testsuite>'


def test_junit_is_counted(tmp_path):
    path = tmp_path / "j.xml"
    path.write_text(JUNIT.format(""))
    tally = testing.from_junit(path, 0, "x")
    assert (tally.passed, tally.failed, tally.skipped) == (1, 0, 1)
    path.write_text(JUNIT.format('<testcase name="d"><failure message="boo"/></testcase><testcase name="e" status="fail"/>'))
    assert testing.from_junit(path, 1, "x").failed == 2


@pytest.mark.parametrize("content, code", [(None, 0), ("<testsuite/>", 0), ("<testsui", 0), (JUNIT.format(""), 8)])
def test_junit_that_proves_nothing_is_a_failure(tmp_path, content, code):
    path = tmp_path / "j.xml"
    if content is not None:
        path.write_text(content)
    assert testing.from_junit(path, code, "x").failed == 1


def test_closing_line_and_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REFHV_BUILD_DIR", str(tmp_path))
    monkeypatch.setattr(testing, "parts", lambda *_: {"one": lambda: testing.Tally(passed=3), "two": boom})
    assert testing.run(False, None, Console()) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "3 passed, 1 failed"
    assert testing.run(False, "one", Console()) == 0
    assert testing.run(False, "none", Console()) == 1


def boom():
    raise OSError(2, "no such program", "x")


def test_a_call_past_its_time_is_ended():
    begin = time.monotonic()
    code, text = testing._call(["/bin/sh", "-c", "echo early; sleep 60 & wait"], 1)
    assert code == 124 and "early" in text and time.monotonic() - begin < 10


def test_every_check_is_executable_and_counted():
    found = sorted(testing.paths.CI.glob("check-*"))
    assert len(found) >= 12
    assert all(path.stat().st_mode & 0o111 for path in found)


LISTENER = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(60)"


def test_a_listening_descendant_is_found():
    process = subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip()
        assert process.pid in checks.descendants(subprocess.os.getpid())
        assert [line.split()[1:] for line in checks.reachable_sockets([process.pid])] == [["tcp", "port", port]]
    finally:
        process.kill()
        process.wait()
    assert checks.reachable_sockets([process.pid]) == []


def test_a_connected_socket_is_not_listening():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        code = f"import socket, time; s = socket.create_connection(('127.0.0.1', {server.getsockname()[1]})); print(1, flush=True); time.sleep(60)"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        try:
            process.stdout.readline()
            assert checks.reachable_sockets([process.pid]) == []
        finally:
            process.kill()
            process.wait()


def test_measure_and_row(fixture_tools, monkeypatch):
    rec = checks.measure("bochs-intel", ".*")
    assert checks.row(rec, "exit.cpuid/nested")["summary"]["p50"] == 39
    with pytest.raises(checks.CheckError, match="has no row"):
        checks.row(rec, "exit.nothing/nested")
    monkeypatch.setenv("FIXTURE_MODE", "fail")
    with pytest.raises(checks.CheckError, match="INVALID: claim"):
        checks.row(checks.measure("bochs-intel", ".*"), "exit.cpuid/nested")
    monkeypatch.setenv("FIXTURE_MODE", "miss")
    with pytest.raises(checks.CheckError, match="code 3; fixture: the target died"):
        checks.measure("bochs-intel", ".*")


def test_canonical_sees_every_sample():
    first, second = fixture.record("qemu-amd"), fixture.record("qemu-amd")
    assert checks.canonical(first) == checks.canonical(second)
    second["started"] = "2027-01-02T03:04:05Z"
    assert checks.canonical(first) == checks.canonical(second)
    second["benchmarks"][5]["samples"][17] += 1
    assert checks.canonical(first) != checks.canonical(second)
