# SPDX-License-Identifier: MIT
import socket
import subprocess
import sys

import fixture_microbench as fixture
import pytest

from refhv import checks

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
