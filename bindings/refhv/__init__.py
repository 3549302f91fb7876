# SPDX-License-Identifier: MIT
"""refhv from Python: open targets, run guests on them, read records, report.

    import refhv

    with refhv.open("qemu-amd") as t:
        print(t.hello().backend)
        print(t.guest("cpuid").run().exit.reason)

docs/python.md is the reference. Nothing is loaded before it is used: the native module with the first target or the first
of the contract's names, NumPy and pandas with the first array or table.
"""

import importlib
from typing import TYPE_CHECKING, Any

from refhv.errors import (
    AssemblyError,
    BadTargetName,
    Error,
    GuestGone,
    NativeMissing,
    Refused,
    SampleError,
    TargetClosed,
    TargetError,
    TargetMiss,
    TargetUnusable,
    ToolError,
)

if TYPE_CHECKING:
    from refhv._native import *  # noqa: F403
    from refhv.assembler import assemble as assemble, sampled as sampled
    from refhv.frames import Record as Record, load as load, to_record as to_record
    from refhv.guest import Guest as Guest
    from refhv.record import RecordError as RecordError
    from refhv.target import Samples as Samples, Target as Target

__version__ = "0.1.0"

_HOMES = {"Guest": "guest", "Target": "target", "Samples": "target", "assemble": "assembler", "sampled": "assembler",
          "load": "frames", "to_record": "frames", "Record": "frames", "RecordError": "record"}

__all__ = ["AssemblyError", "BadTargetName", "Error", "GuestGone", "NativeMissing", "Refused", "SampleError", "TargetClosed", "TargetError",
           "TargetMiss", "TargetUnusable", "ToolError", "list_targets", "open", *_HOMES]


def open(name: str) -> "Target":  # noqa: A001: refhv.open, as os.open and gzip.open
    """A target by its name or form (docs/targets.md). Raises BadTargetName, TargetUnusable, NativeMissing."""
    from refhv.target import open_target

    return open_target(name)


def list_targets() -> "dict[str, str]":
    """Every target of this build by name; the value says why it cannot be used here, and is empty where it can."""
    from refhv import native

    return {info.name: why for info, why in native.load().targets()}


def __getattr__(name: str) -> Any:
    """What is loaded when it is first asked for: the interface above, and every name of the contract."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"refhv.{_HOMES[name]}"), name)
    if name[:1].isupper():
        from refhv import native

        module = native.load()
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module 'refhv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
