import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlsd_lightning.sandbox.box import Box, SandboxError
from rlsd_lightning.sandbox.limits import Limits
from tests.helpers.outside import (
    boxed_processes,
    left_behind,
    num_open_files,
    state,
    use_as_temporary_folder,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

ROOT = Path(__file__).parents[2]
LIMITS = Limits(time_s=1, memory_mb=256)
PATIENCE_S = 20


@pytest.fixture
def folder(monkeypatch, tmp_path):
    return use_as_temporary_folder(monkeypatch, tmp_path / "temporary")


def start(box, source, stdin=b"", limits=LIMITS, kind="program"):
    return box.start([kind], limits, message={"source": source, "paths": []}, stdin=stdin)


def run(source, stdin=b"", limits=LIMITS):
    with Box(10) as box:
        return box.wait(start(box, source, stdin, limits))


def eventually(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def test_a_program_reads_writes_and_ends():
    program = run(
        "import sys\nprint(input()[::-1])\nprint('e', file=sys.stderr)\nexit(3)", b"abc\n"
    )
    assert (program.stdout, program.stderr, program.code) == (b"cba\n", b"e\n", 3)
    assert program.killed == ""
    assert 0 < program.cpu_s < 1
    assert 1 < program.memory_mb < 100


@pytest.mark.parametrize(
    ("source", "stdout", "code"),
    [
        ("print('x', end='')\nraise SystemExit", b"x", 0),
        ("print('x')\nraise SystemExit('told')", b"x\n", 1),
        ("print('x')\nquit()", b"x\n", 0),
        ("import threading\nthreading.Thread(target=lambda: print('x')).start()", b"x\n", 0),
        ("import atexit\natexit.register(print, 'x')", b"x\n", 0),
        ("if __name__ == '__main__': print('x')", b"x\n", 0),
        ("import os\nprint('x', flush=True)\nos._exit(0)", b"x\n", 0),
        ("print('x')\n1 / 0", b"x\n", 1),
        ("import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())", b"", 0),
        ("print(sorted({'b', 'a', 'c'}) and list({'b', 'a', 'c'}))", None, 0),  # see below
        ("import asyncio\nasync def main(): print('x')\nasyncio.run(main())", b"x\n", 0),
        ("open('f', 'w').write('x')\nprint(open('f').read())", b"x\n", 0),
        ("import os\nprint(os.fstat(0).st_size, os.read(0, os.fstat(0).st_size))", b"0 b''\n", 0),
        (
            "import resource as r\nr.setrlimit(r.RLIMIT_STACK, (2**28, r.RLIM_INFINITY))\nprint(1)",
            b"1\n",
            0,
        ),
        (
            "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\n"
            "def f(n): return n and 1 + f(n - 1)\n"
            "threading.Thread(target=lambda: print(f(50000))).start()",
            b"50000\n",
            0,
        ),
        ("print(chr(252), input())", b"\xc3\xbc \xc3\xa9\n", 0),
    ],
)
def test_ordinary_ways_of_python_work(source, stdout, code):
    program = run(source, b"\xc3\xa9\n" if "chr(252)" in source else b"")
    if stdout is None:  # sets come in the same order in every run
        stdout = run(source).stdout
    assert (bytes(program.stdout), program.code) == (stdout, code), program.stderr


def test_both_streams_are_drained_together_and_input_is_as_long_as_it_likes():
    source = "import sys\nx = sys.stdin.read()\nsys.stdout.write(x)\nsys.stderr.write(x)"
    program = run(source, b"y" * 900_000)
    assert (len(program.stdout), len(program.stderr), program.code) == (900_000, 900_000, 0)


def test_more_output_than_allowed_ends_the_program_and_is_cut():
    start_s = time.monotonic()
    program = run("while True: print('x' * 1000)", limits=Limits(time_s=9, memory_mb=256))
    assert time.monotonic() - start_s < 5
    assert program.killed == "output"
    assert len(program.stdout) == 2**20


def test_whoever_sleeps_is_ended_by_the_clock_and_whoever_works_by_processor_time():
    sleeper, worker = run("import time\ntime.sleep(60)"), run("while True: pass")
    assert (sleeper.killed, sleeper.code, sleeper.out_of_time) == ("time", -signal.SIGKILL, True)
    assert worker.out_of_time
    assert sleeper.cpu_s < 0.2 < worker.cpu_s


def test_nothing_outlasts_the_time_of_the_whole_room():
    started = time.monotonic()
    with Box(0.5) as box:
        program = box.wait(start(box, "import time\ntime.sleep(60)"))
        assert box.is_late
    assert program.killed == "time"
    assert time.monotonic() - started < 3


def test_memory_is_limited_for_each_program_and_here_nothing_grows():
    program = run("x = []\nwhile True: x.append(bytearray(2**22))")
    assert b"MemoryError" in program.stderr
    assert 100 < program.memory_mb < 256
    program = run("x = bytearray(100 * 2**20)\nprint(len(x))")
    assert program.code == 0
    assert 100 < program.memory_mb < 200


def test_programs_do_not_see_each_other(folder):
    with Box(10) as box:
        first = start(box, "import time\nsecret = 'abc'\ntime.sleep(9)")
        seen = box.wait(start(box, "import os\nos.kill(2, 9)"))
        assert b"PermissionError" in seen.stderr
        assert not first.ended
        box.end(first)
        assert first.ended


def children_of_this_process():
    """Ids of the processes that this one has started, whatever test did, and has not buried."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for path in lists for pid in path.read_text().split()}


def test_a_room_leaves_no_descriptor_process_zombie_or_file(folder):
    with Box(10):
        pass
    open_files, children = num_open_files(), children_of_this_process()
    for _ in range(3):
        with Box(10) as box:
            box.wait(start(box, "open('f', 'w')"))
            start(box, "import time\ntime.sleep(60)")  # still running when the room is closed
    assert num_open_files() == open_files
    assert left_behind(folder) == []
    assert children_of_this_process() == children  # zombies are children, too


def test_a_launcher_that_is_killed_is_an_error_and_not_a_verdict(folder):
    with Box(10) as box:
        program = start(box, "import time\ntime.sleep(60)")
        os.kill(box._launcher.pid, signal.SIGKILL)
        with pytest.raises(SandboxError, match=r"its launcher ended by itself \(exit code -9"):
            box.wait(program)
    eventually(lambda: left_behind(folder) == [])


def test_what_cannot_be_executed_is_an_error_and_not_a_verdict():
    with Box(10) as box:
        program = box.start(["/etc/passwd"], LIMITS, message={}, executable=["/etc/passwd"])
        with pytest.raises(
            SandboxError, match=r"could not be shut in or started \(Permission denied"
        ):
            box.wait(program)


def test_what_is_no_answer_of_the_harness_ends_the_program():
    source = "import os\nfor i in range(3, 9):\n  try: os.write(i, b'{\"value\": 3}\\n')\n  except OSError: pass"
    with Box(10) as box:
        program = start(box, source, kind="functions")
        assert box.receive(program) is None
        assert program.killed == "output"


@pytest.mark.parametrize("user_namespaces", [True, False])
def test_when_the_judge_is_killed_nothing_stays(folder, user_namespaces):
    script = f"""
import os, sys, time, types
sys.path.insert(0, {str(ROOT)!r})
package = types.ModuleType("rlsd_lightning")
package.__path__ = [{str(ROOT / "rlsd_lightning")!r}]
sys.modules["rlsd_lightning"] = package
from rlsd_lightning.sandbox import seccomp
from rlsd_lightning.sandbox.box import Box
from rlsd_lightning.sandbox.limits import Limits
from rlsd_lightning.sandbox.linux import PR_SET_NO_NEW_PRIVS, prctl
if not {user_namespaces}:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    seccomp._install(seccomp._assemble(["unshare"], []))
with Box(600) as box:
    limits = Limits(time_s=600, memory_mb=256)
    source = "import signal\\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\\nopen('f', 'w')\\nprint(1, flush=True)\\nwhile True: pass"
    program = box.start(["program"], limits, message={{"source": source, "paths": []}})
    while not program.stdout:
        box._step()
    loader = os.fork()  # as data loaders do: it holds the judge's ends of all pipes open
    if loader == 0:
        time.sleep(600)
    print(loader, flush=True)
    box.wait(program)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as judge:
        loader = int(judge.stdout.readline())
        inside = boxed_processes(folder)
        assert len(inside) == 3 if user_namespaces else 2
        assert len(list(folder.iterdir())) == 1
        judge.kill()
        try:
            eventually(lambda: left_behind(folder) == [])
            eventually(lambda: all(state(pid) in ("", "Z") for pid in inside))
        finally:
            os.kill(loader, signal.SIGKILL)
