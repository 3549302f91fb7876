# SPDX-License-Identifier: MIT
"""SIGINT, SIGTERM and SIGHUP: what was started ends, what was measured is kept and said, the code is 128 + the number."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import fixture_microbench as fixture
import pytest

from refhv import checks, notebook, paths, record, signals

EACH = pytest.mark.parametrize("number", signals.ENDING, ids=lambda n: n.name)
PATIENCE = 120  # of a busy machine


def start(tmp_path, *arguments, mode="ok"):
    environment = os.environ | {"FIXTURE_MODE": mode, "PYTHONPATH": str(paths.TOP / "bindings"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen([sys.executable, "-m", "refhv", *arguments], env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, cwd=tmp_path, start_new_session=True)


def end(process, number):
    """Sends the signal; the output from then on. Nothing that was started may be left."""
    children = checks.descendants(process.pid)
    process.send_signal(number)
    rest = process.communicate(timeout=PATIENCE)[0]
    assert children and not [pid for pid in children if os.path.exists(f"/proc/{pid}")]
    assert process.returncode == 128 + number
    assert "Traceback" not in rest and "Error" not in rest
    return rest.splitlines()


def started_kernel(process):
    """Waits until a page is being made: the kernel is below the process."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        for pid in checks.descendants(process.pid):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if b"ipykernel" in file.read():
                        return
            except OSError:
                pass
        time.sleep(0.02)
    pytest.fail("no kernel was started")


@EACH
def test_while_a_target_is_measured(fixture_tools, tmp_path, number):
    process = start(tmp_path, "run", "--target=qemu-amd", "--no-report", "--out=out", mode="hang")
    for line in process.stdout:
        if "exit.cpuid/native" in line:
            break
    rest = end(process, number)
    latest = tmp_path / "out" / "latest"
    assert len(record.load(latest / "qemu-amd.json")["benchmarks"]) == 3
    directory = latest.resolve()
    assert rest[-1] == (f"refhv: ended by {number.name}; kept in {directory}: qemu-amd.json (./suite report {directory} makes "
                        "the pages)")
    assert "it was interrupted" in json.loads((latest / "run.json").read_text())["problems"][0]


def test_before_anything_was_measured(fixture_tools, tmp_path):
    process = start(tmp_path, "run", "--target=qemu-amd", "--no-report", "--out=out", mode="hang_at_start")
    until = time.monotonic() + PATIENCE
    while not checks.descendants(process.pid) or not list(tmp_path.glob("out/*/qemu-amd.log")):
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.2)
    assert "nothing was measured yet" in end(process, signal.SIGTERM)[-1]
    assert not (tmp_path / "out" / "latest").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_while_pages_are_made(fixture_tools, tmp_path, number):
    process = start(tmp_path, "run", "--target=self,bochs-intel", "--out=out")
    started_kernel(process)
    rest = end(process, number)
    directory = (tmp_path / "out" / "latest").resolve()
    assert rest[-1].startswith(f"refhv: ended by {number.name}; kept in {directory}: bochs-intel.json, self.json (")


def test_while_a_report_is_made_again(tmp_path):
    (tmp_path / "self.json").write_text(json.dumps(fixture.record("self")))
    process = start(tmp_path, "report", ".")
    started_kernel(process)
    assert end(process, signal.SIGINT) == ["refhv: ended by SIGINT; the records in . are as they were"]
    assert [path.name for path in tmp_path.iterdir()] == ["self.json"]


def test_amid_a_cell(tmp_path):
    import nbformat

    reached = tmp_path / "reached"
    source = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
        f"import os, time; open({str(reached)!r}, 'w').write(str(os.getpid())); time.sleep(1000)")])
    nbformat.write(source, tmp_path / "slow.ipynb")

    def strike():
        until = time.monotonic() + PATIENCE
        while not (reached.exists() and reached.read_text()) and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    striker = threading.Thread(target=strike)
    with pytest.raises(signals.Interrupted), signals.raised() as caught:
        striker.start()
        notebook.execute(tmp_path, tmp_path / "slow.ipynb")
    striker.join()
    assert caught.number == signal.SIGTERM
    assert not os.path.exists(f"/proc/{reached.read_text()}")


def test_only_the_first_one_counts_and_what_was_before_comes_back():
    before = [signal.getsignal(number) for number in signals.ENDING]
    with signals.raised() as caught:
        with pytest.raises(signals.Interrupted, match="ended by SIGTERM; nothing was kept"):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert caught.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised() as caught:
            signal.raise_signal(signal.SIGHUP)
        assert caught.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_trouble_while_cleaning_up_does_not_hide_the_signal(monkeypatch, capfd):
    from refhv import cli

    def gone(*_):
        signal.raise_signal(signal.SIGHUP)

    def broken(*_, **__):
        try:
            gone()
        finally:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(cli.cli, "main", broken)
    assert cli.execute([]) == 129
