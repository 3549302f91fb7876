# SPDX-License-Identifier: MIT
"""Executes notebooks of reports/, all of them in one kernel one after the other, and renders them.

What a notebook is about stands in its cell of tag `parameters`; a cell behind it (tag `injected-parameters`) sets them anew, as
papermill does it.
"""

import asyncio
import base64
import concurrent.futures
import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refhv import paths, sections

CELL_SECONDS = 300


class ReportError(Exception):
    """The report could not be made; one line."""


@dataclass(frozen=True)
class Job:
    """A notebook, and what its parameters are: texts, numbers, None and lists of them."""

    source: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _kernel_environment(scratch: str) -> dict[str, str]:
    """Everything that Jupyter and matplotlib want to write goes to a scratch directory, nothing to HOME."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "IPYTHON", "MPL"))}
    return inherited | {
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


def _with_parameters(job: Job):
    """The notebook with a cell that sets its parameters. Raises ReportError where it has no such parameter."""
    import nbformat

    found = nbformat.read(job.source, as_version=4)
    if not job.parameters:
        return found
    places = [index for index, one in enumerate(found.cells) if "parameters" in one.metadata.get("tags", [])]
    source = found.cells[places[0]].source if places else ""
    unknown = [name for name in job.parameters if not any(line.startswith(f"{name} =") for line in source.splitlines())]
    if unknown:
        raise ReportError(f"{job.source.name}: its cell of tag parameters has no {', '.join(unknown)}")
    setting = nbformat.v4.new_code_cell("\n".join(f"{name} = {value!r}" for name, value in job.parameters.items()),
                                        metadata={"tags": ["injected-parameters"]})
    found.cells.insert(places[0] + 1, setting)
    return found


def execute(directory: Path, source: Path, **parameters: Any):
    """The notebook `source` with its outputs, as execute_all has it."""
    return execute_all(directory, [Job(source, parameters)])[0]


def execute_all(directory: Path, jobs: Sequence[Job]) -> list:
    """Notebooks with their outputs, executed in `directory`, none of which finds the names of another. Raises ReportError. No
    kernel is left behind, whatever is raised."""
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

    notebooks = [_with_parameters(job) for job in jobs]
    # One notebook with the cells of all: its cells are theirs, so that outputs come to stand where they belong.
    forget = [nbformat.v4.new_code_cell("%reset -f") for _ in notebooks]
    cells = [cell for reset, one in zip(forget, notebooks) for cell in (*one.cells, reset)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # two notebooks may have used one
    whole = nbformat.v4.new_notebook(cells=cells)
    current = _Current(jobs, notebooks)
    with tempfile.TemporaryDirectory(prefix="refhv-") as scratch:
        # Sockets in the scratch directory, not TCP ports: no other user can reach this kernel.
        transport = {"transport": "ipc", "ip": f"{scratch}/k", "connection_file": f"{scratch}/kernel.json"}
        client = NotebookClient(whole, kernel_manager_class=ThisPython, timeout=CELL_SECONDS, shutdown_kernel="immediate",
                                config=Config(ThisPython=transport), on_cell_start=current.at)
        try:
            _in_a_thread(lambda: _run_to_end(client, env=_kernel_environment(scratch), cwd=str(directory)))
        except CellExecutionError as error:
            raise ReportError(f"{current.name}: {error.ename}: {error.evalue}") from None
        except CellTimeoutError:
            raise ReportError(f"{current.name}: a cell took more than {CELL_SECONDS} s") from None
        except (DeadKernelError, RuntimeError, asyncio.TimeoutError) as error:
            raise ReportError(f"{current.name}: the Python kernel died ({error})") from None
    return notebooks


class _Current:
    """Which notebook a cell that is executed belongs to."""

    def __init__(self, jobs: Sequence[Job], notebooks: Sequence) -> None:
        self._of = {id(cell): job.source.name for job, one in zip(jobs, notebooks) for cell in one.cells}
        self.name = jobs[0].source.name if jobs else ""

    def at(self, cell, **_: Any) -> None:
        self.name = self._of.get(id(cell), self.name)


def render(notebook) -> str:
    """The page: without sections that came out empty, with a list of the others, and with the script that it names."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="refhv", extra_template_basedirs=[str(paths.TEMPLATES)],
        exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True,
        mathjax_url="", require_js_url="", jquery_url="",
    )
    page, _ = exporter.from_notebook_node(sections.arranged(notebook))
    script = notebook.metadata.get("script")
    return _with_script(page, (paths.TEMPLATES / "refhv" / script).read_text()) if script else page


def _with_script(page: str, script: str) -> str:
    """The page with a script of its own, which its policy allows by its hash, and no other."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("default-src 'none';", f"default-src 'none'; script-src 'sha256-{digest}';", 1)
    before, end, after = page.rpartition("</body>")
    return f"{before}<script>{script}</script>\n{end}{after}"
