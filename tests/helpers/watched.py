"""A verifier under watch: what another one does to its process while it judges stands in the verdict's parts."""

import dataclasses
import os
import resource
import sys
import time

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OUTWARD = ("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "os.kill")
_seen = None


def _note(event, arguments):
    """Note what reaches out of the process, and files that are written, or read though they are none of Python's."""
    if _seen is None:
        return
    if event == "open":
        path, _, flags = arguments
        is_code = str(path).endswith((".py", ".pyc", ".so", ".json", ".zip"))
        if flags & WRITING or not (is_code or str(path).startswith(("/proc/self", sys.prefix))):
            _seen.append(f"open {path}")
    elif event.startswith(OUTWARD):
        _seen.append(event)


class Watched:
    """Judges as `verifier`; parts count what it reached for, the seconds of the processor, and the memory at its peak."""

    def __init__(self, verifier):
        self.verifier = verifier

    def verify(self, problem, response):
        global _seen
        if _note not in _hooked:
            sys.addaudithook(_note)
            _hooked.append(_note)
        _seen, start = [], time.process_time()
        try:
            verdict = self.verifier.verify(problem, response)
        finally:
            seen, _seen = _seen, None
        parts = {
            "reached_out": float(len(seen)),
            "cpu_s": time.process_time() - start,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        reason = f"{verdict.reason} {seen}" if seen else verdict.reason
        return dataclasses.replace(verdict, parts=verdict.parts | parts, reason=reason)


_hooked = []


class Reaching:
    """Reaches out as its response says, to see that the watch sees it."""

    def verify(self, problem, response):
        from rlsd_lightning.types import Verdict

        exec(response, {})
        return Verdict(0.0, False)
