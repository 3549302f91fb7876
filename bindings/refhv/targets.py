# SPDX-License-Identifier: MIT
"""Which targets there are, as refhv-microbench tells it, and which are the default."""

import subprocess
from collections.abc import Iterable

from refhv import paths
from refhv.run import UsageError

ALWAYS = ("self",)
# Hardware VMX and SVM targets come first here once they exist; the emulated ones stand in for them.
EMULATED = ("bochs-intel", "qemu-amd")
LIST_SECONDS = 60
# What refhv-microbench knows, for whoever asks before it is built: bindings/tests/test_targets.py holds the two together.
NAMES = ("self", "bochs-intel", "bochs-amd", "bochs-intel-smp", "bochs-amd-smp", "qemu-amd", "qemu-amd-smp",
         "qemu-amd-clock", "bochs-intel-tigerlake", "bochs-intel-sapphirerapids", "bochs-intel-arrowlake")
MOST_SAMPLES = 2000


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
    return {name: rest[0].removeprefix("usable").strip() if rest else "" for name, *rest in lines}


def choose(names: str, known: Iterable[str]) -> list[str]:
    """The targets of a comma-separated list, the default ones for an empty one. Raises UsageError."""
    if not names:
        return [*ALWAYS, *EMULATED]
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in known:
            raise UsageError(f"unknown target {name!r}; there are {', '.join(known)}")
    return list(dict.fromkeys(chosen))
