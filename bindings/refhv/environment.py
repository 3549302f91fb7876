# SPDX-License-Identifier: MIT
"""What a machine was set to while it measured, in words: the fields of a record's environment that bear on its numbers."""

from collections.abc import Callable
from typing import Any

from refhv.identity import Record

NOT_AFFECTED, MITIGATED = "Not affected", "Mitigation"


def _switch(value: bool | None) -> str:
    return "" if value is None else "on" if value else "off"


def _cpu(told: dict[str, Any]) -> str:
    number, siblings = told.get("cpu"), told.get("cpu_siblings")
    if number is None:
        return ""
    return f"{number}" + (f", its core: {siblings}" if siblings and siblings != str(number) else "")


def _mitigations(told: dict[str, Any]) -> str:
    states = told.get("mitigations")
    if not states:
        return ""
    mitigated = sum(state.startswith(MITIGATED) for state in states.values())
    other = [name for name, state in states.items() if not state.startswith((NOT_AFFECTED, MITIGATED))]
    return f"{mitigated} of {len(states)}" + (f"; vulnerable or not clear: {', '.join(other)}" if other else "")


def _pages(told: dict[str, Any]) -> str:
    pages = told.get("huge_pages") or {}
    words = {"transparent": "transparent: {}", "reserved_2m": "{} of 2 MByte", "reserved_1g": "{} of 1 GByte"}
    return ", ".join(form.format(pages[name]) for name, form in words.items() if pages.get(name) is not None)


WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "governor": lambda told: told.get("governor") or "",
    "turbo": lambda told: _switch(told.get("turbo")),
    "SMT": lambda told: _switch(told.get("smt")),
    "CPU used": _cpu,
    "isolated CPUs": lambda told: told.get("isolated") or "",
    "mitigated": _mitigations,
    "huge pages": _pages,
    "clock source": lambda told: told.get("clock_source") or "",
    "load": lambda told: told.get("load_average") or "",
}
FIELDS = ("governor", "turbo", "smt", "cpu", "cpu_siblings", "isolated", "mitigations", "huge_pages", "clock_source", "load_average")


def words(rec: Record) -> dict[str, str]:
    """By what a table calls it; empty where the record does not tell."""
    return {name: say(rec["environment"]) for name, say in WORDS.items()}


def others(rec: Record) -> dict[str, Any]:
    """The rest of the environment: kernel, launcher, versions."""
    return {name: value for name, value in rec["environment"].items() if name not in FIELDS}
