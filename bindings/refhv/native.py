# SPDX-License-Identifier: MIT
"""Finds the native module, which the package does without until somebody opens a target."""

import contextlib
import functools
import importlib
import sys
from types import ModuleType

from refhv import paths
from refhv.errors import NativeMissing


@functools.cache
def load() -> ModuleType:
    """refhv._native: beside this file, or in the build tree of the source that this file is in. Raises NativeMissing."""
    import refhv

    built = paths.build_dir() / "python" / "refhv"
    if str(built) not in refhv.__path__:
        refhv.__path__.append(str(built))
    try:
        module = importlib.import_module("refhv._native")
    except ImportError as error:
        if getattr(error, "name", None) != "refhv._native":
            raise NativeMissing(f"the native module of refhv cannot be loaded: {error}") from None
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise NativeMissing(f"the native module of refhv is not there for Python {version} ({sys.executable}): build it "
                            "(./suite run, or cmake --preset default && cmake --build --preset default), and use /usr/bin/python3") from None
    images = paths.images()
    if images is not None:
        module.set_image_directory(str(images))
    with contextlib.suppress(paths.NotBuilt):
        module.set_self_server(str(paths.tool("refhv-self")))
    return module
