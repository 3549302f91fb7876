# SPDX-License-Identifier: MIT
"""Published numbers, for reference lines on hardware plots. Each was read in its source, none is from memory.

All are cycles, and all are of a hypervisor's whole round trip, so they are drawn beside rows that measure an exit to a
hypervisor and nowhere else; never on an emulator's axis.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Anchor:
    exit: str  # the row it belongs to
    low: float  # cycles
    high: float
    what: str
    source: str


ANCHORS = (
    Anchor("exit.cpuid", 1018, 1027, "CPUID, KVM fast path, 2024 CPU (unnamed)",
           "S. Christopherson, KVM mailing list, December 2024"),
    Anchor("exit.cpuid", 1600, 1600, "the same with mitigations on (1600 or more)",
           "S. Christopherson, KVM mailing list, December 2024"),
    Anchor("exit.vmcall", 1600, 1700, "VMCALL, Sandy Bridge-E i7-3960X, patched KVM (95 % of samples)",
           "yshalabi.github.io"),
)


def of(exit_name: str) -> list[Anchor]:
    return [anchor for anchor in ANCHORS if anchor.exit == exit_name]
