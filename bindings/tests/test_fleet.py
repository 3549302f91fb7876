# SPDX-License-Identifier: MIT
"""A fleet: what events make of a host, what a host may send, which of equal machines stands out; and runs on hosts that are all this
machine, one of them down. REFHV_LONG: one dies midway, one hangs, two are one machine."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import time

import fixture_microbench as fixture
import loopback
import numpy
import pytest
import synthetic

from refhv import cli, leaks, paths, report
from refhv.fleet import archive, play, rounds, spread, state, watch

EVIL = "<img src=x onerror=alert(1)>"
ansible = pytest.mark.skipif(not (shutil.which("ansible-playbook") and loopback.SSHD), reason="no ansible-core or openssh-server here")
built = pytest.mark.skipif(not (paths.build_dir() / "bin" / "refhv-microbench").is_file(), reason="refhv-microbench is not built")
long = pytest.mark.skipif(not os.environ.get("REFHV_LONG"), reason="minutes: REFHV_LONG=1")


def fleet_of(folder, *names):
    (folder / "fetched").mkdir(parents=True, exist_ok=True)
    return state.Fleet(folder, "hosts", {name: state.Host(name) for name in names})


def sent(path, *members):
    """An archive as a host sends it: pairs of name and content; None for a link out of it."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))


LAUNCH = (("out/t/launch-001/self.json", b"{}"), ("out/t/launch-001/run.json", b"{}"), ("log", b"all well\n"))


def told(fleet, *events):
    for task, how, says in events:
        rounds.apply(fleet, play.Event("h", task, how, says))
    return fleet.hosts["h"]


def test_a_host_comes_to_its_end(tmp_path):
    fleet = fleet_of(tmp_path, "h")
    sent(tmp_path / "fetched" / "h.tar.gz", *LAUNCH)
    host = told(fleet, ("reach", "ok", ""), ("start", "ok", ""), ("wait", "again", "running 1"))
    assert (host.stands, host.launches) == (state.Stands.MEASURING, 1) and fleet.code() == 3
    told(fleet, ("wait", "ok", "Welcome to h\ndone 1 2"), ("fetch", "ok", ""))
    assert (host.stands, host.code, host.fetched, host.launches) == (state.Stands.DONE, 1, 1, 2) and fleet.code() == 1 and not fleet.left()
    told(fleet, ("verdict", "failed", "x"), ("reach", "unreachable", "gone"))
    assert host.stands is state.Stands.DONE, "what was fetched stays"


@pytest.mark.parametrize(("events", "stands", "says"), [
    ([("reach", "unreachable", "refused")], "UNREACHABLE", "refused"),
    ([("reach", "failed", "Timed out after 30 second(s).")], "UNREACHABLE", "Timed out"),
    ([("start", "failed", "another run holds L")], "FAILED", "start: another run holds L"),
    ([("wait", "again", "running 3"), ("wait", "unreachable", "reset"), ("lost", "failed", "x")], "UNREACHABLE", "wait: reset"),
    ([("wait", "ok", "died 3"), ("fetch", "ok", "")], "FAILED", "its run has died 3"),
    ([("wait", "failed", "timed out"), ("lost", "failed", "no answer")], "FAILED", "wait: timed out"),
    ([("wait", "ok", "\x1b[2J<b>rubbish")], "FAILED", "rubbish"),
    ([("wait", "ok", "done 0 2"), ("fetch", "failed", "no space")], "FAILED", "fetch: no space"),
])
def test_why_a_host_is_not_done(tmp_path, events, stands, says):
    fleet = fleet_of(tmp_path, "h")
    sent(tmp_path / "fetched" / "h.tar.gz", *LAUNCH)
    host = told(fleet, *events)
    assert host.stands is state.Stands[stands] and says in host.says and host.says.isprintable()
    assert fleet.code() == 3 and fleet.left() == ["h"] and says in watch.words(host)


@pytest.mark.parametrize("members", [
    (("../evil.json", b"{}"),), (("/evil.json", b"{}"),), (("out/t/link", None),), (("out/.hidden", b""),), (("out/a b", b""),),
])
def test_a_host_cannot_write_elsewhere(tmp_path, members):
    fleet = fleet_of(tmp_path / "f", "h")
    (fleet.records("h") / "t").mkdir(parents=True)
    sent(tmp_path / "f" / "fetched" / "h.tar.gz", *LAUNCH, *members)
    host = told(fleet, ("wait", "ok", "done 0 1"), ("fetch", "ok", ""))
    assert host.stands is state.Stands.FAILED and "no plain file" in host.says
    assert (fleet.records("h") / "t").is_dir(), "what was there is kept"
    assert not list(tmp_path.rglob("evil.json")) and len(list((tmp_path / "f" / "hosts").iterdir())) == 1


def test_an_archive_that_is_cut_short(tmp_path):
    path = tmp_path / "h.tar.gz"
    sent(path, ("out/t/launch-001/self.json", os.urandom(5000)))
    for content in (path.read_bytes()[:3000], b"rubbish", b""):
        path.write_bytes(content)
        with pytest.raises(state.FleetError, match="cut short"):
            archive.unpack(path, tmp_path / "h")
        assert not (tmp_path / "h").exists() and sorted(p.name for p in tmp_path.iterdir()) == ["h.tar.gz"]


def test_the_state_comes_back_and_is_no_record(tmp_path):
    fleet = fleet_of(tmp_path, "a", "b")
    fleet.hosts["a"].to(state.Stands.FAILED, "start: no")
    fleet.write()
    assert state.load(tmp_path) == fleet
    from refhv import record
    assert record.files_of([tmp_path]) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"version": 9}', '{"version": 1, "inventory": "", "hosts": [{"name": "../x", "stands": "LEFT"}]}',
                                     '{"version": 1, "inventory": "", "hosts": [{"name": "x", "stands": "LEFT", "fetched": "<b>"}]}'])
def test_a_state_that_is_none(tmp_path, content, capfd):
    (tmp_path / state.FILE).write_text(content)
    assert cli.execute(["fleet", "report", str(tmp_path)]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_lines_that_are_no_events():
    assert play.event_of('{"host": "h", "task": "wait", "state": "ok", "says": "x"}') == play.Event("h", "wait", "ok", "x")
    for line in ("", "PLAY [all]", "[]", "{}", '{"host": 1, "task": "t", "state": "ok", "says": ""}', "[" * 5000):
        assert play.event_of(line) is None


def host_records(folder, hosts, slower=(), name=None, launches=4):
    for index in range(hosts):
        for launch in range(1, launches + 1):
            rec = synthetic.record(launch + 100 * index, 6, 50, slower={2: 0.1} if index in slower else None)
            if name:
                rec["machine"]["name"] = name
            place = folder / "hosts" / f"host-{index}" / "t" / f"launch-{launch:03}"
            place.mkdir(parents=True)
            (place / "self.json").write_text(json.dumps(rec))


def test_the_slow_one_is_named_and_no_other(tmp_path):
    host_records(tmp_path, 5, slower=(3,))
    group, = spread.groups(spread.load(tmp_path))
    assert list(group.out()) == ["host-3"] and [row.benchmark for row in group.out()["host-3"]] == ["exit.synthetic_2/user"]
    assert 0.08 < group.rows[0].out["host-3"] < 0.12


def test_of_two_nobody_is_named(tmp_path):
    host_records(tmp_path, 2, slower=(1,))
    group, = spread.groups(spread.load(tmp_path))
    assert not group.out() and group.rows[0].range() > 0.08


def test_false_alarms_of_equal_hosts():
    """Rows of equal hosts, 10 launches each, in which one is named. docs/fleet.md has the figures, of REFHV_LONG."""
    rows = 10_000 if os.environ.get("REFHV_LONG") else 300
    dice = numpy.random.default_rng(7)
    for hosts, noise, most in ((3, 0.006, 0), (10, 0.006, 0), (3, 0.05, 0.05), (10, 0.05, 0.02)):
        named = 0
        for _ in range(rows):
            row = spread.row_of("x", {f"h{n}": list(1000 * (1 + noise * dice.standard_normal(10))) for n in range(hosts)}, exact=False)
            named += bool(row.out)
        print(f"{hosts} hosts, launches spread by {noise:.1%}: {named / rows:.2%} of rows")
        assert named / rows <= most


def test_ticks_are_exact():
    launches = {"a": [26.0], "b": [26.0], "c": [27.0]}
    assert spread.row_of("x", launches, exact=True).out.keys() == {"c"}
    assert spread.row_of("x", {name: [1000 + 10 * values[0]] for name, values in launches.items()}, exact=False).out == {}


def test_the_page_names_and_escapes(tmp_path):
    host_records(tmp_path, 3, slower=(1,), name=EVIL, launches=2)
    rec = fixture.record("self")
    rec["claims"][0] |= {"verdict": "FAIL", "detail": EVIL}
    (tmp_path / "hosts" / "host-0" / "t" / "broken.json").write_text("{")
    fleet = fleet_of(tmp_path, "host-0", "down")
    fleet.hosts["down"].to(state.Stands.UNREACHABLE, EVIL)
    fleet.write()
    text = report.write_fleet(tmp_path).read_text()
    assert "<img src=x" not in text and "&lt;img src=x onerror" in text and leaks.requests_in(text) == []
    assert "Standing out among their equals: host-1." in text and "down did not answer" in text and "left out: host-0" in text
    assert cli.execute(["fleet", "report", str(tmp_path)]) == 1


@ansible
def test_the_books_are_sound():
    for book in ("run", "clean") + (("check",) if os.environ.get("REFHV_LONG") else ()):
        done = subprocess.run(["ansible-playbook", "--syntax-check", "-i", "localhost,", paths.PLAYBOOKS / f"{book}.yml"], capture_output=True,
                              text=True, env=os.environ | {"ANSIBLE_CONFIG": str(paths.PLAYBOOKS / "ansible.cfg")}, check=False)
        assert done.returncode == 0, done.stderr


@ansible
@pytest.mark.parametrize(("content", "says"), [("", "no host in it"), ("all: [", "no host in it"), ("all:\n  hosts:\n    a/b:\n", "alias")])
def test_an_inventory_that_is_none(tmp_path, content, says, capfd):
    (tmp_path / "hosts.yml").write_text(content)
    assert cli.execute(["fleet", "run", "-i", str(tmp_path / "hosts.yml"), f"--out={tmp_path / 'out'}"]) == 2
    error = capfd.readouterr().err
    assert says in error and len(error.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_the_callers_mistakes(tmp_path, capfd):
    for more in (["-e", "@/etc/passwd"], ["--serial=0"], ["--serial=a"], ["--launches=1"]):
        assert cli.execute(["fleet", "run", "-i", "x,", *more]) == 2
        assert len(capfd.readouterr().err.splitlines()) == 1


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
