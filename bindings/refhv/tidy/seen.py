# SPDX-License-Identifier: MIT
"""What clang-tidy has found clean, by content: one file of JSON, which holds no more than the units of one tree.

It stands in the user's cache and names files relative to the tree, so that a fresh clone of the same content is known too.
A unit is known if clang-tidy, its configuration and the flags are the same, and every file that the compiler read for it, the
headers of packages too, has the content that it had.
"""

import hashlib
import json
import os
from pathlib import Path

from refhv.tidy.units import Source, Unit


_TOP = "{top}"


def default_path() -> Path:
    """$XDG_CACHE_HOME/refhv/tidy.json."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "refhv", "tidy.json")


class Seen:
    def __init__(self, path: Path, tool: str, top: Path) -> None:
        """tool: all that the verdict depends on beside flags and sources: versions, configuration. top: of the tree."""
        self._path, self._tool, self._top = path, tool, str(top)
        self._hashes: dict[str, str | None] = {}
        self._clean: list[dict] = []
        try:
            before = json.loads(path.read_text())
            self._before = list(before["units"]) if before["tool"] == tool else []
        except (OSError, ValueError, KeyError, TypeError):
            self._before = []

    def _told(self, text: str) -> str:
        return text.replace(self._top, _TOP)

    def _found(self, text: str) -> str:
        return text.replace(_TOP, self._top)

    def _hash(self, path: str) -> str | None:
        if path not in self._hashes:
            try:
                self._hashes[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            except OSError:
                self._hashes[path] = None
        return self._hashes[path]

    def _holds(self, entry: dict) -> bool:
        return all(value is not None and self._hash(self._found(path)) == value for path, value in entry["files"].items())

    def known(self, sources: list[Source]) -> set[Source]:
        """Those that stand in a unit which is known to be clean."""
        there = set(sources)
        found: set[Source] = set()
        for entry in self._before:
            of = {Source(Path(self._found(path)), tuple(map(self._found, entry["flags"]))) for path in entry["sources"]}
            if of <= there and self._holds(entry):
                found |= of
                self._clean.append(entry)
        return found

    def add(self, unit: Unit, read: list[str]) -> None:
        """A clean unit. read: the files that the compiler read for it, absolute."""
        files = sorted({*read, *(str(one.path) for one in unit.sources)})
        self._clean.append({"sources": [self._told(str(one.path)) for one in unit.sources],
                            "flags": [self._told(flag) for flag in unit.sources[0].flags],
                            "files": {self._told(path): self._hash(path) for path in files}})

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({"tool": self._tool, "units": self._clean}))
        new.replace(self._path)
