# SPDX-License-Identifier: MIT
"""Sources that clang-tidy looks at together: the compilation database, cut into units."""

import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

MOST_SOURCES = 24  # of a unit; more save little, and leave the last CPU to work alone

_DROPPED = {"-fpch-preprocess", "-c"}  # and -o with its argument; the compiler's output is not wanted
_GUEST = re.compile(r"^(?:SAMPLED_)?GUEST\((\w+)", re.M)
_TYPE = re.compile(r"^(?:struct|class|enum class|enum|union) (\w+)", re.M)
_OTHER = re.compile(r"^(?!namespace\b|using\b|template\b|TEST|GUEST|SAMPLED_|static_assert|return\b|struct\b|class\b|enum\b|union\b)[A-Za-z_][^\n(={;\[]*?\b(\w+)\s*[(={;\[]", re.M)


def is_long() -> bool:
    """Whether this is the long form of the tests (`./suite test --long`)."""
    return bool(os.environ.get("REFHV_LONG"))


@dataclass(frozen=True)
class Source:
    path: Path
    flags: tuple[str, ...]  # of clang, without what names the source and its object

    @property
    def analyzed(self) -> bool:
        """Tests go without the analyzer: it takes ten times the time to walk through their macros, and finds nothing there.

        Claims are straight lines of such macros: they have it in the long form only.
        """
        path = self.path.as_posix()
        return "conformance/test/" not in path and ("/conformance/" not in path or is_long())

    @property
    def analyzer_flags(self) -> tuple[str, ...]:
        """Rows are such lines too: an eighth of the analyzer's usual bound for one function."""
        straight = any(f"/{room}/" in self.path.as_posix() for room in ("conformance", "microbench"))
        return ("-Xclang", "-analyzer-config", "-Xclang", "max-nodes=28000") if straight and self.analyzed else ()


@dataclass(frozen=True)
class Unit:
    """Sources with the same flags, in one translation unit."""

    sources: tuple[Source, ...]

    def text(self) -> str:
        """All in one file, not included by one: what is not in the main file, several checks leave out."""
        return "".join(f'#line 1 "{one.path}"\n{one.path.read_text()}\n' for one in self.sources)


def _flags(command: str, source: str) -> tuple[str, ...]:
    words = shlex.split(command)
    begin = next(index for index, word in enumerate(words) if Path(word).name.startswith("clang"))
    kept: list[str] = []
    skip = False
    for word in words[begin + 1:]:
        if skip or word in _DROPPED or word == source:
            skip = False
        elif word == "-o":
            skip = True
        else:
            kept.append(word)
    return _settled(_without_pch(kept))


def _settled(words: list[str]) -> tuple[str, ...]:
    """Without what clang-tidy does not look at, and in one order, so that more sources have the same flags."""
    kept = [word for word in words if word != "-fPIC" and not re.fullmatch(r"-O\w|-g\w*", word)]
    free = sorted({word for word in kept if word.startswith(("-D", "-W"))})
    return tuple([word for word in kept if word not in free] + free)


def _without_pch(words: list[str]) -> list[str]:
    """CMake's: `-Xclang -include-pch -Xclang FILE`, `-Xclang -include -Xclang FILE`, `-Winvalid-pch`."""
    kept: list[str] = []
    index = 0
    while index < len(words):
        if words[index] == "-Xclang" and words[index + 1:index + 2] in (["-include-pch"], ["-include"]):
            index += 4
            continue
        if words[index] not in ("-Winvalid-pch", "-fpch-instantiate-templates"):
            kept.append(words[index])
        index += 1
    return kept


def read(database: Path, top: Path) -> list[Source]:
    """The C++ sources of the tree in a compile_commands.json, each once: tests compile some of them again, with stand-ins."""
    found: dict[Path, Source] = {}
    for entry in json.loads(database.read_text()):
        path = Path(entry["directory"], entry["file"])
        if path.suffix == ".cpp" and any(path.is_relative_to(top / room) for room in ("refhv", "microbench", "conformance")):
            source = Source(path, _flags(entry["command"], entry["file"]))
            if path not in found or any("/test/" in flag for flag in found[path].flags):
                found[path] = source
    return [found[path] for path in sorted(found)]


def names(text: str) -> set[str]:
    """What a source seems to define at its outermost level. A guess: who compiles the unit finds out."""
    return {name for pattern in (_GUEST, _TYPE, _OTHER) for name in pattern.findall(text)}


def pack(sources: list[Source], top: Path, most: int = MOST_SOURCES) -> list[Unit]:
    """Units of sources of one room and with the same flags, whose names seem to go together; in the order of the paths."""
    open_units: dict[tuple, list[tuple[list[Source], set[str]]]] = {}
    for source in sources:
        kind = (source.path.relative_to(top).parts[0], source.flags, source.analyzed)
        own = names(source.path.read_text())
        for members, taken in open_units.setdefault(kind, []):
            if len(members) < most and not taken & own and all(one.path != source.path for one in members):
                members.append(source)
                taken |= own
                break
        else:
            open_units[kind].append(([source], own))
    return [Unit(tuple(members)) for of_kind in open_units.values() for members, _ in of_kind]
