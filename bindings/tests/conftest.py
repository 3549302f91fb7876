# SPDX-License-Identifier: MIT
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


@pytest.fixture
def fixture_tools(tmp_path, monkeypatch):
    """A bin directory in which the fixture stands for both C++ tools."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("refhv-microbench", "refhv-conformance"):
        (directory / name).symlink_to(HERE / "fixture_microbench.py")
    monkeypatch.setenv("REFHV_BIN_DIR", str(directory))
    return directory
