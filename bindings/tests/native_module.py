# SPDX-License-Identifier: MIT
"""What the tests of the native module share."""

import pytest

from refhv import paths

if not list((paths.build_dir() / "python" / "refhv").glob("_native*.so")):
    pytest.skip("the native module is not built", allow_module_level=True)


def usable(name: str) -> str:
    """The target's name; skips where it cannot be used here."""
    import refhv

    why = refhv.list_targets()[name]
    if why:
        pytest.skip(f"{name}: {why}")
    return name
