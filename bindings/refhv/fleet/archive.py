# SPDX-License-Identifier: MIT
"""What a host has sent: its records as a tar file. The host may be anybody's, so only plain files of plain names are taken."""

import re
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from refhv import record
from refhv.fleet.state import FleetError

MOST_FILES, MOST_BYTES = 100_000, 8 << 30
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def _place(member: tarfile.TarInfo) -> Path:
    """Where a member goes: without `out/`, and the log beside. Raises FleetError."""
    parts = PurePosixPath(member.name).parts
    if not (member.isfile() or member.isdir()) or not all(_PLAIN.fullmatch(part) for part in parts) or not 1 <= len(parts) <= 6:
        raise FleetError(f"{member.name!r:.80} in it is no plain file")
    return Path(*(parts[1:] if parts[0] == "out" else parts))


def unpack(archive: Path, folder: Path) -> int:
    """Makes `folder` hold what the archive does, in place of what it held; the number of launches that ended. Raises FleetError, OSError; the
    folder is then as it was."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _unpack(archive, fresh)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise FleetError(f"{archive}: no archive, or cut short ({error})") from None
    except FleetError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise FleetError(f"{archive}: {error}") from None
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return len(list(folder.glob("*/launch-*/run.json")))


def _unpack(archive: Path, fresh: Path) -> None:
    count = size = 0
    fresh.mkdir(parents=True)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            place = fresh / _place(member)
            count, size = count + 1, size + member.size
            if count > MOST_FILES or size > MOST_BYTES or member.size > record.MOST_BYTES:
                raise FleetError(f"more in it than {MOST_FILES} files of {record.MOST_BYTES >> 20} MBytes, or {MOST_BYTES >> 30} GBytes")
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, place.open("xb") as sink:
                shutil.copyfileobj(source, sink)
