# SPDX-License-Identifier: MIT
"""What the checks in ci/ share: verdict lines, short runs of the tools, and a look at a process's descendants.

A check prints one line per fact, "PASS what", "FAIL what: why" or "SKIP what: why", and exits 0 or 1; `refhv test`
counts those lines.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refhv import child, paths, record

DEFAULT_TARGETS = ("bochs-intel", "qemu-amd")
EMULATED_TARGETS = ("bochs-intel", "bochs-amd", "qemu-amd")
TWO_CPU_TARGETS = ("bochs-intel-smp", "bochs-amd-smp", "qemu-amd-smp")


class Check:
    """Collects the facts of one script."""

    def __init__(self) -> None:
        self.failed = 0

    def expect(self, good: bool, what: str, why: str = "") -> bool:
        if good:
            print(f"PASS {what}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL {what}" + (f": {why}" if why else ""), flush=True)
        return good

    def skip(self, what: str, why: str) -> None:
        print(f"SKIP {what}: {why}", flush=True)

    def done(self) -> None:
        sys.exit(1 if self.failed else 0)


class CheckError(Exception):
    """A short run did not give what the check needs; one line."""


def refhv(*arguments: str, home: str) -> subprocess.CompletedProcess:
    """Runs the package's command line as a user would, with the tools of this build and an empty home."""
    environment = {k: v for k, v in os.environ.items() if k.startswith("REFHV_")}
    environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "PYTHONPATH": str(paths.TOP / "bindings"),
                    "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-m", "refhv", *arguments], env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=900, check=False)


def measure(target: str, pattern: str, on_event: Callable[[dict[str, Any]], None] = lambda event: None,
            samples: int | None = None, tolerate: tuple[int, ...] = (0, 1)) -> record.Record:
    """One launch of refhv-microbench; its validated record. Raises CheckError."""
    with tempfile.TemporaryDirectory(prefix="refhv-check-") as scratch:
        path, log = Path(scratch, "record.json"), Path(scratch, "log")
        argv = [str(paths.tool("refhv-microbench")), f"--target={target}", f"--record={path}",
                f"--benchmark_filter={pattern}"]
        if samples:
            argv.append(f"--samples={samples}")
        ending = child.watch(argv, log, on_event, silence=60, limit=600)
        if ending.why() or ending.returncode not in tolerate:
            words = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise CheckError(f"refhv-microbench on {target}: {ending.why() or f'code {ending.returncode}'}"
                             + (f"; {words[-1]}" if words else ""))
        try:
            return record.load(path)
        except record.RecordError as error:
            raise CheckError(str(error)) from None


def row(rec: record.Record, name: str) -> dict[str, Any]:
    """One PASS row. Raises CheckError, with the row's own reason where it has no number."""
    for found in rec["benchmarks"]:
        if found["name"] == name:
            if found["verdict"] != "PASS":
                raise CheckError(f"{name} on {rec['target']['name']} is {found['verdict']}: {found['reason']}")
            return found
    raise CheckError(f"{rec['target']['name']} has no row {name}")


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`, itself excluded."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_emulator(pid: int) -> bool:
    return command_name(pid).startswith(("bochs", "qemu"))


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            name = str(link.readlink())
            if name.startswith("socket:["):
                inodes.add(name[8:-1])
    except OSError:
        pass
    return inodes


def reachable_sockets(pids: list[int], net: Path = Path("/proc/self/net")) -> list[str]:
    """Listening TCP and bound UDP sockets of `pids` in this process's network namespace, as `tcp port 5900`."""
    owned = {pid: _socket_inodes(pid) for pid in pids}
    found = []
    for protocol, listening in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        try:
            lines = (net / protocol).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] != listening:
                continue
            for pid, inodes in owned.items():
                if fields[9] in inodes:
                    found.append(f"{command_name(pid)} {protocol} port {int(fields[1].rpartition(':')[2], 16)}")
    return found


def canonical(rec: record.Record) -> str:
    """What must be the same from run to run on an emulator: every measured byte, and nothing of when it was."""
    return json.dumps([{key: row[key] for key in ("name", "verdict", "samples", "part_samples", "stamp_cost", "summary", "parts",
                                                  "slope", "exits")} for row in rec["benchmarks"]], sort_keys=True)
