# SPDX-License-Identifier: MIT
"""clang-tidy several sources at a time, on a small tree of its own; the real clang-tidy looks."""

import json
import shutil
from pathlib import Path

import pytest

from refhv import paths
from refhv.tidy import units
from refhv.tidy.look import Looker
from refhv.tidy.seen import Seen
from refhv.tidy.units import Source, Unit

needs_clang = pytest.mark.skipif(not shutil.which("clang-tidy"), reason="no clang-tidy here")


@pytest.fixture
def tree(tmp_path):
    """top, and a function that writes sources and gives them."""
    shutil.copy(paths.TOP / ".clang-tidy", tmp_path)

    def write(room="refhv", **texts):
        found = []
        for name, text in texts.items():
            path = tmp_path / room / f"{name}.cpp"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            found.append(Source(path, (f"-I{tmp_path}", "-std=c++20", "-Wall", "-Wextra", "-Werror")))
        return found
    return tmp_path, write


def test_flags_lose_what_names_source_object_and_precompiled_header(tmp_path):
    path = tmp_path / "refhv" / "a.cpp"
    command = (f"ccache /usr/bin/clang++ -I{tmp_path} -Wall -DX -O0 -g0 -fPIC -Winvalid-pch -Xclang -include-pch -Xclang x.pch -Xclang -include -Xclang x.hxx "
               f"-fpch-preprocess -o a.o -c {path}")
    entries = [{"directory": str(tmp_path), "file": str(path), "command": command}] * 2
    entries.append(entries[0] | {"file": str(tmp_path / "elsewhere.cpp")})
    again = f"clang++ -I{tmp_path}/conformance/test/x -c {path}"
    for order in ([{**entries[0], "command": again}, *entries], [*entries, {**entries[0], "command": again}]):
        (tmp_path / "db.json").write_text(json.dumps(order))
        assert units.read(tmp_path / "db.json", tmp_path) == [Source(path, (f"-I{tmp_path}", "-DX", "-Wall"))]


def test_sources_that_define_the_same_names_stand_apart(tree):
    top, write = tree
    sources = write(a="namespace {\nint one() { return 1; }\n}\n", b="GUEST(guest_x, \"nop\")\n", c="static int one = 2;\n",
                    d="SAMPLED_GUEST(guest_x, \"\")\n", e="struct Two : One {\n};\n", f="enum class Two { x };\n")
    packed = [{one.path.stem for one in unit.sources} for unit in units.pack(sources, top)]
    assert packed == [{"a", "b", "e"}, {"c", "d", "f"}]
    assert all(len(unit.sources) == 1 for unit in units.pack(sources, top, most=1))


def test_other_flags_or_another_use_of_the_analyzer_is_another_unit(tree, monkeypatch):
    top, write = tree
    [one] = write(a="int a();\n")
    other = Source(one.path.with_name("b.cpp"), (*one.flags, "-O2"))
    other.path.write_text("int b();\n")
    test = Source(top / "conformance" / "test" / "c.cpp", one.flags)
    test.path.parent.mkdir(parents=True)
    test.path.write_text("int c();\n")
    assert len(units.pack([one, other, test], top)) == 3
    assert one.analyzed and not test.analyzed
    claim, row = (Source(top / room / "c.cpp", one.flags) for room in ("conformance", "microbench"))
    monkeypatch.delenv("REFHV_LONG", raising=False)
    assert not claim.analyzed and row.analyzed and any("max-nodes" in flag for flag in row.analyzer_flags)
    assert not one.analyzer_flags and not test.analyzer_flags and not claim.analyzer_flags
    short = Looker(top).version() if (top / ".clang-tidy").exists() else None
    monkeypatch.setenv("REFHV_LONG", "1")
    assert claim.analyzed and any("max-nodes" in flag for flag in claim.analyzer_flags) and not test.analyzed
    assert short is None or Looker(top).version() != short, "what the short form found clean is not known to the long one"


@needs_clang
@pytest.mark.parametrize("check, text", [
    ("clang-analyzer-core.NullDereference", "int read(bool is) {\n  int* none = nullptr;\n  return is ? *none : 0;\n}\n"),
    ("misc-unused-using-decls", "namespace far {\nint two();\n}\nusing far::two;\n"),
    ("misc-unused-parameters", "namespace {\nint three(int ignored) { return 3; }\n}\nint four() { return three(1); }\n"),
    ("bugprone-sizeof-expression", "unsigned long five() { return sizeof(5); }\n"),
    ("clang-diagnostic", "int six() { return nothing; }\n"),
])
@pytest.mark.parametrize("room", ["refhv", "conformance"])
def test_what_one_source_shows_is_found_in_a_unit_and_told_of_the_source(monkeypatch, tree, room, check, text):
    monkeypatch.setenv("REFHV_LONG", "1")
    top, write = tree
    sources = write(room, a="int a() { return 1; }\n", b=text, c="int c() { return 3; }\n")
    looker, waiting, findings = Looker(top), [Unit(tuple(sources))], []
    while waiting:
        unit = waiting.pop()
        looked = looker.unit(unit)
        if looked.apart:
            waiting += [Unit(tuple(one for one in unit.sources if one not in looked.apart)), *(Unit((one,)) for one in looked.apart)]
        findings += looked.findings
    assert any(check in one for one in findings) and all(one.startswith(f"{sources[1].path}:") for one in findings), findings


@needs_clang
def test_a_clean_unit_is_clean_and_says_what_it_read(tree):
    top, write = tree
    (top / "refhv").mkdir()
    (top / "refhv" / "own.hpp").write_text("#pragma once\n#include <cstdint>\ninline std::uint8_t own() { return 1; }\n")
    sources = write(a='#include "refhv/own.hpp"\nint a() { return own(); }\n', b='#include "refhv/own.hpp"\nint b() { return own(); }\n')
    looked = Looker(top).unit(Unit(tuple(sources)))
    assert looked.findings == [] and looked.apart == []
    assert str(top / "refhv" / "own.hpp") in looked.read and any(name.endswith("/cstdint") for name in looked.read)


@needs_clang
def test_sources_that_cannot_stand_together_are_told_apart(tree):
    top, write = tree
    sources = write(a="static int x() { return 1; }\nint a() { return x(); }\n", b="int b() { return 2; }\n",
                    c="static int x() { return 3; }\nint c() { return x(); }\n")
    assert Looker(top).unit(Unit(tuple(sources))).apart == [sources[2]]


def test_what_was_clean_is_known_until_something_changes(tree):
    top, write = tree
    sources = write(a="int a();\n", b="int b();\n")
    header = top / "own.hpp"
    header.write_text("1")
    seen = Seen(top / "tidy.json", "tool 1", top)
    assert seen.known(sources) == set()
    seen.add(Unit(tuple(sources)), [str(header)])
    seen.save()

    def known(of=sources, tool="tool 1"):
        return Seen(top / "tidy.json", tool, top).known(of)

    assert known() == set(sources)
    assert known(sources[:1]) == set(), "the unit is not the same"
    assert known(tool="tool 2") == set()
    assert known([Source(one.path, ("-O3",)) for one in sources]) == set()
    header.write_text("2")
    assert known() == set()
    header.write_text("1")
    assert known() == set(sources)
    sources[0].path.write_text("int c();\n")
    assert known() == set()
    header.unlink()
    assert known() == set()


def test_another_clone_of_the_same_content_is_known_too(tree, tmp_path_factory):
    top, write = tree
    sources = write(a="int a();\n")
    memory = tmp_path_factory.mktemp("cache") / "refhv" / "tidy.json"
    seen = Seen(memory, "tool", top)
    seen.add(Unit(tuple(sources)), ["/dev/null"])
    seen.save()
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(top / "refhv", clone / "refhv")
    there = Source(clone / "refhv" / "a.cpp", tuple(flag.replace(str(top), str(clone)) for flag in sources[0].flags))
    assert Seen(memory, "tool", clone).known([there]) == {there}
    there.path.write_text("int b();\n")
    assert Seen(memory, "tool", clone).known([there]) == set()
    assert Seen(memory, "tool", top).known(sources) == set(sources)


def test_what_is_known_holds_no_more_than_the_tree(tree):
    top, write = tree
    sources = write(a="int a();\n", b="int b();\n")
    for text in ("int x();\n", "int y();\n", "int z();\n"):
        sources[0].path.write_text(text)
        seen = Seen(top / "tidy.json", "tool", top)
        known = seen.known(sources)
        rest = [one for one in sources if one not in known]
        for one in rest:
            seen.add(Unit((one,)), [])
        seen.save()
        assert len(rest) in (1, 2)
    assert len(json.loads(Path(top, "tidy.json").read_text())["units"]) == 2


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tool": "t", "units": 3}'])
def test_a_spoilt_memory_is_no_memory(tree, text):
    top, write = tree
    (top / "tidy.json").write_text(text)
    assert Seen(top / "tidy.json", "t", top).known(write(a="int a();\n")) == set()
