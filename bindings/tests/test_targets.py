# SPDX-License-Identifier: MIT
"""What the package says of targets before anything is built, held against the program that knows."""

import json
import re
import subprocess

import pytest

from refhv import cli, files, paths, run, targets


@pytest.fixture(scope="module")
def tool():
    try:
        return paths.tool("refhv-microbench")
    except paths.NotBuilt as error:
        pytest.skip(str(error))


def test_the_names_are_those_of_the_program(tool):
    assert set(targets.table()) == set(targets.NAMES)
    assert {*targets.ALWAYS, *targets.EMULATED} <= set(targets.NAMES)


def test_the_most_samples_are_those_of_the_program(tool):
    def refusal(samples):
        return subprocess.run([tool, "--target=nosuch", f"--samples={samples}"], capture_output=True, text=True, timeout=60,
                              check=False).stderr

    assert "nosuch" in refusal(targets.MOST_SAMPLES)
    assert "--samples" in refusal(targets.MOST_SAMPLES + 1)
    assert "--samples" in refusal(0)


def test_a_form_keeps_what_is_no_target():
    def choose(names):
        return targets.choose(names, targets.NAMES)

    assert choose("self,qemu:accel=kvm,cpu=host,vmx=on,bochs-amd") == ["self", "qemu:accel=kvm,cpu=host,vmx=on", "bochs-amd"]
    assert choose("serial:/dev/ttyUSB0,115200,time=cycles,unix:/run/x, self") == [
        "serial:/dev/ttyUSB0,115200,time=cycles", "unix:/run/x", "self"]
    assert choose("cmd:vmm -smp 2,sockets=1 {image}") == ["cmd:vmm -smp 2,sockets=1 {image}"]
    with pytest.raises(run.UsageError, match="unknown target 'time=cycles'"):
        choose("self,time=cycles")


def test_files_of_forms_have_safe_and_different_names():
    assert files.stem("qemu-amd-smp") == "qemu-amd-smp"
    names = ["serial:/dev/ttyUSB0", "serial:/dev/ttyUSB0,9600", "serial:/dev/ttyUSB0.9600", "cmd:x '../../etc' {image}", "unix:" + "x" * 500,
             "unix:\udcff"]
    stems = [files.stem(name) for name in names]
    assert len(set(stems)) == len(names)
    for stem in stems:
        assert re.fullmatch(r"[A-Za-z0-9-]{1,80}", stem)


def test_benchmarks_and_claims_are_listed_by_name(tool, capsys):
    assert cli.execute(["list", "--filter=^exit.cpuid/nested$"]) == 0
    assert capsys.readouterr().out == "exit.cpuid/nested\n"
    assert cli.execute(["list", "--claims", "--json", "--filter=^Exit.cpuid_"]) == 0
    assert json.loads(capsys.readouterr().out) == [f"Exit.cpuid_{what}" for what in ("exits_when_intercepted", "obeys_its_intercept", "leaves_state_intact")]
    assert cli.execute(["list", "--filter=("]) == 2
