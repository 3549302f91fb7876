# SPDX-License-Identifier: MIT
"""Where things stand in the source tree."""

import os
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SCHEMA = TOP / "docs" / "record.schema.json"
REPORTS = TOP / "reports"
NOTEBOOK = REPORTS / "compare.ipynb"
COMPARE = REPORTS / "machines.ipynb"
TEMPLATES = REPORTS / "templates"
DEPARTURES = TOP / "conformance" / "departures.json"
CI = TOP / "ci"


def build_dir() -> Path:
    """The build tree; REFHV_BUILD_DIR overrides it."""
    return Path(os.environ.get("REFHV_BUILD_DIR", TOP / "build"))


class NotBuilt(FileNotFoundError):
    """A program that the build makes is not there; one line with what to do."""


def tool(name: str) -> Path:
    """A built program. Raises NotBuilt."""
    path = Path(os.environ.get("REFHV_BIN_DIR", build_dir() / "bin")) / name
    if not path.is_file():
        raise NotBuilt(f"{path} is not built: run `./suite run` or `cmake --preset default && "
                       "cmake --build --preset default`")
    return path
