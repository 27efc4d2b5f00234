"""Asks a service of the user's own for the verdict: one POST per response, JSON both ways.

The service is sent

    {"id": ..., "prompt": ..., "answer": ..., "reference": ..., "kind": ..., "extra": {...}, "response": ...}

and answers with status 200 and

    {"reward": 0.5, "correct": false, "valid": true, "parts": {"tone": 1.0}, "reason": "..."}

of which reward and correct are needed. Images are not sent. A service that is down, slow or answers anything else says
nothing about the response, so that is never a reward of 0: it is asked again, and then the run stops, or the response is
not judged. The service is to give the same text the same verdict.
"""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from rlsd_lightning.data.canaries import KEY as CANARY
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import gold_response
from rlsd_lightning.verifiers.verdicts import not_judged, quoted

_MAX_ANSWER_BYTES = 2**20
_WORTH_ANOTHER_TRY = {408, 425, 429}
"""Statuses below 500 that may pass; the others say that the request itself is at fault."""
_KEYS = {"reward", "correct", "valid", "parts", "reason"}


class Http:
    """What a service says of the response.

    Args:
        url: where it listens, http:// or https://.
        timeout_s: for one answer, by the clock.
        retries: how often it is asked again when it gives none.
        backoff_s: pause before the first retry; each later one is twice as long.
        on_failure: when it gave no answer in all tries: "stop" the run, or "invalid": this response is not judged.
        headers: sent along, such as {Authorization: "Bearer ${oc.env:TOKEN}"}; never shown in messages.

    Example:
        >>> Http(url="ftp://judge")
        Traceback (most recent call last):
        ValueError: verifier.url is 'ftp://judge', but it must be http:// or https:// and a host. Write http://localhost:8000/judge, for example.
    """

    def __init__(
        self,
        *,
        url: str,
        timeout_s: float = 30.0,
        retries: int = 3,
        backoff_s: float = 0.5,
        on_failure: str = "stop",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        _check_url(url)
        if not 0 < timeout_s < math.inf or retries < 0 or backoff_s < 0:
            raise ValueError(
                f"Http: timeout_s is {timeout_s}, retries is {retries} and backoff_s is {backoff_s}, but timeout_s must "
                f"be more than 0 and the others not less. Keep the defaults if in doubt."
            )
        if on_failure not in ("stop", "invalid"):
            raise ValueError(
                f"Http: on_failure is {on_failure!r}, but it must be stop or invalid. Set one of them."
            )
        self.url = url
        self.timeout_s = timeout_s
        self.retries = retries
        self.backoff_s = backoff_s
        self.on_failure = on_failure
        self.headers = dict(headers or {})

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Return the service's verdict on `response`."""
        try:
            return self._ask(problem, response)
        except _NoVerdictError as error:
            if self.on_failure == "invalid":
                return not_judged(str(error))
            raise ValueError(
                f"{error}, but it must answer with a verdict. Look at the service and start the run again, or set "
                f"verifier.on_failure=invalid to go on without these responses."
            ) from error

    def check(self, problems: Iterable[Problem]) -> None:
        """Find out before training whether the service answers at all.

        Args:
            problems: only the first is used.

        Raises:
            ValueError: it gives no verdict on that problem's gold answer.
        """
        for problem in problems:
            try:
                self._ask(problem, gold_response(problem))
            except _NoVerdictError as error:
                raise ValueError(f"{error}. Start the service, or mend verifier.url.") from error
            return

    def _ask(self, problem: Problem, response: str) -> Verdict:
        body = _request(problem, response)
        fault = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.backoff_s * 2 ** (attempt - 1))
            try:
                return _read_verdict(self._post(body))
            except _FaultError as error:
                fault = str(error)
                if error.is_final:
                    break
        tries = "1 try" if attempt == 0 else f"{attempt + 1} tries"
        raise _NoVerdictError(
            f"verifier.url: {_shown(self.url)} gave no verdict on {problem.place} in {tries}: {fault}"
        )

    def _post(self, body: bytes) -> bytes:
        """Return what the service answers."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.url, data=body, headers=headers | self.headers)
        end = time.monotonic() + self.timeout_s
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as answer:
                return _read(answer, end)
        except urllib.error.HTTPError as error:
            with error:
                is_final = error.code < 500 and error.code not in _WORTH_ANOTHER_TRY
                raise _FaultError(f"it answered with status {error.code}", is_final) from None
        except TimeoutError:
            raise _FaultError(f"it took longer than {self.timeout_s:g} s") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _FaultError(f"it took longer than {self.timeout_s:g} s") from None
            raise _FaultError(f"it cannot be reached ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:
            raise _FaultError(f"it broke off ({error!r})") from None


class _FaultError(Exception):
    """What is wrong with one answer, in words that follow on "gave no verdict: "."""

    def __init__(self, fault: str, is_final: bool = False) -> None:
        super().__init__(fault)
        self.is_final = is_final
        """Asking again would change nothing."""


class _NoVerdictError(Exception):
    """All tries came to nothing."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nowhere: a POST would become a GET on the way."""

    def redirect_request(self, *_: Any) -> None:
        """Have the redirection told as a status."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def _request(problem: Problem, response: str) -> bytes:
    """Return what is sent.

    Raises:
        ValueError: the problem's extra holds what JSON cannot say.
    """
    extra = {name: value for name, value in problem.extra.items() if name != CANARY}
    fields = {
        "id": problem.id,
        "prompt": problem.prompt,
        "answer": problem.answer,
        "reference": problem.reference,
        "kind": problem.kind,
        "extra": extra,
        "response": response,
    }
    try:
        return json.dumps(fields, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{problem.place}: its extra cannot be sent as JSON ({error}). Keep texts, finite numbers, lists and "
            f"mappings in it."
        ) from None


def _read(answer: http.client.HTTPResponse, end: float) -> bytes:
    """Return the body of an answer, unless it takes too long or is too large."""
    pieces: list[bytes] = []
    size = 0
    while piece := answer.read1(2**16):
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_ANSWER_BYTES:
            raise _FaultError(f"it answered with more than {_MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > end:
            raise TimeoutError
    if answer.length:
        raise _FaultError(f"it broke off {answer.length} bytes before the end of its answer")
    return b"".join(pieces)


def _read_verdict(answer: bytes) -> Verdict:
    """Return the verdict that an answer spells out."""
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        raise _FaultError(
            f"it answered {quoted(answer.decode(errors='replace'))}, which is no JSON"
        ) from None
    fault = _fault(said)
    if fault:
        raise _FaultError(f"it answered {quoted(json.dumps(said))}, {fault}")
    return Verdict(
        reward=float(said["reward"]),
        correct=said["correct"],
        valid=said.get("valid", True),
        parts={name: float(value) for name, value in said.get("parts", {}).items()},
        reason=said.get("reason", ""),
    )


def _fault(said: Any) -> str:
    """Return what is wrong with a verdict; nothing if it is one."""
    if not isinstance(said, dict):
        return "which is no object"
    unknown = said.keys() - _KEYS
    if unknown:
        return f"where {sorted(unknown)[0]!a} is none of {', '.join(sorted(_KEYS))}"
    if not _is_number(said.get("reward")):
        return "where reward is no finite number"
    for name, default in (("correct", None), ("valid", True)):
        if not isinstance(said.get(name, default), bool):
            return f"where {name} is neither true nor false"
    parts = said.get("parts", {})
    if not isinstance(parts, dict) or not all(map(_is_number, parts.values())):
        return "where parts is no mapping of finite numbers"
    return "" if isinstance(said.get("reason", ""), str) else "where reason is no text"


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e300 < value < 1e300


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"verifier.url is {_shown(url)!r}, but it must be http:// or https:// and a host. Write "
            f"http://localhost:8000/judge, for example."
        )


def _shown(url: str) -> str:
    """Return a URL without what may be secret in it: a password, a query.

    Example:
        >>> _shown("https://me:secret@judge:8000/v1?key=abc")
        'https://judge:8000/v1'
    """
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
