# SPDX-License-Identifier: MIT
"""Executes the notebooks in reports/ on the records of a run; each leaves one HTML page that asks for nothing."""

import asyncio
import base64
import concurrent.futures
import contextlib
import hashlib
import html.parser
import os
import re
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from refhv import files, paths

CELL_SECONDS = 300


class ReportError(Exception):
    """The report could not be made; one line."""


def _kernel_environment(sources: Sequence[Path], scratch: str) -> dict[str, str]:
    """Everything that Jupyter and matplotlib want to write goes to a scratch directory, nothing to HOME."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "IPYTHON", "MPL"))}
    return inherited | {
        "REFHV_RUN": "\n".join(str(source.resolve()) for source in sources),
        "PYTHONPATH": str(paths.PACKAGES),
        "IPYTHONDIR": scratch,
        "JUPYTER_RUNTIME_DIR": scratch,
        "MPLCONFIGDIR": scratch,
        "MPLBACKEND": "agg",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


async def _run_to_end(client, **kernel: Any) -> None:
    """Executes the notebook, and leaves no kernel whatever happens meanwhile, the start of the kernel included."""
    try:
        await client.async_execute(**kernel)
    finally:
        if client.km is not None and await client.km.is_alive():
            await client.km.shutdown_kernel(now=True)


def _in_a_thread(run: Callable[[], Coroutine]) -> None:
    """Runs a coroutine to its end in another thread: there nbclient takes no signal handlers, neither to use nor to lose.
    Whatever is raised here meanwhile cancels it first."""
    ready: concurrent.futures.Future = concurrent.futures.Future()

    async def body() -> None:
        ready.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        await run()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: asyncio.run(body()))
        try:
            done.result()
        except BaseException:
            concurrent.futures.wait((ready, done), return_when=concurrent.futures.FIRST_COMPLETED)
            if ready.done():
                loop, task = ready.result()
                with contextlib.suppress(RuntimeError):  # it has ended by itself
                    loop.call_soon_threadsafe(task.cancel)
            raise


def execute(directory: Path, source: Path, records: Sequence[Path] = ()):
    """The notebook `source` with its outputs, of the records in `records` (files, folders), else of those in `directory`. Raises ReportError. No kernel is left behind, whatever is raised."""
    import nbformat
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets.config import Config
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    class ThisPython(AsyncKernelManager):
        """The kernel is the interpreter that runs this, whatever kernels a user has installed."""

        @property
        def kernel_spec(self) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="refhv", language="python")

    notebook = nbformat.read(source, as_version=4)
    with tempfile.TemporaryDirectory(prefix="refhv-") as scratch:
        # Sockets in the scratch directory, not TCP ports: no other user can reach this kernel.
        transport = {"transport": "ipc", "ip": f"{scratch}/k", "connection_file": f"{scratch}/kernel.json"}
        client = NotebookClient(notebook, kernel_manager_class=ThisPython, timeout=CELL_SECONDS,
                                shutdown_kernel="immediate", config=Config(ThisPython=transport))
        environment = _kernel_environment(records or [directory], scratch)
        try:
            _in_a_thread(lambda: _run_to_end(client, env=environment, cwd=str(directory)))
        except CellExecutionError as error:
            raise ReportError(f"{source.name}: {error.ename}: {error.evalue}") from None
        except CellTimeoutError:
            raise ReportError(f"{source.name}: a cell took more than {CELL_SECONDS} s") from None
        except (DeadKernelError, RuntimeError, asyncio.TimeoutError) as error:
            raise ReportError(f"{source.name}: the Python kernel died ({error})") from None
    return notebook


def render(notebook) -> str:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="refhv", extra_template_basedirs=[str(paths.TEMPLATES)],
        exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True,
        mathjax_url="", require_js_url="", jquery_url="",
    )
    page, _ = exporter.from_notebook_node(notebook)
    script = notebook.metadata.get("script")
    return _with_script(page, (paths.TEMPLATES / "refhv" / script).read_text()) if script else page


def _with_script(page: str, script: str) -> str:
    """The page with a script of its own, which its policy allows by its hash, and no other."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("default-src 'none';", f"default-src 'none'; script-src 'sha256-{digest}';", 1)
    before, end, after = page.rpartition("</body>")
    return f"{before}<script>{script}</script>\n{end}{after}"


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


def _write_page(directory: Path, source: Path, name: str, records: Sequence[Path]) -> Path:
    page = render(execute(directory, source, records))
    leaks = requests_in(page)
    if leaks:
        raise ReportError(f"{name} would ask for {leaks[0]}")
    path = directory / name
    files.write_whole(path, page)
    return path


def write_compare(directory: Path, sources: Sequence[Path]) -> Path:
    """Writes directory/compare.html of the records of `sources` (files, folders). Raises ReportError, OSError."""
    return _write_page(directory, paths.COMPARE, "compare.html", sources)


def write_fleet(directory: Path) -> Path:
    """Writes directory/fleet.html of the fleet's run in that directory. Raises ReportError, OSError."""
    return _write_page(directory, paths.FLEET, "fleet.html", [directory])


def write(directory: Path, sources: Sequence[Path] = ()) -> Path:
    """Writes directory/report.html, and each page of tables.PAGES of whose families a record has rows; returns the former.
    The records are those of `sources` (files, folders), else those in `directory`.
    Raises ReportError, OSError, identity.SameRecordError."""
    from refhv import record, tables

    sources = sources or [directory]
    records, _ = record.load_all(sources)
    due = {tables.page_of(row) for rec in records for row in rec["benchmarks"]}
    for page in tables.PAGES:
        if page in due:
            _write_page(directory, paths.REPORTS / f"{page}.ipynb", f"{page}.html", sources)
        else:
            (directory / f"{page}.html").unlink(missing_ok=True)  # of other records than these
    return _write_page(directory, paths.NOTEBOOK, "report.html", sources)
