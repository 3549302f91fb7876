# SPDX-License-Identifier: MIT
"""What rows rest on, as every page has it: a row leads to its claims, a claim to its section and to the command that runs it alone."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refhv import identity, paths
from refhv.page import HTML, anchor, escape, folded, link, verdict
from refhv.record import Record
from refhv.table import Line, cell, table

if TYPE_CHECKING:
    from refhv.tables import Run

# Where the manuals of docs/manuals.md are to be had; their makers keep no address for a section.
MANUALS = {"SDM": "https://www.intel.com/sdm", "APM 2": "https://docs.amd.com/v/u/en-US/24593_3.43"}


def claim_command(rec: Record, claim: Mapping[str, Any]) -> str:
    """Runs one claim alone."""
    return shlex.join([_program(), f"--target={rec['target']['name']}", f"--gtest_filter={claim['name']}"])


def row_command(target: str, name: str, mode: str = "") -> str:
    """Runs one row alone, or without `mode` an operation in all of them, with the claims it rests on."""
    pattern = "".join(f"\\{c}" if c in r"\.^$*+?{}[]|()" else c for c in name)
    return shlex.join([paths.COMMAND, "run", f"--target={target}", f"--filter=^{pattern}{f'/{mode}$' if mode else '/'}"])


def _program() -> str:
    return "build/bin/refhv-conformance" if paths.IN_SOURCE_TREE else str(paths.programs() / "refhv-conformance")


def section(words: str | None) -> str:
    """A claim's sections, linked to the manuals they are of."""
    if not words:
        return ""
    manual = next((address for short, address in MANUALS.items() if short in words), None)
    return link(manual, words) if manual else escape(words)


def alone(words: str) -> str:
    """A command, folded."""
    return f"<details><summary>alone</summary><code>{escape(words)}</code></details>"


def claims_of(names: Sequence[str], lost: Mapping[str, str]) -> str:
    """Links to claims of this page; those that did not pass, `lost`, stand outside the fold with finished words."""
    def one(name: str) -> str:
        return link(f"#{anchor('claim', name)}", name) + (f" {lost[name]}" if name in lost else "")
    held = [name for name in names if name not in lost]
    return "<br>".join(map(one, filter(lost.__contains__, names))) + folded(
        f"{len(held)} claims" if len(held) != 1 else "1 claim", "<br>".join(map(one, held)))


def operation(row: Mapping[str, Any]) -> str:
    """A row's name without its mode."""
    return row["name"].rpartition("/")[0]


def to(name: str, words: str) -> str:
    """A link to what an operation rests on, in the table of `rows`; its words as text."""
    return link(f"#{anchor('row', name)}", words)


def rows(run: "Run") -> HTML:
    """A line per operation of the page, by family: the claims it rests on, on whatever machine, and what runs it alone."""
    names: dict[str, dict[str, None]] = {}
    where: dict[str, dict[str, None]] = {}
    lost: dict[str, dict[str, list[str]]] = {}
    for rec in run.records:
        verdicts = {claim["name"]: claim["verdict"] for claim in rec["claims"]}
        for row in rec["benchmarks"]:
            name = operation(row)
            names.setdefault(name, {}).update(dict.fromkeys(row["claims"]))
            where.setdefault(name, {})[rec["target"]["name"]] = None
            for claim in row["claims"]:
                if (word := verdicts.get(claim, "not run")) != "PASS":
                    told = f"{verdict(word)} <small>{escape(identity.title(rec))}</small>"
                    lost.setdefault(name, {}).setdefault(claim, [])
                    lost[name][claim] += [told] if told not in lost[name][claim] else []
    heads = [cell(text, kind, "th") for text, kind in (("row", "sticky"), ("rests on", ""), ("run it", ""))]
    families: dict[str, list[Line]] = {}
    for name, claims in names.items():
        missing = {claim: ", ".join(words) for claim, words in lost.get(name, {}).items()}
        families.setdefault(name.partition(".")[0], []).append(Line([
            cell(escape(name), "name sticky"), cell(claims_of(list(claims), missing) or "no claim", "name"),
            cell(alone(row_command(",".join(where[name]), name)))], anchor("row", name)))
    return HTML("".join(folded(f"{family}: {len(lines)} rows", table([heads], lines, name="basis").data) for family, lines in families.items()))
