# SPDX-License-Identifier: MIT
"""One unit before clang-tidy. What a unit shows is looked for again in its sources one by one: only that counts."""

import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from refhv.tidy.units import Source, Unit, is_long

_ERROR = re.compile(r"^(/[^:\n]+):\d+:\d+: (?:fatal )?error:", re.M)
_FOUND = re.compile(r"^(?P<path>[^:\n]+):\d+:\d+: (?:warning|error): .*$", re.M)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TIDY_SECONDS, _COMPILE_SECONDS = 1200, 600


@dataclass
class Looked:
    """What became of a unit: findings, the files that were read, and sources that do not go together with the others."""

    findings: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    apart: list[Source] = field(default_factory=list)


def _dependencies(text: str) -> list[str]:
    """The files of a make rule that are absolute; a name with a blank does not occur in what we include."""
    return [word for word in text.replace("\\\n", " ").partition(":")[2].split() if word.startswith("/")]


class Looker:
    def __init__(self, top: Path) -> None:
        self._top = top

    def version(self) -> str:
        """All that a verdict depends on beside sources and flags."""
        said = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
        return said + f"long: {is_long()}\n" + (self._top / ".clang-tidy").read_text() + "".join(
            one.read_text() for one in sorted(Path(__file__).parent.glob("*.py")))

    def unit(self, unit: Unit) -> Looked:
        with tempfile.TemporaryDirectory(prefix="refhv-tidy-") as scratch:
            whole = Path(scratch, "unit.cpp")
            whole.write_text(unit.text())
            flags = unit.sources[0].flags
            code, said, read = self._compiles(whole, flags)
            if code and len(unit.sources) > 1:
                named = set(_ERROR.findall(said))
                apart = [one for one in unit.sources if str(one.path) in named] or list(unit.sources)
                # The first one was there before all that it could be at odds with.
                return Looked(apart=apart if len(apart) < len(unit.sources) else list(unit.sources[1:]))
            looked = Looked(read=[path for path in read if path != str(whole)])
            if len(unit.sources) == 1:
                looked.findings = self._tidy(unit.sources[0].path, unit.sources[0])
            elif self._tidy(whole, unit.sources[0]):
                looked.findings = [line for one in unit.sources for line in self._tidy(one.path, one)]
            return looked

    def _compiles(self, path: Path, flags: tuple[str, ...]) -> tuple[int, str, list[str]]:
        rule = path.with_suffix(".d")
        done = subprocess.run(["clang++", *flags, "-fsyntax-only", "-Wno-everything", "-Werror=macro-redefined", "-ferror-limit=0",
                               "-fno-color-diagnostics", "-MD", "-MF", str(rule), str(path)], capture_output=True, text=True,
                              errors="replace", timeout=_COMPILE_SECONDS, check=False)
        return done.returncode, done.stderr, _dependencies(rule.read_text()) if rule.exists() else []

    def _tidy(self, path: Path, source: Source) -> list[str]:
        """The lines that clang-tidy says of our own files, and what does not compile."""
        checks = [] if source.analyzed else ["-checks=-clang-analyzer-*"]
        done = subprocess.run(["clang-tidy", "-quiet", f"--config-file={self._top / '.clang-tidy'}", *checks, str(path), "--", *source.flags,
                               *source.analyzer_flags], capture_output=True, text=True, errors="replace", timeout=_TIDY_SECONDS,
                              check=False)
        said = [match for match in _FOUND.finditer(_COLOUR.sub("", done.stdout))]
        # The analyzer also walks into headers of packages and warns there; that is not ours.
        ours = [match[0] for match in said if match["path"] == str(path) or match["path"].startswith(f"{self._top}/")
                or "clang-diagnostic-error" in match[0]]
        if done.returncode and not said:
            ours.append(f"{path}: clang-tidy ended with code {done.returncode}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
        return list(dict.fromkeys(ours))
