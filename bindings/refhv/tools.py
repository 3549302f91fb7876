# SPDX-License-Identifier: MIT
"""Claims and benchmarks by name, through the suite's own tools as children."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refhv import child, frames, gtest, paths
from refhv.errors import ToolError

SILENCE_SECONDS, LIMIT_SECONDS = 60, 1800  # as ./suite run has them
Progress = Callable[[dict[str, Any]], None] | None


def _run(tool: str, arguments: list[str], scratch: Path, progress: Progress) -> tuple[int, str]:
    """The tool's exit code and its last word. Raises ToolError where it did not end by itself."""
    log = scratch / "log"
    try:
        ending = child.watch([str(paths.tool(tool)), *arguments], log, progress or (lambda event: None), SILENCE_SECONDS, LIMIT_SECONDS)
    except OSError as error:
        raise ToolError(str(error)) from None
    words = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = words[-1] if words else "no word"
    if why := ending.why():
        raise ToolError(f"{tool}: {why}; {last}")
    return ending.returncode, last


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{what} is a text without NUL characters, not {value!r:.60}")
    return value


def run_benchmark(target: str, name: str, samples: int | None = None, progress: Progress = None) -> frames.Record:
    """One launch of refhv-microbench. Raises ToolError: nothing was measured."""
    pattern = re.escape(_text(name, "a benchmark's name")).replace(r"\*", ".*")
    with tempfile.TemporaryDirectory(prefix="refhv-") as scratch:
        path = Path(scratch, "record.json")
        arguments = [f"--target={target}", f"--record={path}", f"--benchmark_filter=^{pattern}$"]
        if samples is not None:
            arguments.append(f"--samples={int(samples)}")
        code, last = _run("refhv-microbench", arguments, Path(scratch), progress)
        if not path.exists() or not path.stat().st_size:
            raise ToolError(last, code)
        return frames.load(path)


def check(target: str, claims: str, progress: Progress = None) -> list[Any]:
    """One launch of refhv-conformance. Raises ToolError: nothing was checked."""
    with tempfile.TemporaryDirectory(prefix="refhv-") as scratch:
        path = Path(scratch, "claims.xml")
        code, last = _run("refhv-conformance", [f"--target={target}", f"--gtest_filter={_text(claims, 'a pattern of claims')}",
                                                f"--gtest_output=xml:{path}"], Path(scratch), progress)
        if not path.exists() or not path.stat().st_size:
            raise ToolError(last, code)
        try:
            return gtest.read_claims(path)
        except ValueError as error:
            raise ToolError(str(error), code) from None
