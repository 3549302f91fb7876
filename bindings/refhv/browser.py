# SPDX-License-Identifier: MIT
"""Headless Chromium, to see a page as a reader does. Raises subprocess.SubprocessError or OSError when it cannot."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
SECONDS = 120


def _chromium(scratch: str, *arguments: str) -> str:
    return subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
         f"--user-data-dir={scratch}/profile", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=True,
        env={"HOME": scratch, "PATH": "/usr/bin:/bin"},
    ).stdout


def requests(page: Path) -> list[str]:
    """Addresses other than its own that the page had the browser fetch, as Chromium's own net log has them.

    The content-security policy of the page is taken out first, so that what it would have stopped is seen too. Files that
    a page asks for do not show in a net log; `leaks.requests_in` finds them in the text.
    """
    with tempfile.TemporaryDirectory(prefix="refhv-chromium-") as scratch:
        log, bare = Path(scratch, "net.json"), Path(scratch, "page.html")
        bare.write_text(re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", page.read_text()))
        _chromium(scratch, f"--log-net-log={log}", "--dump-dom", bare.as_uri())
        events = _net_log(log)
    found: dict[str, None] = {}
    for event in events:
        url = event.get("params", {}).get("url", "")
        if re.match(r"(https?|wss?|ftp|file)://", url) and "chrome" not in event["params"].get("initiator", ""):
            found[url] = None
    return [url for url in found if not _own_traffic(url) and url != bare.as_uri()]


def _net_log(log: Path) -> list[dict]:
    """Events of a net log. Chromium may be ended before it closes the JSON."""
    text = log.read_text(errors="replace")
    try:
        return json.loads(text)["events"]
    except ValueError:
        return json.loads(text.rstrip().rstrip(",") + "]}")["events"]


def _own_traffic(url: str) -> bool:
    """The browser's own calls home, which no page caused."""
    return re.match(r"https?://([a-z0-9-]+\.)*(google|googleapis|gvt1)\.com/", url) is not None


def text(page: Path) -> str:
    """What the page says, without its markup."""
    with tempfile.TemporaryDirectory(prefix="refhv-chromium-") as scratch:
        dom = _chromium(scratch, "--dump-dom", page.as_uri())
    return re.sub(r"<[^>]*>", " ", re.sub(r"<(style|script)\b.*?</\1>", " ", dom, flags=re.DOTALL))


def screenshot(page: Path, png: Path, width: int = 1320, height: int = 1000) -> None:
    with tempfile.TemporaryDirectory(prefix="refhv-chromium-") as scratch:
        _chromium(scratch, f"--window-size={width},{height}", f"--screenshot={png}", page.as_uri())
