# SPDX-License-Identifier: MIT
"""A fleet: what events make of a host, what a host may send, which of equal machines stands out, what a caller may get wrong. Runs on
hosts: test_fleet_hosts.py."""

import io
import json
import os
import shutil
import subprocess
import tarfile

import fixture_microbench as fixture
import loopback
import numpy
import pytest
import synthetic

from refhv import cli, leaks, paths, report
from refhv.fleet import archive, play, rounds, spread, state, watch

EVIL = "<img src=x onerror=alert(1)>"
ansible = pytest.mark.skipif(not (shutil.which("ansible-playbook") and loopback.SSHD), reason="no ansible-core or openssh-server here")
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
