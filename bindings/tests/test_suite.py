# SPDX-License-Identifier: MIT
"""./suite with stand-ins for the programs it calls: what it installs, what it says, what it exits with."""

import os
import subprocess
from pathlib import Path

import pytest

SUITE = Path(__file__).resolve().parents[2] / "suite"
PACKAGES = [line for line in (SUITE.parent / "ci" / "packages.txt").read_text().splitlines() if line and line[0] != "#"]


@pytest.fixture
def tree(tmp_path):
    """A copy of what ./suite itself needs, and a bin directory for stand-ins."""
    top = tmp_path / "top"
    (top / "ci").mkdir(parents=True)
    (top / "bindings" / "refhv").mkdir(parents=True)
    (top / "suite").write_bytes(SUITE.read_bytes())
    (top / "suite").chmod(0o755)
    (top / "ci" / "packages.txt").write_text("# comment\n\nalpha\nbeta\n")
    (top / "bindings" / "refhv" / "__main__.py").write_text(
        "import os, sys\nprint('HANDED' if not os.environ.get('REFHV_PARSE_ONLY') else 'PARSED', *sys.argv[1:])\n"
        "sys.exit(7 if '--bogus' in sys.argv else 0)\n")
    (top / "bindings" / "refhv" / "__init__.py").write_text("")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "readlink", "grep", "comm", "sort", "sed", "mkdir", "env", "cat"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    return top, programs


def stand_in(programs, **scripts):
    for name, script in scripts.items():
        path = programs / name.replace("_", "-")
        path.write_text(f'#!/usr/bin/bash\necho "{path.name} $*" >>"{programs}/calls"\n{script}\n')
        path.chmod(0o755)


def call(tree, *arguments):
    top, programs = tree
    done = subprocess.run([str(top / "suite"), *arguments], env={"PATH": str(programs), "HOME": str(top)}, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    calls = programs / "calls"
    return done, calls.read_text() if calls.exists() else ""


BOTH = "echo 'alpha installed'; echo 'beta installed'"
ALPHA = "echo 'alpha installed'; echo 'beta not-installed'; exit 1"


def test_all_installed_builds_and_hands_over(tree):
    stand_in(tree[1], dpkg_query=BOTH, cmake="")
    done, calls = call(tree, "run", "--filter=a b")
    assert done.returncode == 0
    assert "HANDED run --filter=a b" in done.stdout
    assert "cmake --preset default\ncmake --build --preset default\n" in calls
    assert "apt-get" not in calls


def test_missing_as_root_is_said_and_installed(tree):
    stand_in(tree[1], dpkg_query=ALPHA, cmake="", id="echo 0", apt_get="")
    done, calls = call(tree, "run")
    assert done.returncode == 0
    assert "installing with apt-get install --no-install-recommends" in done.stdout and done.stdout.split("\n")[1].endswith(": beta")
    assert "apt-get install -y --no-install-recommends beta\n" in calls


def test_missing_with_sudo(tree):
    stand_in(tree[1], dpkg_query=ALPHA, cmake="", id="echo 1000", apt_get="", sudo='[[ $1 == -n ]] && exit 0; exec "$@"')
    done, calls = call(tree, "run")
    assert done.returncode == 0
    assert "sudo env DEBIAN_FRONTEND=noninteractive apt-get install" in calls


@pytest.mark.parametrize("sudo", [None, "exit 1"])
def test_missing_and_no_rights_is_one_line(tree, sudo):
    stand_in(tree[1], dpkg_query=ALPHA, cmake="", id="echo 1000", apt_get="")
    if sudo:
        stand_in(tree[1], sudo=sudo)
    done, calls = call(tree, "run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.rstrip().endswith(": beta")
    assert "apt-get" not in calls and "cmake" not in calls


def test_an_install_that_fails_is_tried_after_update_then_one_line(tree):
    stand_in(tree[1], dpkg_query=ALPHA, cmake="", id="echo 0", apt_get="echo E: no network; exit 100")
    done, calls = call(tree, "run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "beta" in done.stderr
    assert "apt-get update" in calls and "cmake" not in calls


def test_a_build_that_fails_shows_why(tree):
    stand_in(tree[1], dpkg_query=BOTH, cmake="echo error: no such thing; exit 1")
    done, _ = call(tree, "run")
    assert done.returncode == 2
    assert "error: no such thing" in done.stderr and "the build failed" in done.stderr.splitlines()[-1]
    assert "HANDED" not in done.stdout


def test_a_slip_in_the_options_costs_no_build(tree):
    stand_in(tree[1], dpkg_query=BOTH, cmake="")
    done, calls = call(tree, "run", "--bogus")
    assert done.returncode == 7
    assert "cmake" not in calls


@pytest.mark.parametrize("arguments", [["frobnicate"], []])
def test_unknown_verb(tree, arguments):
    done, calls = call(tree, *arguments)
    assert done.returncode == 2 and calls == ""
    if arguments:
        assert done.stderr.count("\n") == 1 and "frobnicate" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "-h"]])
def test_help_installs_nothing(tree, arguments):
    done, calls = call(tree, *arguments)
    assert done.returncode == 0 and "exit codes" in done.stdout and calls == ""


def test_runs_from_any_folder(tree, tmp_path):
    stand_in(tree[1], dpkg_query=BOTH, cmake="")
    link = tmp_path / "elsewhere"
    link.symlink_to(tree[0] / "suite")
    done = subprocess.run([str(link), "targets"], cwd="/", env={"PATH": str(tree[1])}, text=True, capture_output=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and "HANDED targets" in done.stdout


def test_the_list_is_sorted_and_known_here():
    assert PACKAGES == sorted(PACKAGES, key=str)
    answer = subprocess.run(["dpkg-query", "-W", "-f=${Package}\n", *PACKAGES], capture_output=True, text=True, check=False)
    assert answer.stderr == ""
    assert os.access(SUITE, os.X_OK)
