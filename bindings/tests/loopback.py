# SPDX-License-Identifier: MIT
"""Hosts of a fleet that are all this machine: an sshd each, on a high port of 127.0.0.1, with keys and configuration of its own."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from refhv import paths

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, number)


class Hosts:
    """`names` have a server each; others of an inventory that this writes are down."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self.command = folder, command
        self.ports: dict[str, int] = {}
        self.locks: dict[str, str] = {}
        self._servers: dict[str, subprocess.Popen] = {}
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd asks for, and makes where it is a service

    def add(self, name: str, up: bool = True) -> None:
        self.ports[name] = free_port()
        if up:
            self.start(name)

    def start(self, name: str) -> None:
        config = self.folder / f"{name}.sshd"
        config.write_text(f"Port {self.ports[name]}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nPidFile none\nUsePAM no\n"
                          f"StrictModes no\nAuthorizedKeysFile {self.folder}/authorized\nPasswordAuthentication no\n"
                          "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n")
        self._servers[name] = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=(self.folder / f"{name}.log").open("a"), start_new_session=True)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.ports[name]), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError((self.folder / f"{name}.log").read_text())

    def _family(self, name: str) -> list[int]:
        """The server and all that it has started, which lead sessions of their own."""
        found = [self._servers[name].pid]
        for pid in found:
            told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
            found += [int(one) for one in told.stdout.split()]
        return found

    def kill(self, name: str) -> None:
        """The machine is gone: its server, its connections and, where one is there, its run with all that it has started."""
        pids = self._family(name)
        marked = f"REFHV_LOOPBACK={name}".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and marked in (entry / "environ").read_bytes().split(b"\0"):
                    pids.append(int(entry.name))
            except OSError:
                continue
        _send(pids, signal.SIGKILL)
        self._servers.pop(name).wait()

    def hang(self, name: str) -> None:
        """Takes connections, and answers nothing."""
        _send(self._family(name), signal.SIGSTOP)

    def wake(self, name: str) -> None:
        _send(self._family(name), signal.SIGCONT)

    def cpu_seconds(self, name: str) -> float:
        """CPU time of the server's children that have ended."""
        fields = Path(f"/proc/{self._servers[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def inventory(self) -> Path:
        words = {name: ["env", f"REFHV_LOOPBACK={name}", *self.command] for name in self.ports}
        lines = ["all:", "  hosts:"]
        for name, port in self.ports.items():
            lines += [f"    {name}:", f"      ansible_port: {port}", f"      refhv_fleet_command: {words[name]}",
                      f"      refhv_fleet_home: {self.folder}/home-{name}",
                      f"      refhv_fleet_lock: {self.locks.get(name, self.folder / f'{name}.lock')}"]
        lines += ["  vars:", "    ansible_host: 127.0.0.1", f"    ansible_user: {getpass.getuser()}", "    refhv_fleet_become: false",
                  f"    ansible_ssh_private_key_file: {self.folder}/user",
                  f"    ansible_ssh_common_args: -F none -o UserKnownHostsFile={self.folder}/known -o StrictHostKeyChecking=accept-new"
                  f" -o IdentitiesOnly=yes -o ControlPath={self.folder}/%h-%p"]
        path = self.folder / "hosts.yml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def close(self) -> None:
        for name in list(self._servers):
            self.wake(name)
            self.kill(name)


def build_tree() -> list[str]:
    """refhv of this build tree, as a host's command."""
    return ["env", f"PYTHONPATH={paths.PACKAGES}", f"REFHV_BUILD_DIR={paths.build_dir()}", sys.executable, "-m", "refhv"]
