# SPDX-License-Identifier: MIT
"""What can go wrong with targets and guests. Each message is one line."""

from typing import Any


class Error(Exception):
    """Anything that refhv's Python interface says by itself."""


class TargetError(Error):
    """Something about a target."""


class TargetUnusable(TargetError):
    """The target cannot be used here; the message says what to do."""


class BadTargetName(TargetUnusable, ValueError):
    """The name asks for a target that cannot be."""


class TargetMiss(TargetError):
    """The target died, hung or spoke rubbish. The next call starts it afresh, without VMs."""


class TargetClosed(TargetError):
    """Used after close(), or where it has not been opened."""


class GuestGone(TargetError):
    """The guest's VM is no more."""


class Refused(TargetError):
    """The core refused an operation. `outcome` is an Outcome: `unsupported` and `exhausted` are the machine's."""

    outcome: Any = None


class AssemblyError(Error, ValueError):
    """The assembler refused the text. `line` counts from 1 (None: as did not say); `text` is that line."""

    def __init__(self, message: str, line: int | None = None, text: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.text = text


class SampleError(Error):
    """A sample loop did not reach its end."""


class ToolError(Error):
    """A run of claims or benchmarks left no result. `code` is the tool's exit code."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class NativeMissing(Error, ImportError):
    """The native module is not built, or is another interpreter's."""
