# SPDX-License-Identifier: MIT
"""A fleet's runs on hosts that are all this machine, one of them down. REFHV_LONG: one dies midway, one hangs, two are one machine."""

import json
import os
import shutil
import subprocess
import threading
import time

import fixture_microbench as fixture
import loopback
import pytest

from refhv import cli, paths
from refhv.fleet import spread, state

ansible = pytest.mark.skipif(not (shutil.which("ansible-playbook") and loopback.SSHD), reason="no ansible-core or openssh-server here")
built = pytest.mark.skipif(not (paths.build_dir() / "bin" / "refhv-microbench").is_file(), reason="refhv-microbench is not built")
long = pytest.mark.skipif(not os.environ.get("REFHV_LONG"), reason="minutes: REFHV_LONG=1")


@built
@long
def test_a_node_of_slurm_goes_on_where_it_was(tmp_path):
    """The batch script as Slurm would start it: cut short by SIGTERM, requeued, and its folder is a fleet's."""
    script = paths.PLAYBOOKS / "refhv.sbatch"
    environment = os.environ | {"FLEET": str(tmp_path), "SLURMD_NODENAME": "node-1", "REFHV": " ".join(loopback.build_tree())}
    argv = [script, "--target=self", "--filter=^control", "--samples=2000", "--launches=6"]
    child = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: list(tmp_path.glob("hosts/node-1/2*/launch-*/run.json")), 30)
    second = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    child.terminate()
    assert child.wait(30) == 143 and second.returncode == 75 and "holds" in second.stderr
    subprocess.run(argv, env=environment, capture_output=True, check=True)
    found = spread.load(tmp_path)
    assert len(found.records["node-1"]) == 6 and not found.problems and len(list(tmp_path.glob("hosts/node-1/2*"))) == 1


@pytest.fixture
def hosts(tmp_path):
    made = loopback.Hosts(tmp_path, loopback.build_tree())
    yield made
    made.close()


def run_fleet(hosts, *more, launches=2, samples=20):
    return cli.execute(["fleet", "run", "-i", str(hosts.inventory()), "--target=self", "--filter=^(exit.cpuid|control)", f"--samples={samples}",
                        f"--launches={launches}", "--poll=1", "--wait=0", f"--out={hosts.folder / 'out'}", "--json", *more])


def ended(capfd):
    whole = json.loads(capfd.readouterr().out)
    return whole, {host["name"]: host for host in whole["hosts"]}


@ansible
@built
def test_two_hosts_and_one_that_is_down(hosts, capfd):
    for name in ("one", "two", "down"):
        hosts.add(name, up=name != "down")
    assert run_fleet(hosts, "--serial=3", "--patience=1", "--no-page") == 3
    whole, host = ended(capfd)
    assert [host[name]["stands"] for name in ("one", "two", "down")] == ["DONE", "DONE", "UNREACHABLE"]
    assert host["one"]["fetched"] == host["two"]["fetched"] == 2 and "refused" in host["down"]["says"]
    found = spread.load(state.Path(whole["directory"]))
    assert {name: len(records) for name, records in found.records.items()} == {"one": 2, "two": 2} and not found.problems
    assert len(spread.groups(found)) == 1, "one machine, so one key"


def in_background(*arguments):
    """`fleet run` as a thread, and its exit code once it has ended."""
    code = []
    thread = threading.Thread(target=lambda: code.append(run_fleet(*arguments, launches=LAUNCHES, samples=MANY)))
    thread.start()
    return thread, code


MANY, LAUNCHES = 2000, 30  # samples that a launch may have at most, and launches of them that take some ten seconds


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


def launches_on(hosts, name):
    return len(list((hosts.folder / f"home-{name}").glob("*/out/2*/launch-*/run.json")))


@ansible
@built
@long
def test_one_dies_midway_and_comes_back(hosts, capfd):
    """Its server and its run are killed after a launch; the others are done without it, and it goes on where it was."""
    for name in ("one", "two", "three"):
        hosts.add(name)
    thread, code = in_background(hosts, "--serial=3", "--patience=1", "--no-page")
    until(lambda: launches_on(hosts, "two") >= 1)
    hosts.kill("two")
    kept = launches_on(hosts, "two")
    thread.join(180)
    assert code == [3]
    whole, host = ended(capfd)
    assert [host[name]["stands"] for name in ("one", "two", "three")] == ["DONE", "UNREACHABLE", "DONE"] and 1 <= kept < LAUNCHES
    first = min((hosts.folder / "home-two").glob("*/out/2*/launch-*/run.json"), key=lambda path: path.stat().st_mtime).parent / "self.json"
    before = first.read_bytes()
    hosts.start("two")
    assert run_fleet(hosts, f"--resume={whole['directory']}", "--patience=1") == 0
    whole, host = ended(capfd)
    assert {name: one["fetched"] for name, one in host.items()} == dict.fromkeys(("one", "two", "three"), LAUNCHES) and whole["page"].endswith("fleet.html")
    assert len(list((hosts.folder / "home-two").glob("*/out/2*"))) == 1, "the same run"
    assert first.read_bytes() == before, "what was measured before is not measured again"
    plan = json.loads(next((hosts.folder / "home-two").glob("*/out/2*/launches.json")).read_text())
    assert len(plan["done"]) == LAUNCHES


@ansible
@built
@long
def test_one_that_hangs_keeps_nobody_waiting(hosts, capfd):
    for name in ("one", "two"):
        hosts.add(name)
    hosts.hang("two")
    begin = time.monotonic()
    assert run_fleet(hosts, "--serial=2", "--patience=1", "--no-page") == 3
    assert time.monotonic() - begin < 60
    whole, host = ended(capfd)
    assert host["one"]["stands"] == "DONE" and host["two"]["stands"] == "UNREACHABLE" and "timed out" in host["two"]["says"].lower()
    hosts.wake("two")
    assert run_fleet(hosts, f"--resume={whole['directory']}", "--no-page") == 0


@ansible
@built
@long
def test_one_that_hangs_while_it_measures(hosts, capfd):
    for name in ("one", "two"):
        hosts.add(name)
    thread, code = in_background(hosts, "--serial=2", "--patience=1", "--no-page")
    until(lambda: launches_on(hosts, "two") >= 1)
    hosts.hang("two")
    thread.join(180)
    hosts.wake("two")
    assert code == [3]
    whole, host = ended(capfd)
    assert host["one"]["stands"] == "DONE" and host["two"]["stands"] == "UNREACHABLE" and host["two"]["launches"] >= 1
    assert run_fleet(hosts, f"--resume={whole['directory']}", "--no-page") == 0
    assert ended(capfd)[1]["two"]["fetched"] == LAUNCHES, "its run had gone on meanwhile"


@ansible
@built
@long
def test_never_two_runs_on_one_machine(hosts, capfd):
    """Two names of one machine: the second is told who holds the lock, and measures in a later round. No two runs overlap."""
    hosts.locks = dict.fromkeys(("one", "again"), str(hosts.folder / "machine.lock"))
    for name in ("one", "again"):
        hosts.add(name)
    assert run_fleet(hosts, "--serial=2", "--patience=9", "--wait=1", "--no-page", launches=12, samples=MANY) == 0
    ended(capfd)
    spans = []
    for name in ("one", "again"):
        records = [json.loads(path.read_text()) for path in (hosts.folder / f"home-{name}").glob("*/out/2*/launch-*/self.json")]
        spans.append((min(rec["started"] for rec in records), max(rec["started"] for rec in records)))
    (_, first_end), (second_begin, _) = sorted(spans)
    assert first_end <= second_begin


@ansible
@built
@long
def test_a_batch_that_fails_is_the_last(hosts, capfd):
    """Of three hosts whose refhv is broken, one is tried a round."""
    hosts.command = ["false"]
    for name in ("one", "two", "three"):
        hosts.add(name)
    assert run_fleet(hosts, "--patience=1", "--no-page") == 3
    assert sorted(host["stands"] for host in ended(capfd)[1].values()) == ["FAILED", "LEFT", "LEFT"]


@ansible
@built
@long
def test_a_signal_leaves_the_hosts_measuring_and_clean_ends_them(hosts, capfd):
    hosts.add("one")
    environment = os.environ | {"PYTHONPATH": str(paths.PACKAGES)}
    child = subprocess.Popen(["/usr/bin/python3", "-m", "refhv", "fleet", "run", "-i", hosts.inventory(), "--target=self", "--filter=^control", f"--samples={MANY}",
                              "--launches=200", "--poll=1", f"--out={hosts.folder / 'out'}"], env=environment, stderr=subprocess.PIPE, text=True)
    until(lambda: launches_on(hosts, "one") >= 1)
    child.terminate()
    assert child.wait(30) == 143 and "--resume=" in child.stderr.read()
    count = launches_on(hosts, "one")
    until(lambda: launches_on(hosts, "one") > count)
    directory, = (hosts.folder / "out").iterdir()
    assert cli.execute(["fleet", "clean", "-i", str(hosts.inventory()), str(directory)]) == 0
    assert list((hosts.folder / "home-one").iterdir()) == [hosts.folder / "home-one" / "refhv-fleet-host"]
    running = subprocess.run(["pgrep", "-f", str(hosts.folder / "home-one")], capture_output=True, text=True, check=False).stdout.split()
    assert not running


@ansible
@built
@long
def test_a_host_that_is_not_as_required_does_not_measure(hosts, capfd):
    hosts.add("one")
    assert run_fleet(hosts, "--require=nosuch,virtualization,holder", "--patience=1", "--no-page") in (0, 3)
    whole, host = ended(capfd)
    assert cli.execute(["fleet", "check", "-i", str(hosts.inventory()), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)[0]["says"]
    wrong = [one for one in found.split(", ") if one.split()[-1] in ("virtualization", "holder")]
    assert all(one in host["one"]["says"] for one in wrong) and bool(wrong) == (host["one"]["stands"] == "FAILED")


@ansible
@long
def test_what_a_poll_costs_the_host(hosts):
    """CPU time of the server and of what it starts, for a poll on a connection that is there: docs/fleet.md has the figure."""
    hosts.add("one")
    script, polls, socket = paths.PLAYBOOKS / "roles/refhv_run/files/refhv-fleet-host", 100, hosts.folder / "socket"
    ssh = ["ssh", "-F", "none", "-i", hosts.folder / "user", "-p", str(hosts.ports["one"]), "-o", f"UserKnownHostsFile={hosts.folder / 'known'}",
           "-o", "StrictHostKeyChecking=accept-new", "-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={socket}", "127.0.0.1"]
    spent = []
    for count in (1, 1 + polls):  # the first has the connection in it
        before = hosts.cpu_seconds("one")
        for _ in range(count):
            assert subprocess.run([*ssh, f"{script} status {hosts.folder}"], capture_output=True, text=True, check=True).stdout == "none\n"
        subprocess.run([*ssh[:-1], "-O", "exit", "127.0.0.1"], capture_output=True, check=True)
        until(lambda: hosts.cpu_seconds("one") > before, 20)
        time.sleep(0.5)
        spent.append(hosts.cpu_seconds("one") - before)
    each = (spent[1] - spent[0]) / polls
    print(f"a connection: {1000 * spent[0]:.0f} ms of CPU time, a poll on it: {1000 * each:.1f} ms")
    assert each < 0.3
