# SPDX-License-Identifier: MIT
"""Files that refhv leaves behind: whole, or as they were. Every error names its path, and `mend` what to do."""

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Made = TypeVar("Made")

_MENDS = {
    errno.ENOSPC: "free space there, or name another folder",
    errno.EDQUOT: "free space there, or name another folder",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EACCES: "make it writable for this user, or name another folder",
    errno.EPERM: "make it writable for this user, or name another folder",
    errno.EROFS: "name a folder that is not read-only",
    errno.ENOENT: "name another folder",
    errno.ENOTDIR: "name a folder",
    errno.EEXIST: "name a folder",
}


def stem(target: str) -> str:
    """What the files of a target are called: its name; where that is a form, what of it is safe in a path, and a hash of it."""
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", target):
        return target
    safe = re.sub(r"[^A-Za-z0-9]+", "-", target).strip("-")[:60]
    return f"{safe}-{hashlib.sha256(target.encode(errors='surrogateescape')).hexdigest()[:8]}"


def told(error: OSError) -> str:
    """One line: the path, the system's reason, what to do."""
    if error.filename is None and error.errno == errno.ENOENT:
        return f"{error.strerror}; free space there, or set TMPDIR"  # in the words of `tempfile`, which name the folders
    mend = _MENDS.get(error.errno or 0)
    return f"{error.filename or 'standard output'}: {error.strerror or error}" + (f"; {mend}" if mend else "")


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of a write do not know their file; within this they do."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def write_whole(path: Path, text: str) -> None:
    """Writes beside the file and renames; leaves nothing beside it. Raises OSError."""
    fresh = path.with_name(f".{path.name}")
    try:
        with named(path):
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def load_state(path: Path, version: int, what: str, make: Callable[[dict[str, Any]], Made], error: type[Exception]) -> Made:
    """What `make` makes of the JSON object of a run that goes on, which names its version. Raises `error`, one line, with `what` in it:
    "a run of a fleet"."""
    try:
        whole = json.loads(path.read_text())
        if whole["version"] == version:
            return make(whole)
        raise error(f"{path}: version {whole['version']} of {what}, and this refhv knows {version}")
    except FileNotFoundError:
        raise error(f"{path.parent}: no {path.name} in it, so it is not {what}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise error(f"{path}: not {what}, or cut short") from None


def expect_folder(path: Path) -> None:
    """Raises OSError if no folder can be made there; leaves none that was not there."""
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".refhv-", dir=nearest))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
