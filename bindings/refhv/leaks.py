# SPDX-License-Identifier: MIT
"""What a page would have a browser fetch."""

import html.parser
import re

# What can make a browser fetch something: references in attributes and in style sheets. Plain links (<a href>) ask for
# nothing until clicked and may stand.
_FETCHING = frozenset("script link img iframe object embed source video audio use image base form track input".split())
_REFERENCES = frozenset("src href xlink:href data action srcset poster formaction".split())
_STYLE_URL = re.compile(r"""(?:url\(\s*["']?(?!data:|\#)|@import\s+["']?)([^"')\s;]+)""", re.IGNORECASE)


class _Requests(html.parser.HTMLParser):
    """Collects addresses from markup: text, and what an attribute only speaks of, is none."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for name, value in attrs:
            if name == "style":
                self.found += _STYLE_URL.findall(value or "")
            elif tag in _FETCHING and name in _REFERENCES and value and not value.lstrip().startswith(("data:", "#")):
                self.found.append(value)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += _STYLE_URL.findall(data)


def requests_in(page: str) -> list[str]:
    """Addresses that a browser would ask for on opening the page; empty for a self-contained one."""
    parser = _Requests()
    parser.feed(re.sub(r"data:[a-z/+.-]+;base64,[A-Za-z0-9+/=]+", "data:", page))
    parser.close()
    return parser.found
