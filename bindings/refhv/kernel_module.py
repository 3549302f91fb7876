# SPDX-License-Identifier: MIT
"""The Linux module on this machine: built for the running kernel, loaded, unloaded (docs/linux.md)."""

import os
import re
import subprocess
from pathlib import Path

import click

from refhv import paths
from refhv.run import UsageError

DEVICE = Path("/dev/refhv")


def extension(cpuinfo: str) -> str | None:
    """"VMX" or "SVM", by the flags in /proc/cpuinfo; None: neither."""
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.M)
    words = flags[1].split() if flags else []
    return "VMX" if "vmx" in words else "SVM" if "svm" in words else None


def of_this_cpu() -> str | None:
    try:
        return extension(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


def is_loaded() -> bool:
    return Path("/sys/module/refhv").exists()


def obstacle() -> str | None:
    """Why the module cannot be loaded here, and what to do; None: nothing is known against it."""
    release = os.uname().release
    if is_loaded():
        return "the module is loaded already"
    if of_this_cpu() is None:
        return f"this CPU offers neither VMX nor SVM ({paths.COMMAND} doctor says more)"
    for name in ("kvm_intel", "kvm_amd"):
        if Path("/sys/module", name).exists():
            return f"KVM has this machine's virtualization: end its VMs, then modprobe -r {name}"
    if not Path("/lib/modules", release, "build").exists():
        return f"no headers of this kernel: install linux-headers-{release}"
    if os.geteuid() != 0:
        return f"only root loads a module: sudo {paths.COMMAND} load"
    return None


def _do(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"code {done.returncode}"]
        raise UsageError(f"{Path(command[0]).name}: {said[-1]}")


def build() -> Path:
    """refhv.ko for the running kernel. Raises UsageError with the last thing that make said."""
    folder = paths.module_builds() / os.uname().release
    _do("make", "-s", f"-j{os.cpu_count() or 1}", "-C", paths.module_source(), f"BUILD={folder}")
    return folder / "refhv.ko"


def _has_one() -> bool:
    """Whether an installed refhv has had its module built for this kernel, by DKMS."""
    return not paths.IN_SOURCE_TREE and subprocess.run(["modinfo", "refhv"], capture_output=True, check=False).returncode == 0


def load(*parameters: str) -> None:
    """Raises UsageError."""
    if reason := obstacle():
        raise UsageError(reason)
    if _has_one():
        _do("modprobe", "refhv", *parameters)
    else:
        _do("insmod", build(), *parameters)


def unload() -> None:
    """Raises UsageError; a module that a client uses stays."""
    if not is_loaded():
        raise UsageError("the module is not loaded")
    _do("rmmod", "refhv")


def offer(yes: bool, interactive: bool) -> bool:
    """Before a run that names no target: loads the module if that is wanted and possible. True: it is to be unloaded again."""
    found = of_this_cpu()
    if found is None or is_loaded():
        return False
    if reason := obstacle():
        click.echo(f"refhv: this CPU has {found}, which is not measured: {reason}", err=True)
        return False
    what = f"build a kernel module that uses {found} on one CPU, load it, and unload it at the end (docs/linux.md)"
    if not yes and not (interactive and click.confirm(f"refhv can measure {found} here: {what}?", default=False, err=True)):
        if not interactive:
            click.echo(f"refhv: this CPU has {found}, which is not measured: --yes would {what}", err=True)
        return False
    load()
    return True
