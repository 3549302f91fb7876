# SPDX-License-Identifier: MIT
"""Guest code from assembler text, through binutils' `as` and `ld` (Debian package binutils)."""

import functools
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from refhv import native
from refhv.errors import AssemblyError

MOST_TEXT = 1 << 20  # characters
MOST_CODE = 1 << 24  # bytes
SECONDS = 30
_WHERE = re.compile(r"^(?:\{standard input\}|<stdin>):(\d+): (?:Error|Fatal error|Warning): (.*)$", re.M)


def _run(argv: list[str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
                              stdin=subprocess.DEVNULL if stdin is None else None)
    except FileNotFoundError:
        raise AssemblyError(f"{argv[0]} is not there: install the Debian package binutils") from None
    except subprocess.TimeoutExpired:
        raise AssemblyError(f"{Path(argv[0]).name} was not done after {SECONDS} s") from None


def _fault(program: str, said: str, text: str) -> AssemblyError:
    """The first line that says where; what `as` says is kept as it is."""
    if found := _WHERE.search(said):
        number = int(found[1])
        lines = text.split("\n")
        line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        return AssemblyError(f"line {number}: {found[2]}: {line[:200]}", number, line)
    words = [line.strip() for line in said.splitlines() if line.strip()]
    word = next((re.sub(r"^.*?(?=undefined reference)", "", one) for one in words if "undefined reference" in one), words[-1] if words else "no word")
    return AssemblyError(f"{program}: {word[:300]}")


@functools.cache
def symbols() -> dict[str, int]:
    """Names of the guest's layout, for assembler text: REFHV_ARENA and the like (refhv.Layout)."""
    return {f"REFHV_{word.name.upper()}": int(word) for word in native.load().Layout}


def assemble(text: str, *, origin: int | None = None, intel: bool = False, define: Mapping[str, int] | None = None) -> bytes:
    """Machine code of 64-bit assembler text.

    text: AT&T syntax as `as` takes it, or Intel syntax without prefixes. The names of refhv.Layout are defined (REFHV_ARENA).
    origin: the address at which it will run; Layout.code if None.
    define: further names and their values.
    Raises AssemblyError with the line.
    """
    if not isinstance(text, str):
        raise TypeError(f"assembler text is a str, not {type(text).__name__}")
    if "\0" in text:
        raise AssemblyError("the text has a NUL character")
    if len(text) > MOST_TEXT:
        raise AssemblyError(f"the text has {len(text)} characters, and may have {MOST_TEXT}")
    layout = native.load().Layout
    start = int(layout.code) if origin is None else int(origin)
    return _assemble(text, start, intel, tuple((symbols() | dict(define or {})).items()))


@functools.lru_cache(maxsize=256)
def _assemble(text: str, origin: int, intel: bool, names: tuple[tuple[str, int], ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="refhv-as-") as scratch:
        made, flat = Path(scratch, "code.o"), Path(scratch, "code.bin")
        argv = ["as", "--64", "-o", str(made)]
        argv += ["-msyntax=intel", "-mnaked-reg"] if intel else []
        for name, value in names:
            argv += ["--defsym", f"{name}={int(value):#x}"]
        done = _run([*argv, "-"], text + "\n")
        if done.returncode:
            raise _fault("as", done.stderr, text)
        # -N: text and data stand together, not on pages of their own. The entry is where the text begins.
        done = _run(["ld", "-N", "-nostdlib", "--build-id=none", f"-Ttext={origin:#x}", f"--entry={origin:#x}", "--oformat=binary",
                     "-o", str(flat), str(made)])
        if done.returncode:
            raise _fault("ld", done.stderr, text)
        if flat.stat().st_size > MOST_CODE:
            raise AssemblyError(f"the code has {flat.stat().st_size} bytes, and may have {MOST_CODE}")
        return flat.read_bytes()


def sampled(operation: str, setup: str = "", prepare: str = "") -> tuple[str, str]:
    """Two assembler texts: the sample loop of refhv/client/guest/guest.hpp around an operation, and its control, the same without it.

    prepare runs once, setup in each round between the time stamps. Free registers: rax, rcx, rdx, rbx in setup and operation;
    rsi, rdi, rbp, r11, r14, r15 live from prepare to the last round; the others are the loop's.
    """
    loop = native.load().sample_loop  # with @prepare@, @setup@ and @operation@ in it
    text = loop.replace("@prepare@", prepare).replace("@setup@", setup)
    return text.replace("@operation@", operation), text.replace("@operation@", "")
