# SPDX-License-Identifier: MIT
"""ci/action: the script that other projects' CI runs, with a stand-in for the measuring, and the files around it."""

import json
import os
import re
import shutil
import subprocess

import pytest
import synthetic

from refhv import paths

ACTION = paths.CI / "action"
# Stands in for ./suite: "run" leaves launches as FAKE says, "gate" is the real one.
SUITE = """#!/usr/bin/bash
verb=$1; shift
if [[ $verb == gate ]]; then exec env PYTHONPATH={bindings} /usr/bin/python3 -m refhv gate "$@"; fi
printf '%s\\n' "$@" >{top}/options
for a in "$@"; do [[ $a != --out=* ]] || out=${{a#--out=}}; done
[[ $FAKE != none ]] || exit 2
mkdir -p "$out/x" && cp -r "$FAKE"/. "$out/x/" && ln -s x "$out/latest"
exit ${{FAKE_CODE:-0}}
"""


@pytest.fixture
def action(tmp_path):
    shutil.copytree(ACTION, tmp_path / "ci" / "action")
    (tmp_path / "suite").write_text(SUITE.format(bindings=paths.TOP / "bindings", top=tmp_path))
    (tmp_path / "suite").chmod(0o755)
    for name, first, slower in (("base", 1, {}), ("again", 11, {}), ("slow", 11, {2: 0.06})):
        synthetic.write(tmp_path / name, range(first, first + 10), benchmarks=5, samples=50, slower=slower)

    def call(fake, base="base", **more):
        environment = {"PATH": os.environ["PATH"], "REFHV_TARGET": "cmd:x; rm -rf / {image}", "REFHV_BASE": str(tmp_path / base),
                       "REFHV_OUT": str(tmp_path / "out"), "FAKE": str(tmp_path / fake) if fake != "none" else fake, **more}
        return subprocess.run([tmp_path / "ci" / "action" / "gate"], env=environment, capture_output=True, text=True, check=False)
    return call


def test_codes_are_the_gates(action, tmp_path):
    assert action("again").returncode == 0
    assert "--target=cmd:x; rm -rf / {image}" in (tmp_path / "options").read_text().splitlines(), "as it was given"
    done = action("slow", REFHV_FILTER="^exit", REFHV_SAMPLES="7")
    assert done.returncode == 1 and "REGRESSION" in done.stdout
    assert {"--filter=^exit", "--samples=7", "--launches=12"} <= set((tmp_path / "options").read_text().splitlines())
    assert json.loads((tmp_path / "out" / "gate.json").read_text())["code"] == 1
    assert (tmp_path / "out" / "gate.md").read_text().startswith("### ❌") and (tmp_path / "out" / "gate.xml").exists()
    assert len(list((tmp_path / "out" / "records").glob("launch-*"))) == 10
    assert action("again", REFHV_GATE="--launches=11 --must-show=3").returncode == 4


def test_without_a_baseline_it_passes_and_says_so(action, tmp_path):
    done = action("again", base="nowhere")
    assert done.returncode == 0 and "No baseline yet" in (tmp_path / "out" / "gate.md").read_text()
    assert (tmp_path / "out" / "records").is_dir()


def test_failed_claims_are_for_the_gate_to_judge(action):
    assert action("again", FAKE_CODE="1").returncode == 0


def test_nothing_measured_is_a_harness_error(action):
    assert action("none").returncode == 3
    assert action("again", REFHV_TARGET="").returncode != 0


def test_no_input_of_the_action_is_code():
    """What a caller gives stands in variables of the environment, never in the text of a script."""
    text = (ACTION / "action.yml").read_text()
    scripts = re.findall(r"\n      run: \|\n((?:        .*\n|\n)+)|\n      run: (.*)\n", text)
    assert len(scripts) == 4
    for script in scripts:
        assert "${{" not in "".join(script)
    for name in re.findall(r"inputs\.(\w+)", text):
        assert f"\n  {name}:\n" in text, name


def test_what_the_page_of_uses_names_is_there():
    text = (paths.TOP / "docs" / "uses.md").read_text()
    for link in re.findall(r"\]\(([^)#:]+)", text):
        assert (paths.TOP / "docs" / link).exists(), link
    verbs = re.findall(r"^\./suite (\w+)", text, re.MULTILINE)
    known = re.search(r'^verbs="(.*)"', (paths.TOP / "suite").read_text(), re.MULTILINE)[1].split(", ")
    assert verbs and set(verbs) <= set(known)
