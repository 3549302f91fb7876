# SPDX-License-Identifier: MIT
"""The tutorial runs to its end, and says what it says it would."""

import native_module
import pytest

from refhv import notebook, paths

NOTEBOOK = paths.REPORTS / "tutorial.ipynb"


def test_the_tutorial(tmp_path):
    native_module.usable("qemu-amd")
    if not (paths.build_dir() / "bin/refhv-microbench").is_file():
        pytest.skip("refhv-microbench is not built")
    executed = notebook.execute(tmp_path, NOTEBOOK)
    # What one print wrote may come as several outputs, cut anywhere.
    said = "\n".join("".join(str(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in cell.outputs)
                     for cell in executed.cells if cell.cell_type == "code")
    for words in ("svm", "reason=<Reason.cpuid: 11>", "0x72 Reason.cpuid EBX was 7", "<Reason.cpuid: 11>: 5", "['rdtsc'] Reason.rdtsc",
                  "guest's #PF: 14 0x7f000000", "exit: Reason.nested_violation 0x40400000", "exit.cpuid/nested", "'PASS'", "FAIL: it exits",
                  "PASS Exit.rdmsr_exits_when_intercepted"):
        assert words in said, (words, said)


def test_it_holds_no_outputs_of_some_machine():
    import nbformat

    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert cell.cell_type != "code" or not (cell.outputs or cell.execution_count)
