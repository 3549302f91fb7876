# SPDX-License-Identifier: MIT
"""docs/conformance.md and what it is made of."""

import pytest

from refhv import statement
from refhv.departures import Departure
from refhv.statement import Made

SCOPE = {"SDM 3C": {"28.3": "Saving guest state", "28.4": "Saving MSRs"}, "none": {"SDM 3C 28.4": "not written yet"}}
MADE = [Made("bochs-intel", "Exit.a", "PASS", "SDM 3C 28.3.4, 25.4.2; SDM 3A 6.8.3", 3), Made("bochs-intel", "Exit.b", "FAIL", "SDM 3C 28.3", 1),
        Made("bochs-intel", "Exit.c", "SKIP", "SDM 3C 28.31", 1)]


@pytest.mark.parametrize(("section", "found"), [
    ("SDM 3C 28.3.4, 25.4.2; SDM 3A 6.8.3", [("SDM 3C", "28.3.4"), ("SDM 3C", "25.4.2"), ("SDM 3A", "6.8.3")]),
    ("SDM 3C 28.2.1 table 28-1, 28.3.3", [("SDM 3C", "28.2.1"), ("SDM 3C", "28.3.3")]),
    ("SDM 3A table 6-2; APM 2 15.7", [("SDM 3A", "6"), ("APM 2", "15.7")]), ("", []), ("docs/core.md", []),
])
def test_citations(section, found):
    assert statement.citations(section) == found


def test_the_page_counts_claims_by_section_and_names_departures():
    text = statement.render(MADE, SCOPE, [Departure("bochs", ">=2.7", "bochs-intel", name, "SDM 3C 28.3", "It forgets.") for name in ("Exit.b", "Exit.d")],
                            {"bochs": ["2.7"]})
    assert "\n3 claims.\n" in text
    assert "| `bochs-intel` | 1 | 1 | 1 | 4 |" in text
    assert "| 28.3 | Saving guest state | Exit 2 |" in text
    assert "| 28.4 | Saving MSRs | none: not written yet |" in text
    assert "| >=2.7 | SDM 3C 28.3 | It forgets. | `Exit.b` and 1 more |" in text


def test_the_scope_must_say_why_a_section_has_no_claim():
    assert statement.check_scope(MADE, SCOPE) == []
    assert statement.check_scope(MADE, SCOPE | {"none": {}}) == ["SDM 3C 28.4: no claim, and sections.json does not say why"]
    assert "sections.json says why there is none" in statement.check_scope(MADE, SCOPE | {"none": {"SDM 3C 28.3": "x", "SDM 3C 28.4": "x"}})[0]


def test_files_that_are_none_are_one_line(tmp_path):
    for text, why in (("<", r"a\.xml: "), ("<testsuites/>", "names no target")):
        (tmp_path / "a.xml").write_text(text)
        with pytest.raises(statement.StatementError, match=why):
            statement.read([tmp_path / "a.xml"])
    with pytest.raises(statement.StatementError, match=r"none\.xml"):
        statement.read([tmp_path / "none.xml"])
