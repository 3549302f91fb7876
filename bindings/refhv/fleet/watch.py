# SPDX-License-Identifier: MIT
"""What a user sees of a fleet: a line whenever a host comes further and, on a terminal, a bar of launches with the time left."""

import json

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from refhv.fleet.state import Fleet, Host, Stands


class Watch:
    def __init__(self, fleet: Fleet, console: Console) -> None:
        self._fleet, self._console = fleet, console
        self._shown: dict[str, tuple[Stands, str]] = {}
        self._bar: Progress | None = None

    def __enter__(self) -> "Watch":
        if self._console.is_terminal:
            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                                 console=self._console, transient=True)
            self._task = self._bar.add_task("hosts", total=len(self._fleet.hosts))
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, host: Host) -> None:
        measured = sum(one.launches for one in self._fleet.hosts.values())
        done = sum(one.stands is Stands.DONE for one in self._fleet.hosts.values())
        if self._bar:
            self._bar.update(self._task, completed=done, description=f"{measured} launches, hosts")
        if self._shown.get(host.name) == (host.stands, host.says):
            return  # only its launches are more: the bar has them
        self._shown[host.name] = (host.stands, host.says)
        self._console.print(Text(f"{host.name}: {words(host)}"), soft_wrap=True)


def words(host: Host) -> str:
    counted = f", {host.fetched} launches fetched" if host.stands is Stands.DONE else f", {host.launches} launches so far" if host.launches else ""
    code = f" with code {host.code}" if host.code else ""
    return f"{host.stands.value}{code}{counted}" + (f": {host.says}" if host.says else "")


def table(fleet: Fleet) -> Table:
    """Who is not done comes first."""
    out = Table(box=None, pad_edge=False)
    for head in ("host", "stands", "launches here", "why"):
        out.add_column(head)
    for host in sorted(fleet.hosts.values(), key=lambda host: host.stands is Stands.DONE):
        code = f" with code {host.code}" if host.code else ""
        out.add_row(Text(host.name), Text(f"{host.stands.value}{code}"), str(host.fetched), Text(host.says))
    return out


def doctor_line(said: str) -> str:
    """Of the doctor's JSON what is not OK."""
    try:
        found = json.loads(said)["findings"]
        return ", ".join(f"{one['state']} {one['name']}" for one in found if one["state"] != "OK")
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the doctor's answer is not to be read"
