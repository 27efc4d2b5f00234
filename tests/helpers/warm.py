"""Commands run in forks of one process that has imported the libraries: most of a small command's time is that.

Each fork goes the way of `python -m rlsd_lightning ...` from there on: our own modules are imported in it, it reads
the same arguments, environment and folder, and it ends as a process ends.

Run as a script, this file is that process: it reads a request per line and answers with the exit status.
"""

import importlib
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = (
    "torch",
    "hydra",
    "lightning.pytorch",
    "torchmetrics",
    "datasets",
    "peft",
    "math_verify",
    "jinja2",
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
    "transformers.models.qwen3.modeling_qwen3",
)


class WarmCommands:
    """Runs `python -m rlsd_lightning` with the words given, in one folder; close it at the end.

    Args:
        folder: where commands run.
        environment: beside this process's own.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a command that hangs can be ended with whatever it started
        )

    def run(self, *words: str, timeout: float = 600) -> subprocess.CompletedProcess:
        """Run one command to its end, and return what it printed and how it ended."""
        with tempfile.TemporaryDirectory() as folder:
            printed = [Path(folder) / "stdout", Path(folder) / "stderr"]
            request = {"words": words, "printed": [str(path) for path in printed]}
            print(json.dumps(request), file=self._server.stdin, flush=True)
            if not select.select([self._server.stdout], [], [], timeout)[0]:
                os.killpg(self._server.pid, 9)
                raise subprocess.TimeoutExpired(words, timeout)
            status = int(self._server.stdout.readline())
            return subprocess.CompletedProcess(words, status, *(p.read_text() for p in printed))

    def close(self) -> None:
        """End the process; no command runs any more."""
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()


def serve() -> bool:
    """Fork for every request; return True in a fork, and False at the end of the requests."""
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(request["words"], *request["printed"])
            return True
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return False


def become(words: list[str], stdout: str, stderr: str) -> None:
    """Give this process the arguments and the standard files of a command."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptor, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        opened = os.open(path, flags if descriptor else os.O_RDONLY)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv[1:] = words


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as `python -m` has it
    for name in (
        "rlsd_lightning",
        *LIBRARIES,
    ):  # the package first: it makes torchvision importable
        importlib.import_module(name)
    if not serve():
        os._exit(0)  # taking all libraries down in order would cost a second
    runpy.run_module("rlsd_lightning", run_name="__main__", alter_sys=True)
