# SPDX-License-Identifier: MIT
"""The part of a pip installation that CMake does: pyproject.toml has the rest."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

TOP = Path(__file__).resolve().parent
TARGETS = ("refhv_python", "refhv_package", "refhv-microbench", "refhv-conformance", "refhv-self", "refhv_image", "refhv_iso")


class CMakeBuild(build_py):
    """Takes the package as `cmake --install` lays it out, in place of the sources alone."""

    def run(self) -> None:
        build = Path(os.environ.get("REFHV_BUILD_DIR", TOP / "build"))
        if not (build / "CMakeCache.txt").is_file():
            subprocess.run(["cmake", "--preset", "default", "-B", str(build)], cwd=TOP, check=True)
        subprocess.run(["cmake", "--build", str(build), "--target", *TARGETS], check=True)
        with tempfile.TemporaryDirectory(prefix="refhv-") as scratch:
            subprocess.run(["cmake", "--install", str(build), "--component", "python", "--strip", "--prefix", scratch], check=True,
                           stdout=subprocess.DEVNULL)
            found = next(Path(scratch).rglob("refhv/__init__.py")).parent
            suffix = sysconfig.get_config_var("EXT_SUFFIX")
            if not (found / f"_native{suffix}").is_file():
                sys.exit(f"setup.py: the module in {build} is not for this Python ({sys.executable}): use /usr/bin/python3 -m pip, or "
                         "configure the build with -DPython_EXECUTABLE=")
            shutil.copytree(found, Path(self.build_lib) / "refhv", dirs_exist_ok=True)


class Binary(Distribution):
    def has_ext_modules(self) -> bool:
        return True


scratch = TOP / "build" / "pip"  # nothing of setuptools' own stands among the sources
scratch.mkdir(parents=True, exist_ok=True)
setup(cmdclass={"build_py": CMakeBuild}, distclass=Binary,
      options={"egg_info": {"egg_base": str(scratch)}, "build": {"build_base": str(scratch)}})
