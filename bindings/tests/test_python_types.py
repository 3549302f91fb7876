# SPDX-License-Identifier: MIT
"""What the package offers is typed: it, its module's stubs and a program that uses it pass mypy --strict, and a mistake does not."""

import importlib.util
import shutil
import subprocess
import sys
import types

import pytest

import native_module  # noqa: F401: skips where there is no module
from refhv import paths

MODULES = ("__init__", "assembler", "errors", "frames", "guest", "names", "native", "target", "tools")
PROGRAM = """
import refhv

with refhv.open("self") as t:
    backend: str = t.hello().backend
    guest = t.guest("cpuid", intercepts="cpuid")
    guest.state.rbx = 5
    run = guest.run(rounds=3)
    entries: int = run.entries
    reason: refhv.Reason | int = run.exit.reason
    record = t.run_benchmark("exit.cpuid/user", samples=9)
    names: list[str] = [claim.name for claim in t.check("Self.*")]
    cost: float = t.sample("cpuid").stamp_cost
loaded: refhv.Record = refhv.load("x.json")
why: dict[str, str] = refhv.list_targets()
"""
MISTAKES = {"backend: str = t.hello().backend": "backend: int = t.hello().backend", "guest.state.rbx = 5": "guest.state.rbx = 'five'",
            "entries: int": "entries: str", "names: list[str]": "names: list[int]", "cost: float": "cost: bytes"}


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """mypy --strict of the package and of a program beside it: its lines. The cache is shared."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("no python3-mypy here")
    folder = tmp_path_factory.mktemp("types")
    shutil.copytree(paths.PACKAGES / "refhv", folder / "refhv", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.build_dir() / "python" / "refhv" / "_native.pyi", folder / "refhv")

    def run(program):
        (folder / "program.py").write_text(program)
        sources = [*(f"refhv/{name}.py" for name in MODULES), "refhv/_native.pyi", "program.py"]
        strict = ["--strict", "--no-warn-unused-ignores"]  # what one release's stubs lack another's have
        done = subprocess.run([sys.executable, "-m", "mypy", *strict, "--follow-imports=silent", *sources], cwd=folder, text=True,
                              capture_output=True, timeout=300, check=False)
        return done.stdout.splitlines()
    return run


def test_the_package_and_a_program_are_strict(check):
    assert check(PROGRAM) == [f"Success: no issues found in {len(MODULES) + 2} source files"]


def test_mistakes_of_a_program_are_found(check):
    program = PROGRAM
    for right, wrong in MISTAKES.items():
        assert right in program
        program = program.replace(right, wrong)
    found = check(program)
    assert len([line for line in found if line.startswith("program.py")]) == len(MISTAKES), found


@pytest.mark.parametrize(("name", "kind", "stopped"), [
    ("linux", "module", True), ("serial:/dev/ttyS0", "image", True), ("qemu-amd", "image", False), ("self", "process", False)])
def test_where_there_is_one_machine_for_all_the_target_lets_go_of_it(name, kind, stopped):
    from refhv.target import Target

    said = []
    Target._give_way(types.SimpleNamespace(name=name, info=types.SimpleNamespace(kind=kind), stop=lambda: said.append(name)))
    assert bool(said) == stopped


def test_kinds_of_targets_are_those_of_the_module():
    from refhv import native

    kinds = {info.name: info.kind for info, _ in native.load().targets()}
    assert (kinds["linux"], kinds["self"], kinds["kvm"], kinds["qemu-amd"]) == ("module", "process", "kvm", "image")
