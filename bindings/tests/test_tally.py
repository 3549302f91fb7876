# SPDX-License-Identifier: MIT
import pytest

from refhv import tally


def test_lines_are_counted():
    found = tally.from_lines("PASS a\nnoise\nFAIL b: because\nSKIP c: absent\nPASS d\n", 1, "x")
    assert (found.passed, found.failed, found.skipped) == (2, 1, 1)


@pytest.mark.parametrize("text, code", [("", 0), ("", 1), ("PASS a\n", 1), ("Traceback\nValueError: x\n", 1), ("noise\n", 0)])
def test_a_check_that_breaks_is_a_failure(text, code):
    assert tally.from_lines(text, code, "x").failed == 1


JUNIT = '<testsuite><testcase classname="a" name="b"/><testcase name="c"><skipped/></testcase>{}</testsuite>'


def test_junit_is_counted(tmp_path):
    path = tmp_path / "j.xml"
    path.write_text(JUNIT.format(""))
    found = tally.from_junit(path, 0, "x")
    assert (found.passed, found.failed, found.skipped) == (1, 0, 1)
    path.write_text(JUNIT.format('<testcase name="d"><failure message="boo"/></testcase><testcase name="e" status="fail"/>'))
    assert tally.from_junit(path, 1, "x").failed == 2


@pytest.mark.parametrize("content, code", [(None, 0), ("<testsuite/>", 0), ("<testsui", 0), (JUNIT.format(""), 8)])
def test_junit_that_proves_nothing_is_a_failure(tmp_path, content, code):
    path = tmp_path / "j.xml"
    if content is not None:
        path.write_text(content)
    assert tally.from_junit(path, code, "x").failed == 1
