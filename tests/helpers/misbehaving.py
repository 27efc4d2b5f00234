"""A verifier that does to its process what a response asks for: what hostile responses do to real ones."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rlsd_lightning.types import Verdict


class Misbehaving:
    """Carries out the first word of a response, with the rest as its argument; any other response is an answer.

    Arguments are put into reasons, so that equal verdicts mean equal work. Gold answers come in answer tags.
    """

    def __init__(self, name="first"):
        self.name = name

    def verify(self, problem, response):
        text = response.split("<answer>")[-1].removesuffix("</answer>")
        word, _, argument = text.partition(" ")
        act = ACTS.get(word)
        if act is not None:
            return act(argument)
        correct = text == problem.answer
        parts = {"length": len(response) / 3}
        return Verdict(float(correct), correct, parts=parts, reason=f"{self.name}: {text}")


class QuickToSay(Misbehaving):
    """Judges answers at once, and leaves to workers what does anything; of a response, its last line counts."""

    def verify(self, problem, response):
        return super().verify(problem, response.splitlines()[-1])

    def verify_quickly(self, problem, response):
        word, _, argument = response.splitlines()[-1].partition(" ")
        if word == "grumble":
            raise ValueError(argument)
        return None if word in ACTS else self.verify(problem, response)

    def what_counts(self, problem, response):
        return response.splitlines()[-1]


class BrokenToLoad:
    """Can be pickled, but not unpickled."""

    def __setstate__(self, state):
        raise ImportError("no module of that name over there")

    def __getstate__(self):
        return {"some": "state"}

    def verify(self, problem, response):
        return Verdict(0.0, False)


def hang(_):
    while True:
        time.sleep(60)


def hang_stubbornly(_):
    """Go on after every signal and every exception that can be gone on after."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            sum(range(10**6))
        except BaseException:
            continue


def hang_with_child(path):
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    Path(path).write_text(str(child.pid))
    hang("")


def crash_leaving_child(path):
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    with Path(path).open("a") as file:
        file.write(f"{child.pid}\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def crash(_):
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(code):
    os._exit(int(code))


def fill_memory(_):
    hoard = []
    while True:
        hoard.append(bytearray(2**22))


def fail_first(path):
    """Crash the first time and judge the second time."""
    return first_time(path, crash)


def raise_first(path):
    return first_time(path, lambda _: complain("for once"))


def first_time(path, act):
    if not Path(path).exists():
        Path(path).touch()
        act("")
    return Verdict(1.0, True, reason="the second time")


def complain(text):
    raise ValueError(text)


def complain_late(text):
    time.sleep(0.5)
    complain(text)


def break_down(text):
    raise ZeroDivisionError(text)


def quit_python(_):
    sys.exit(0)


def shout(_):
    for stream in (1, 2):
        os.write(stream, b"model text for the log\n")
    print("model text for the log", flush=True)
    return Verdict(1.0, True, reason="shouted")


def say_much(count):
    return Verdict(0.0, False, reason="x" * int(count))


def forge(text):
    """Send the trainer what is no answer, as a response that took its process over could."""
    for descriptor in range(3, 64):
        if Path(f"/proc/self/fd/{descriptor}").exists():
            with contextlib.suppress(OSError):
                os.write(descriptor, text.encode() + b"\n")
    hang("")


def count_in(path):
    """Note in a file that this was judged."""
    with Path(path).open("a") as file:
        file.write("judged\n")
    return Verdict(1.0, True, reason="noted")


def show_pid(_):
    time.sleep(0.05)
    return Verdict(0.0, False, reason=str(os.getpid()))


def odd_numbers(_):
    return Verdict(1, 1, parts={"half": "not a number"})


ACTS = {
    "hang": hang,
    "hang_stubbornly": hang_stubbornly,
    "hang_with_child": hang_with_child,
    "crash_leaving_child": crash_leaving_child,
    "crash": crash,
    "leave": leave,
    "fill_memory": fill_memory,
    "fail_first": fail_first,
    "raise_first": raise_first,
    "complain": complain,
    "complain_late": complain_late,
    "break_down": break_down,
    "quit_python": quit_python,
    "shout": shout,
    "forge": forge,
    "say_much": say_much,
    "count_in": count_in,
    "show_pid": show_pid,
    "odd_numbers": odd_numbers,
}
