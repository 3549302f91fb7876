# SPDX-License-Identifier: MIT
"""fleet.json: which hosts there are, how far each has come, and why one has not come further."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from refhv import files, run

FILE, VERSION = "fleet.json", 1
RECORDS = "hosts"  # folder of folders, one a host


class FleetError(Exception):
    """A fleet's folder, inventory or tool that cannot be used; one line."""


class Stands(Enum):
    """How a host stands. Of DONE only nothing more is to be expected."""

    LEFT = "not tried yet"
    UNREACHABLE = "did not answer"
    MEASURING = "measuring"
    FAILED = "failed"
    DONE = "done"


@dataclass
class Host:
    name: str
    stands: Stands = Stands.LEFT
    says: str = ""  # one line
    code: int | None = None  # of its `refhv run`, once every launch was made
    launches: int = 0
    fetched: int = 0  # launches whose records are here

    def to(self, stands: Stands, says: str = "") -> None:
        self.stands, self.says = stands, one_line(says)


def one_line(text: str) -> str:
    """What a host said, without what would end the line or speak to the terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))[:300]


def folder_name(host: str) -> str:
    """The host's name, which is that of its folder too. Raises FleetError."""
    if not re.fullmatch(r"[A-Za-z0-9_\[][A-Za-z0-9_.:@\[\]-]{0,199}", host):
        raise FleetError(f"{host!r}: a host's name is of letters, digits and _ . : @ - here, for it is a folder's too: give it an alias")
    return host


@dataclass
class Fleet:
    directory: Path
    inventory: str
    hosts: dict[str, Host] = field(default_factory=dict)

    def left(self) -> list[str]:
        return [host.name for host in self.hosts.values() if host.stands is not Stands.DONE]

    def records(self, host: str) -> Path:
        return self.directory / RECORDS / folder_name(host)

    def code(self) -> int:
        """MISS where a host has not made all its launches, else the worst of theirs."""
        codes = {run.MISS if host.code is None or host.stands is not Stands.DONE else host.code for host in self.hosts.values()}
        return next((code for code in (run.MISS, run.FAILED) if code in codes), run.OK)

    def write(self) -> None:
        """Raises OSError."""
        hosts = [dataclasses.asdict(host) | {"stands": host.stands.name} for host in self.hosts.values()]
        whole = {"kind": "refhv fleet", "version": VERSION, "inventory": self.inventory, "hosts": hosts}
        files.write_whole(self.directory / FILE, json.dumps(whole, indent=1) + "\n")


def _host(told: dict[str, Any]) -> Host:
    host = Host(**told | {"stands": Stands[told["stands"]]})
    right = (isinstance(host.name, str) and isinstance(host.says, str) and isinstance(host.code, int | None)
             and all(isinstance(count, int) for count in (host.launches, host.fetched)))
    if not right:
        raise ValueError(host.name)
    folder_name(host.name)
    return host


def load(directory: Path) -> Fleet:
    """Raises FleetError."""
    def make(whole: dict[str, Any]) -> Fleet:
        hosts = [_host(told) for told in whole["hosts"]]
        return Fleet(directory, str(whole["inventory"]), {host.name: host for host in hosts})
    return files.load_state(directory / FILE, VERSION, "a run of a fleet", make, FleetError)
