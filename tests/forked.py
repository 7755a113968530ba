"""Python programs in processes forked from one that knows the large libraries, so that each starts in a moment."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

#: Not the hub's client, which reads its environment when it is imported.
LIBRARIES = ["numpy", "scipy.stats", "pandas", "sklearn.metrics", "torch", "torch._dynamo"]
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(LIBRARIES)


def run_python(
    arguments: list[str], environment: dict[str, str], folder: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Do what ``python ARGUMENTS`` in a folder would: ``-c`` and a program, or a file; then what it is given.

    :raises subprocess.TimeoutExpired: if it takes longer than ``timeout`` seconds; it is killed.
    """
    with tempfile.TemporaryDirectory() as outputs:
        files = (f"{outputs}/out", f"{outputs}/errors")
        process = _processes.Process(target=_be, args=(arguments, environment, str(folder), files))
        process.start()
        process.join(timeout)
        late = process.exitcode is None
        process.kill()
        process.join()
        out, errors = (Path(file).read_text(encoding="utf-8") for file in files)
    if late:
        raise subprocess.TimeoutExpired(arguments, timeout, out, errors)
    return subprocess.CompletedProcess(arguments, process.exitcode or 0, out, errors)


def _be(arguments: list[str], environment: dict[str, str], folder: str, files: tuple[str, str]) -> None:
    """Be the program, in a process that ends with it."""
    for descriptor, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        if arguments[0] == "-c":
            sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102, a test's own
        else:
            sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a child of multiprocessing does not
