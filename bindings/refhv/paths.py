# SPDX-License-Identifier: MIT
"""Where things stand: in the source tree; below the prefix of an installed refhv (ci/package/install.cmake); or, installed
by pip, in the package's own folder (bindings/CMakeLists.txt), without the reports and the module's sources."""

import os
from pathlib import Path

_HERE = Path(__file__).resolve()
PACKAGES = _HERE.parents[1]  # what has to be in Python's path
TOP = _HERE.parents[2]
IN_SOURCE_TREE = (TOP / "suite").is_file()
COMMAND = "./suite" if IN_SOURCE_TREE else "refhv"  # as messages call it
_BUNDLE = _HERE.parent / "bin"
PREFIX = _HERE.parents[4]  # of PREFIX/lib/python3/dist-packages/refhv/paths.py; no other layout has one

if IN_SOURCE_TREE:
    SCHEMA = TOP / "docs" / "record.schema.json"
    REPORTS = TOP / "reports"
    DEPARTURES = TOP / "conformance" / "departures.json"
    OUT = TOP / "out"
    PLAYBOOKS = TOP / "ci" / "fleet"
else:
    REPORTS = PREFIX / "share" / "refhv" / "reports"
    SCHEMA = (_BUNDLE if _BUNDLE.is_dir() else REPORTS.parent) / "record.schema.json"
    DEPARTURES = (_BUNDLE if _BUNDLE.is_dir() else PREFIX / "lib" / "refhv") / "departures.json"
    OUT = Path("refhv-out")
    PLAYBOOKS = REPORTS.parent / "fleet"
TEMPLATES = REPORTS / "templates"
CI = TOP / "ci"


def build_dir() -> Path:
    """The build tree; REFHV_BUILD_DIR overrides it."""
    return Path(os.environ.get("REFHV_BUILD_DIR", TOP / "build"))


def programs() -> Path:
    """The folder of the programs and the bootable images; REFHV_BIN_DIR overrides it."""
    return Path(os.environ.get("REFHV_BIN_DIR") or (build_dir() / "bin" if IN_SOURCE_TREE else DEPARTURES.parent))


def images() -> Path | None:
    """Where the bootable images are; None: nowhere that is known."""
    return programs() if (programs() / "refhv.elf").is_file() else None


class NotBuilt(FileNotFoundError):
    """A program that the build makes is not there; one line with what to do."""


def tool(name: str) -> Path:
    """A program of refhv. Raises NotBuilt."""
    path = programs() / name
    if not path.is_file():
        raise NotBuilt(f"{path} is not built: run `./suite run` or `cmake --preset default && "
                       "cmake --build --preset default`" if IN_SOURCE_TREE else
                       f"{path} is not there: install refhv again")
    return path


def module_source() -> Path:
    """The folder of the Linux module's Makefile. Raises NotBuilt."""
    folders = [TOP / "refhv" / "kmod"] if IN_SOURCE_TREE else sorted(PREFIX.glob("src/refhv-*/refhv/kmod"))
    if not folders:
        raise NotBuilt(f"{PREFIX}/src holds no sources of the module: install refhv again")
    return folders[-1]


def module_builds() -> Path:
    """Where modules are built, a folder for each kernel."""
    return build_dir() / "kmod" if IN_SOURCE_TREE else Path("/var/cache/refhv/kmod")
