# SPDX-License-Identifier: MIT
"""./suite with stand-ins for the programs it calls: what it installs, what it says, what it exits with."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from refhv import signals

SUITE = Path(__file__).resolve().parents[2] / "suite"
CI = SUITE.parent / "ci"
RUN, TEST = ([line for line in (CI / name).read_text().splitlines() if line and line[0] != "#"]
             for name in ("packages.txt", "packages-test.txt"))

VERBS = ["run", "test", "report", "compare", "picture", "gate", "selftest", "index", "trend", "targets", "doctor", "fmt"]


@pytest.fixture
def tree(tmp_path):
    """A copy of what ./suite itself needs, and a bin directory for stand-ins."""
    top = tmp_path / "top"
    (top / "ci").mkdir(parents=True)
    (top / "bindings" / "refhv").mkdir(parents=True)
    (top / "suite").write_bytes(SUITE.read_bytes())
    (top / "suite").chmod(0o755)
    (top / "ci" / "packages.txt").write_text("# comment\n\nalpha\nbeta\n")
    (top / "ci" / "packages-test.txt").write_text("# comment\nold-13 | gamma-14 | gamma-19\n")
    (top / "bindings" / "refhv" / "__main__.py").write_text(
        "import os, sys\nprint('HANDED' if not os.environ.get('REFHV_PARSE_ONLY') else 'PARSED', *sys.argv[1:])\n"
        "sys.exit(7 if '--bogus' in sys.argv else 0)\n")
    (top / "bindings" / "refhv" / "__init__.py").write_text("")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "readlink", "grep", "comm", "sort", "sed", "mkdir", "env", "cat", "find", "stat", "tail", "df",
                 "sleep", "id"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    stand_in(programs, apt_cache=OFFERED)
    return top, programs


# What apt offers: all but old-*.
OFFERED = "[[ $2 == old* ]] || echo '  Candidate: 1.0'"


def stand_in(programs, **scripts):
    for name, script in scripts.items():
        path = programs / name.replace("_", "-")
        path.unlink(missing_ok=True)  # it may be a link to the real program,
        with open(path, "x") as file:  # which must never be written through
            file.write(f'#!/usr/bin/bash\necho "{path.name} $*" >>"{programs}/calls"\n{script}\n')
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


def test_beside_a_document_progress_stands_on_standard_error(tree):
    stand_in(tree[1], dpkg_query=ALPHA, cmake="", id="echo 0", apt_get="")
    done, _ = call(tree, "doctor", "--json")
    assert done.returncode == 0 and done.stdout == "PARSED doctor --json\nHANDED doctor --json\n"
    assert "suite: installing" in done.stderr and "suite: building" in done.stderr


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
    assert calls == ""


def test_on_a_new_machine_it_costs_the_packages_but_no_build(tree):
    top = tree[0]
    (top / "suite").write_text((top / "suite").read_text().replace("python=/usr/bin/python3", f"python={top}/python"))
    stand_in(tree[1], dpkg_query=ALPHA, cmake="", id="echo 0", apt_get=f"/usr/bin/ln -sf /usr/bin/python3 {top}/python")
    done, calls = call(tree, "run", "--bogus")
    assert done.returncode == 7
    assert "apt-get install" in calls and "cmake" not in calls


@pytest.mark.parametrize("arguments", [["frobnicate"], []])
def test_unknown_verb(tree, arguments):
    done, calls = call(tree, *arguments)
    assert done.returncode == 2 and calls == ""
    if arguments:
        assert done.stderr.count("\n") == 1 and "frobnicate" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_installs_nothing(tree, arguments):
    done, calls = call(tree, *arguments)
    assert done.returncode == 0 and "exit codes" in done.stdout and calls == ""
    assert all(f"./suite {verb}" in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_is_its_own(tree, verb):
    done, calls = call(tree, verb, "--help")
    assert done.returncode == 0 and calls == ""
    assert done.stdout == (f"HANDED {verb} --help\n" if verb != "fmt" else options_of("fmt"))
    (tree[0] / "suite").write_text((tree[0] / "suite").read_text().replace("/usr/bin/python3", "/nonexistent"))
    done, calls = call(tree, verb, "-h")  # before anything is installed
    assert done.returncode == 0 and calls == ""
    assert done.stdout.startswith(options_of(verb))
    assert all(f"./suite {other}" not in done.stdout.partition("(")[0] for other in VERBS if other != verb)


def test_help_of_an_unknown_verb(tree):
    done, _ = call(tree, "frobnicate", "--help")
    assert done.returncode == 2 and "frobnicate" in done.stderr


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "fmt"])
def test_the_short_help_names_every_option(verb):
    from refhv import cli

    names = set()
    for parameter in cli.cli.commands[verb].params:
        names |= {*parameter.opts, *parameter.secondary_opts} if parameter.param_type_name == "option" else \
            {parameter.make_metavar().strip(".[]")}
    words = set(re.findall(r"--[a-z-]+|\b[A-Z]{3,}\b", options_of(verb).partition("  ")[0].replace("REGEX", "")
                           + " ".join(line.partition("    measure")[0] for line in options_of(verb).splitlines()[1:])))
    assert {name for name in words if name not in ("DIR", "FILE")} == names


def options_of(verb):
    """What ./suite itself knows of a verb."""
    body = SUITE.read_text().partition(f"    {verb}) cat <<'TEXT' ;;\n")[2]
    return body.partition("TEXT\n")[0]


def cache(tree, home):
    (tree[0] / "build").mkdir()
    (tree[0] / "build" / "CMakeCache.txt").write_text(f"// x\nCMAKE_HOME_DIRECTORY:INTERNAL={home}\n")


def test_a_checkout_that_has_moved_is_one_line(tree):
    stand_in(tree[1], dpkg_query=BOTH, cmake="")
    cache(tree, "/where/it/was")
    done, calls = call(tree, "run")
    folder = tree[0] / "build"
    assert done.returncode == 2 and calls == ""
    assert done.stderr == (f"suite: {folder} was made for /where/it/was, and this is {tree[0]}: remove it (rm -r {folder}), "
                           "and it is made anew\n")


def test_a_checkout_behind_a_link_has_not_moved(tree, tmp_path):
    stand_in(tree[1], dpkg_query=BOTH, cmake="")
    (tmp_path / "link").symlink_to(tree[0])
    cache(tree, tmp_path / "link")
    assert call(tree, "run")[0].returncode == 0


OTHER_USER = 65534  # nobody


@pytest.mark.skipif(os.geteuid() != 0, reason="takes two users")
@pytest.mark.parametrize("foreign", ["build", "build/CMakeCache.txt"])
def test_a_build_folder_of_somebody_else_is_one_line(tree, foreign):
    stand_in(tree[1], dpkg_query=BOTH, cmake="")
    cache(tree, tree[0])
    with tempfile.TemporaryDirectory() as place:  # which the other user can enter
        os.chmod(place, 0o755)
        top, programs = (shutil.copytree(each, f"{place}/{each.name}", symlinks=True) for each in tree)
        cache_file = Path(top, "build", "CMakeCache.txt")
        cache_file.write_text(cache_file.read_text().replace(str(tree[0]), top))
        for each in Path(top, "build", "CMakeCache.txt"), Path(top, "build"), Path(top), Path(programs):
            if each != Path(top, foreign):
                os.chown(each, OTHER_USER, OTHER_USER)
        done = subprocess.run([f"{top}/suite", "run"], env={"PATH": programs}, text=True, capture_output=True, cwd="/",
                              user=OTHER_USER, group=OTHER_USER, extra_groups=[], timeout=60, check=False)
        assert done.returncode == 2 and not Path(programs, "calls").exists()
        assert done.stderr == (f"suite: {top}/{foreign} belongs to root and cannot be written: chown -R nobody {top}/build as "
                               f"root, or remove it (rm -r {top}/build)\n")


def test_a_full_disk_is_said_after_the_build_s_own_words(tree):
    stand_in(tree[1], dpkg_query=BOTH, cmake="echo fatal error: x.o: No space left on device; exit 1",
             df="echo Avail; echo 1024")
    done, _ = call(tree, "run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (f"suite: {tree[0]}/build: its disk is full (1 MBytes left); free some space, and "
                                            "run again")


@pytest.mark.parametrize("number", signals.ENDING, ids=lambda n: n.name)
def test_a_signal_ends_the_build_and_all_below_it(tree, number):
    stand_in(tree[1], dpkg_query=BOTH, cmake="sleep 1000 & echo $! >$0.pid; wait")
    top, programs = tree
    process = subprocess.Popen([str(top / "suite"), "run"], env={"PATH": str(programs)}, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True)
    pid = programs / "cmake.pid"
    until = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert error == f"suite: ended by {number.name}; the next build goes on from there\n"
    until = time.monotonic() + 10  # its new parent has to collect it
    while os.path.exists(f"/proc/{pid.read_text().strip()}") and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid.read_text().strip()}")


def test_runs_from_any_folder(tree, tmp_path):
    stand_in(tree[1], dpkg_query=BOTH, cmake="")
    link = tmp_path / "elsewhere"
    link.symlink_to(tree[0] / "suite")
    done = subprocess.run([str(link), "targets"], cwd="/", env={"PATH": str(tree[1])}, text=True, capture_output=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and "HANDED targets" in done.stdout


INSTALLS = dict(cmake="", id="echo 0", apt_get="")


def installed(calls):
    return next(line.partition("recommends ")[2] for line in calls.splitlines() if line.startswith("apt-get install"))


def test_a_run_brings_none_of_the_packages_of_tests(tree):
    stand_in(tree[1], dpkg_query="exit 1", **INSTALLS)
    assert installed(call(tree, "run")[1]) == "alpha beta"


def test_tests_bring_their_own_and_the_first_alternative_that_is_offered(tree):
    stand_in(tree[1], dpkg_query="exit 1", **INSTALLS)
    done, calls = call(tree, "test")
    assert done.returncode == 0 and installed(calls) == "alpha beta gamma-14"


def test_one_alternative_that_is_installed_is_enough(tree):
    stand_in(tree[1], dpkg_query=f"{BOTH}; echo 'gamma-19 installed'", **INSTALLS)
    assert "apt-get" not in call(tree, "test")[1]


def test_what_apt_does_not_offer_is_named_after_an_update(tree):
    stand_in(tree[1], dpkg_query=BOTH, apt_cache="[[ $2 == old* || $2 == gamma* ]] || echo '  Candidate: 1.0'", **INSTALLS)
    done, calls = call(tree, "test")
    assert done.returncode == 2 and "apt-get update" in calls and "apt-get install" not in calls
    assert done.stderr.count("\n") == 1 and "old-13 or gamma-14 or gamma-19" in done.stderr


def test_what_can_be_updated_is_offered_then(tree):
    there = tree[1] / "there"
    stand_in(tree[1], dpkg_query=ALPHA, apt_cache=f"[[ -e {there} ]] && echo '  Candidate: 1.0'", cmake="", id="echo 0",
             apt_get=f"[[ $1 == update ]] && echo >{there}; true")
    done, calls = call(tree, "run")
    assert done.returncode == 0 and installed(calls) == "beta"


def test_a_package_that_cannot_be_installed_is_named_and_the_others_are_not(tree):
    stand_in(tree[1], dpkg_query="exit 1", cmake="", id="echo 0", apt_get='[[ "$*" != *beta* ]] || exit 100')
    done, _ = call(tree, "run")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot install beta " in done.stderr and "alpha" not in done.stderr


def test_the_lists_are_sorted_apart_and_known_here():
    assert RUN == sorted(RUN) and TEST == sorted(TEST) and not set(RUN) & set(TEST)
    for line in (*RUN, *TEST):
        answer = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Status}\n", *line.split(" | ")], capture_output=True, text=True,
                                check=False)
        assert "installed" in answer.stdout.split(), line
    assert os.access(SUITE, os.X_OK)
