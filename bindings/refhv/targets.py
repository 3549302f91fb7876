# SPDX-License-Identifier: MIT
"""Which targets there are, as refhv-microbench tells it, and which are the default."""

import subprocess
from collections.abc import Iterable, Mapping

from refhv import paths
from refhv.run import UsageError

ALWAYS = ("self",)
# VMX and SVM of this machine; where they are not to be had the emulated ones stand in for them.
HARDWARE = ("linux", "kvm")
IN_SOFTWARE = "without VMX or SVM"  # of a KVM: not what stands in for hardware
EMULATED = ("bochs-intel", "qemu-amd")
LIST_SECONDS = 60
# What refhv-microbench knows, for whoever asks before it is built: bindings/tests/test_targets.py holds the two together.
NAMES = ("self", "bochs-intel", "bochs-amd", "bochs-intel-smp", "bochs-amd-smp", "qemu-amd", "qemu-amd-smp",
         "qemu-amd-clock", "bochs-intel-tigerlake", "bochs-intel-sapphirerapids", "bochs-intel-arrowlake",
         "linux", "kvm")
FORMS = ("serial:", "unix:", "qemu:", "bochs:", "cmd:")  # names that say what the target is (docs/targets.md)
MOST_SAMPLES = 2000
NOT_USABLE = "not usable"  # how the words for such a target begin


def table() -> dict[str, str]:
    """Target name to its description, with "not usable" before it where it is not. Raises UsageError, FileNotFoundError."""
    tool = paths.tool("refhv-microbench")
    try:
        answer = subprocess.run([tool, "--target=list"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=LIST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(f"{tool} --target=list did not answer within {LIST_SECONDS} s") from None
    lines = [line.split(None, 1) for line in answer.stdout.splitlines() if line.strip()]
    if answer.returncode != 0 or not lines:
        raise UsageError(f"{tool} --target=list failed with code {answer.returncode}: {answer.stderr.strip()[:200]}")
    return {name: rest[0].removeprefix("usable").strip() if rest else "" for name, *rest in lines
            if not name.startswith(FORMS)}


def choose(names: str, known: Iterable[str]) -> list[str]:
    """The targets of a comma-separated list, the default ones for an empty one: by table(), if `known` is that. Raises UsageError."""
    if not names:
        usable = [name for name in HARDWARE if isinstance(known, Mapping) and IN_SOFTWARE not in known.get(name, "")
                  and not known.get(name, NOT_USABLE).startswith(NOT_USABLE)]
        return [*(n for n in ("linux", *ALWAYS, "kvm") if n in ALWAYS or n in usable), *(() if usable else EMULATED)]
    chosen: list[str] = []
    for piece in names.split(","):
        name = piece.strip()
        if name in known or name.startswith(FORMS):
            chosen.append(name)
        elif chosen and chosen[-1].startswith(FORMS):  # qemu:cpu=max,-x2apic: what is no target belongs to the form before it
            chosen[-1] += f",{piece}"
        else:
            raise UsageError(f"unknown target {name!r}; there are {', '.join(known)}, and the forms {', '.join(FORMS)} "
                             "of docs/targets.md")
    return list(dict.fromkeys(chosen))
