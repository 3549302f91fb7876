# SPDX-License-Identifier: MIT
"""What the package says of targets before anything is built, held against the program that knows."""

import subprocess

import pytest

from refhv import paths, targets


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
