# SPDX-License-Identifier: MIT
"""The order of a page: what came out empty is left out with its heading, and the rest is listed at the top."""

import copy
import html
import re
from collections.abc import Iterator

_HEADING = re.compile(r"(#{2,3}) (.+)")
LEAST_LISTED = 3  # fewer sections need no list


def _level(cell) -> int:
    """Of the heading that a cell begins with: 1 to 6; 0 where it begins with none."""
    found = re.match(r"(#{1,6}) ", cell.source) if cell.cell_type == "markdown" else None
    return len(found[1]) if found else 0


def _says(cell) -> bool:
    """Whether a code cell has an output that a reader sees."""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if output.get("output_type") == "error" or output.get("name") == "stdout":
            return True
        if any("".join(data.get(kind, "")).strip() for kind in ("text/html", "text/markdown", "image/png", "image/svg+xml")):
            return True
        if data and not any(kind in data for kind in ("text/html", "text/markdown")):
            return True
    return False


def _blocks(cells: list) -> Iterator[list]:
    """Each cell of text with the code behind it; code at the beginning is a block of its own."""
    block: list = []
    for cell in cells:
        if cell.cell_type == "markdown" and block:
            yield block
            block = []
        block.append(cell)
    if block:
        yield block


def _empty(block: list) -> bool:
    code = [cell for cell in block if cell.cell_type == "code"]
    return bool(code) and block[0].cell_type == "markdown" and _level(block[0]) != 1 and not any(map(_says, code))


def _heads_only(blocks: list[list], index: int) -> bool:
    """Whether a block is a heading over further ones and has no code of its own."""
    level = _level(blocks[index][0])
    return 1 < level < (_level(blocks[index + 1][0]) if index + 1 < len(blocks) else 0) and len(blocks[index]) == 1


def kept(cells: list) -> list:
    """The cells without those of sections, and pieces of them, whose code came out empty."""
    blocks = list(_blocks(cells))
    out: list[list] = []
    for index in reversed(range(len(blocks))):
        block, level = blocks[index], _level(blocks[index][0])
        # A heading stays where something below it does, whatever came out of its own code.
        below = level > 1 and bool(out) and not 0 < _level(out[-1][0]) <= level
        if below or not (_empty(block) or _heads_only(blocks, index)):
            out.append(block)
    return [cell for block in reversed(out) for cell in block]


def slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def arranged(notebook):
    """A copy of an executed notebook as its page has it: headings have ids of ours, and their list stands behind the title."""
    from nbformat.v4 import new_markdown_cell

    notebook = copy.deepcopy(notebook)
    notebook.cells = kept(notebook.cells)
    listed = []
    for cell in notebook.cells:
        found = _HEADING.match(cell.source) if cell.cell_type == "markdown" else None
        if found:
            level, words = len(found[1]), html.escape(found[2])
            cell.source = f'<h{level} id="{slug(found[2])}">{words}</h{level}>\n\n' + cell.source[found.end():].lstrip("\n")
            listed += [f'<a href="#{slug(found[2])}">{words}</a>'] if level == 2 else []
    title = next((index for index, cell in enumerate(notebook.cells) if _level(cell) == 1), None)
    if len(listed) >= LEAST_LISTED and title is not None:
        contents = f'<nav class="contents" aria-label="On this page"><span>On this page</span> {" ".join(listed)}</nav>'
        notebook.cells.insert(title + 1, new_markdown_cell(contents))
    return notebook
