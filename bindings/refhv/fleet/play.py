# SPDX-License-Identifier: MIT
"""Ansible as a child: which hosts an inventory has, and a playbook played on some of them, event by event."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from refhv import child, paths
from refhv.fleet.state import FleetError, folder_name, one_line

INVENTORY_SECONDS = 120


@dataclass(frozen=True)
class Event:
    """What the callback ci/fleet/callbacks/refhv_fleet.py says of a task on a host."""

    host: str
    task: str
    state: str
    says: str


def event_of(line: str) -> Event | None:
    """None: the line is none of the callback's, such as a warning."""
    try:
        told = json.loads(line)
        event = Event(**told)
    except (ValueError, TypeError, RecursionError):
        return None
    return event if all(isinstance(value, str) for value in told.values()) else None


def _environment() -> dict[str, str]:
    """The fleet's own configuration, whatever else stands in the user's; its names of hosts, keys and users are the user's ssh's."""
    return os.environ | {"ANSIBLE_CONFIG": str(paths.PLAYBOOKS / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "refhv_fleet",
                         "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PYTHONWARNINGS": "ignore"}


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FleetError(f"{name} is not here: apt install ansible-core")
    return found


def hosts_of(inventory: str, limit: str | None) -> list[str]:
    """Names of the hosts that the inventory has, of those that `limit`, a pattern of Ansible's, takes. Raises FleetError."""
    argv = [_tool("ansible"), "--list-hosts", "-i", inventory, *(["--limit", limit] if limit else []), "all"]
    try:
        done = subprocess.run(argv, env=_environment() | {"ANSIBLE_INVENTORY_UNPARSED_FAILED": "1", "ANSIBLE_STDOUT_CALLBACK": "default"},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INVENTORY_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise FleetError(f"{inventory}: ansible did not list its hosts within {INVENTORY_SECONDS} s") from None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    found = [line.strip() for line in done.stdout.splitlines()[1:] if line.strip()]
    if done.returncode or not found:
        errors = [line for line in said if line.startswith("ERROR")] or [line for line in said if "WARNING" in line]
        raise FleetError(f"{inventory}: no host in it" + (f" ({one_line(errors[0])})" if errors else ""))
    return [folder_name(host) for host in found]


def play(book: str, inventory: str, hosts: Sequence[str], variables: Sequence[str], on_event: Callable[[Event], None]) -> tuple[int, str]:
    """Plays ci/fleet/<book>.yml on these hosts; Ansible's exit code, and its last word that was no event. Whatever is raised ends Ansible,
    and nothing on the hosts. Raises FleetError, OSError.

    variables: arguments of -e.
    """
    last = ""
    with tempfile.TemporaryDirectory(prefix="refhv-") as scratch:
        limit = Path(scratch, "limit")
        limit.write_text("".join(f"{host}\n" for host in hosts))
        argv = [_tool("ansible-playbook"), "-i", inventory, "--limit", f"@{limit}", str(paths.PLAYBOOKS / f"{book}.yml")]
        for one in variables:
            argv += ["-e", one]
        process = subprocess.Popen(argv, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace", start_new_session=True)
        try:
            for line in process.stdout:
                event = event_of(line)
                if event is not None:
                    on_event(event)
                elif line.strip() and "WARNING" not in line:
                    last = one_line(line)
            return process.wait(), last
        except BaseException:
            child.end_session(process)
            raise
        finally:
            process.stdout.close()
