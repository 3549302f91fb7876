# SPDX-License-Identifier: MIT
"""Plays the run again until every host is done: a host that was down, hung or rebooted goes on where it was."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from refhv.fleet import archive
from refhv.fleet.play import Event, play
from refhv.fleet.state import Fleet, FleetError, Host, Stands

Say = Callable[[Host], None]


def _told(host: Host, says: str) -> None:
    """The one line of `refhv-fleet-host status`, with whatever a login of that host says before."""
    words = (says.split("\n")[-1]).split()
    if len(words) >= 2 and words[-1].isdecimal():
        host.launches = int(words[-1])
    if len(words) == 3 and words[0] == "done" and words[1].isdecimal():
        host.code = int(words[1])
    elif words and words[0] == "running":
        host.to(Stands.MEASURING)
    else:
        host.to(Stands.FAILED, f"its run has {' '.join(words) or 'not told how it stands'}")


def apply(fleet: Fleet, event: Event) -> Host | None:
    """What an event changes about its host; None if nothing."""
    host = fleet.hosts.get(event.host)
    if host is None or host.stands is Stands.DONE:
        return None
    before = (host.stands, host.says, host.launches)
    if event.task == "reach":
        if event.state != "ok":
            host.to(Stands.UNREACHABLE, event.says)
    elif event.task == "wait" and event.state in ("ok", "again"):
        _told(host, event.says)
    elif event.task == "fetch" and event.state == "ok":
        _fetched(fleet, host)
    elif event.task == "verdict":
        if event.state != "ok" and host.code is None:
            host.says = host.says or event.says
    elif event.state == "unreachable":
        host.to(Stands.UNREACHABLE, f"{event.task}: {event.says}")
    elif event.state == "failed" and event.task != "lost":  # which `wait` has told
        host.to(Stands.FAILED, f"{event.task}: {event.says}")
    elif event.task == "start" and event.state == "ok":
        host.to(Stands.MEASURING)
    return host if (host.stands, host.says, host.launches) != before else None


def _fetched(fleet: Fleet, host: Host) -> None:
    try:
        host.fetched = archive.unpack(fleet.directory / "fetched" / f"{host.name}.tar.gz", fleet.records(host.name))
    except (FleetError, OSError) as error:
        host.to(Stands.FAILED, f"fetch: {error}")
        host.code = None
        return
    if host.code is not None:
        host.to(Stands.DONE)


def measure(fleet: Fleet, variables: Sequence[str], wait: float, patience: int, say: Say) -> None:
    """Plays run.yml on the hosts that are left, and again after `wait` seconds, until none is left or `patience` rounds in a row have
    finished none. Raises as play.play does."""
    (fleet.directory / "fetched").mkdir(exist_ok=True)
    idle = 0

    def on_event(event: Event) -> None:
        changed = apply(fleet, event)
        if changed is not None:
            fleet.write()
            say(changed)

    while left := fleet.left():
        code, last = play("run", fleet.inventory, left, variables, on_event)
        if code and all(fleet.hosts[name].stands is Stands.LEFT for name in left) and last:
            raise FleetError(f"ansible-playbook ended with code {code}: {last}")
        idle = idle + 1 if len(fleet.left()) == len(left) else 0
        if not fleet.left() or idle >= patience:
            break
        time.sleep(wait)
    fleet.write()


def vars_file(directory: Path) -> Path:
    return directory / "vars.json"
