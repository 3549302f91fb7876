# SPDX-License-Identifier: MIT
"""The manuals' names for fields and MSRs: VMCS fields (SDM 3D appendix B), VMCB fields (APM 2 appendix B), MSRs (SDM 4).

Names are taken as the manual writes them or as the contract's headers do: "Guest RIP", "guest_rip", "EXITINFO1",
"IA32_VMX_BASIC". Case, blanks, hyphens and underscores do not count.
"""

import difflib
import functools
import operator
import re
from collections.abc import Mapping
from typing import TypeVar

from refhv import native

Found = TypeVar("Found")

SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")


# The manual's words that the headers write shorter.
_SHORTER = (("primary", ""), ("vmexecution", ""), ("secondaryprocessorbased", "secondary"), ("processorbased", "procbased"),
            ("accessrights", "rights"), ("idtvectoring", "vectoring"), ("information", "info"))


def plain(name: str) -> str:
    """What counts in a name."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    for long, short in _SHORTER:
        letters = letters.replace(long, short)
    return re.sub(r"^(vm(?=exit|entry)|ia32)", "", letters)


@functools.cache
def vmcs() -> dict[str, int]:
    """Encodings by name. What the SDM has for each segment or PDPTE is there for each."""
    fields = {word.name: int(word) for word in native.load().VmcsField}
    for kind in ("limit", "rights", "base"):  # 2 apart, in the order of the selectors
        for number, segment in enumerate(SEGMENTS):
            fields[f"guest_{segment}_{kind}"] = fields[f"guest_es_{kind}"] + 2 * number
    for number in range(4):
        fields[f"guest_pdpte{number}"] = fields["guest_pdpte0"] + 2 * number
    return fields


@functools.cache
def vmcb() -> dict[str, tuple[int, int]]:
    """Offsets and widths in bytes by name; of segments as cs_selector, cs_attributes, cs_limit, cs_base."""
    found: dict[str, tuple[int, int]] = native.load().vmcb_fields()
    return found


@functools.cache
def msrs() -> dict[str, int]:
    return {word.name: int(word) for word in native.load().Msr}


def _find(name: object, table: Mapping[str, Found], what: str) -> Found | int:
    if not isinstance(name, str):
        try:
            return operator.index(name)  # type: ignore[arg-type]  # what has no index is the caller's error, said below
        except TypeError:
            raise TypeError(f"{what} is named by a text or a number, not {type(name).__name__}") from None
    wanted = plain(name)
    for known, value in table.items():
        if plain(known) == wanted:
            return value
    near = difflib.get_close_matches(wanted, list(map(plain, table)), n=3)
    words = [known for one in near for known in table if plain(known) == one]
    raise KeyError(f"no {what} is called {name[:60]!r}" + (f"; did you mean {', '.join(map(repr, words))}?" if words else ""))


def vmcs_field(name: object) -> int:
    """The encoding. Raises KeyError with names that are near."""
    return int(_find(name, vmcs(), "VMCS field"))


def vmcb_field(name: object) -> tuple[int, int]:
    """Offset and width. Raises KeyError with names that are near."""
    found = _find(name, vmcb(), "VMCB field")
    return found if isinstance(found, tuple) else (found, 8)


def msr(name: object) -> int:
    """The number. Raises KeyError with names that are near."""
    return int(_find(name, msrs(), "MSR"))
