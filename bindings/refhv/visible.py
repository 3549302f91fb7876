# SPDX-License-Identifier: MIT
"""Text from foreign files as a terminal may have it."""

import re
from collections.abc import Callable
from typing import Any

# What a terminal would take for a command, and what would show text in another order than it has.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(value: Any) -> Any:
    """What JSON gives, with a question mark for each such character, in keys too."""
    if isinstance(value, str):
        return _UNSEEN.sub("?", value)
    if isinstance(value, dict):
        return {_UNSEEN.sub("?", name): visible(one) for name, one in value.items()}
    if isinstance(value, list) and set(map(type, value)) != {int}:  # samples hold no text
        return [visible(one) for one in value]
    return value


def read(text: str, parse: Callable[[str], Any]) -> Any:
    """What `parse` makes of JSON, visible. Raises what it raises, and ValueError."""
    found = parse(text)
    if text.isascii() and "\\" not in text and "\x7f" not in text:  # as in nearly every record
        return found
    try:
        return visible(found)
    except RecursionError:
        raise ValueError("nested too deeply") from None
