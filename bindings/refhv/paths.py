# SPDX-License-Identifier: MIT
"""Where things stand in the source tree."""

import os
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SCHEMA = TOP / "docs" / "record.schema.json"
REPORTS = TOP / "reports"
NOTEBOOK = REPORTS / "compare.ipynb"
TEMPLATES = REPORTS / "templates"
DEPARTURES = TOP / "conformance" / "departures.json"
CI = TOP / "ci"


INSTALLED = Path(__file__).resolve().parent / "bin"  # what `cmake --install --component python` puts beside the package
if INSTALLED.is_dir() and not SCHEMA.is_file():
    SCHEMA = INSTALLED / "record.schema.json"


def build_dir() -> Path:
    """The build tree; REFHV_BUILD_DIR overrides it."""
    return Path(os.environ.get("REFHV_BUILD_DIR", TOP / "build"))


def images() -> Path | None:
    """Where the bootable images are: beside the installed package, else in the build tree; None: nowhere that is known."""
    for place in (INSTALLED, Path(os.environ.get("REFHV_BIN_DIR", build_dir() / "bin"))):
        if (place / "refhv.elf").is_file():
            return place
    return None


class NotBuilt(FileNotFoundError):
    """A program that the build makes is not there; one line with what to do."""


def tool(name: str) -> Path:
    """A built program. Raises NotBuilt."""
    home = INSTALLED if (INSTALLED / name).is_file() else build_dir() / "bin"
    path = Path(os.environ.get("REFHV_BIN_DIR", home)) / name
    if not path.is_file():
        raise NotBuilt(f"{path} is not built: run `./suite run` or `cmake --preset default && "
                       "cmake --build --preset default`")
    return path
