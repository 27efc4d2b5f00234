"""A real server on this machine judges, fails, hangs and answers nonsense."""

import json
import pickle
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlsd_lightning.data.canaries import KEY, Canary
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import verify_batch
from rlsd_lightning.verifiers.http import Http

RIGHT = {"reward": 1.0, "correct": True}
PROBLEM = Problem(
    id="q1",
    prompt="2+2?",
    answer="4",
    reference="count",
    kind="sum",
    extra={"level": 3},
    location="train.jsonl:7",
)


class Service:
    """Answers the n-th request with the n-th script, the last one over and over; keeps what it was sent."""

    def __init__(self, *scripts):
        self.scripts, self.requests, self.headers = scripts, [], []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.requests.append(json.loads(body))
                service.headers.append(dict(self.headers))
                number = min(len(service.requests), len(service.scripts)) - 1
                service.scripts[number](self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/judge"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def says(content, status=200, headers=()):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def hangs(handler):
    time.sleep(1.5)


def drips(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def breaks_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


def http(service, **settings):
    return Http(url=service.url, **({"backoff_s": 0.01, "retries": 2} | settings))


def test_the_service_is_sent_the_problem_and_its_verdict_counts():
    full = {"reward": 0.5, "correct": False, "valid": True, "parts": {"tone": 1}, "reason": "rude"}
    with Service(says(full)) as service:
        verdict = http(service, headers={"Authorization": "Bearer x"}).verify(
            PROBLEM, "five \ud800"
        )
    assert verdict == Verdict(0.5, False, parts={"tone": 1.0}, reason="rude")
    assert service.headers[0]["Authorization"] == "Bearer x"
    assert service.headers[0]["Content-Type"] == "application/json"
    assert service.requests == [
        {
            "id": "q1",
            "prompt": "2+2?",
            "answer": "4",
            "reference": "count",
            "kind": "sum",
            "extra": {"level": 3},
            "response": "five \ud800",
        }
    ]


def test_reward_and_correct_are_enough_and_the_service_may_say_that_it_cannot_judge():
    with Service(says(RIGHT), says({"reward": 0, "correct": False, "valid": False})) as service:
        verifier = http(service)
        assert verifier.verify(PROBLEM, "4") == Verdict(1.0, True)
        assert verifier.verify(PROBLEM, "4") == Verdict(0.0, False, valid=False)


@pytest.mark.parametrize(
    ("failure", "fault"),
    [
        (says(b"", status=500), "it answered with status 500"),
        (says(b"", status=429), "it answered with status 429"),
        (hangs, "it took longer than 0.3 s"),
        (drips, "it took longer than 0.3 s"),
        (breaks_off, "it broke off"),
        (says(b"<html>"), "it answered '<html>', which is no JSON"),
        (says(b"[" * 100_000), "which is no JSON"),
        (says(b" " * 2**21), "more than 1048576 bytes"),
        (says([RIGHT]), "which is no object"),
        (says({"correct": True}), "where reward is no finite number"),
        (says({"reward": True, "correct": True}), "where reward is no finite number"),
        (says({"reward": "1", "correct": True}), "where reward is no finite number"),
        (says(b'{"reward": NaN, "correct": true}'), "where reward is no finite number"),
        (says(b'{"reward": 1e999, "correct": true}'), "where reward is no finite number"),
        (says(b'{"reward": 1' + b"0" * 400 + b', "correct": true}'), "where reward is no finite"),
        (says({"reward": 1}), "where correct is neither true nor false"),
        (says({"reward": 1, "correct": 1}), "where correct is neither true nor false"),
        (says(RIGHT | {"valid": None}), "where valid is neither true nor false"),
        (says(RIGHT | {"parts": {"a": "b"}}), "where parts is no mapping of finite numbers"),
        (says(RIGHT | {"parts": [1]}), "where parts is no mapping of finite numbers"),
        (says(RIGHT | {"reason": 1}), "where reason is no text"),
        (says(RIGHT | {"vaild": False}), "where 'vaild' is none of correct, parts, reason"),
    ],
)
def test_what_is_no_verdict_is_asked_again_and_never_a_wrong_answer(failure, fault):
    with Service(failure, failure, says(RIGHT), failure) as service:
        verifier = http(service, timeout_s=0.3)
        assert verifier.verify(PROBLEM, "4").correct  # the third time
        assert len(service.requests) == 3
        verifier.retries = 0
        with pytest.raises(
            ValueError, match=r"gave no verdict on problem 'q1' \(train.jsonl:7\) in 1 try"
        ) as caught:
            verifier.verify(PROBLEM, "4")
        assert fault in str(caught.value)
        verifier.on_failure = "invalid"
        verdict = verifier.verify(PROBLEM, "4")
        assert (verdict.reward, verdict.correct, verdict.valid) == (0, False, False)
        assert fault in verdict.reason


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 422])
def test_what_will_not_pass_is_not_asked_again(status):
    elsewhere = [("Location", "/elsewhere")]
    with Service(says(b"", status=status, headers=elsewhere)) as service:
        with pytest.raises(ValueError, match=f"in 1 try: it answered with status {status}"):
            http(service).verify(PROBLEM, "4")
        assert len(service.requests) == 1


def test_pauses_between_tries_double():
    with Service(says(b"", status=503)) as service:
        start = time.monotonic()
        with pytest.raises(ValueError, match="in 3 tries"):
            http(service, backoff_s=0.1).verify(PROBLEM, "4")
        assert 0.3 <= time.monotonic() - start < 2  # 0.1 s + 0.2 s


def test_a_service_that_is_down_is_told_at_the_start_and_stops_a_run_in_one_message():
    with Service(says(RIGHT)) as service:
        verifier = http(service)
        verifier.check(iter([PROBLEM, PROBLEM]))
        assert [request["response"] for request in service.requests] == [
            "<thought></thought><answer>4</answer>"
        ]
    with pytest.raises(
        ValueError, match=r"cannot be reached \(.*refused\)\. Start the service"
    ) as told:
        verifier.check([PROBLEM])
    assert str(told.value).startswith(f"verifier.url: {verifier.url} gave no verdict on problem")
    with pytest.raises(ValueError, match="Look at the service") as caught:
        verify_batch(verifier, [PROBLEM], ["4"])
    assert str(caught.value).count("train.jsonl:7") == 1
    verifier.check([])


def test_secrets_are_in_no_message():
    verifier = Http(
        url="http://me:hunter2@127.0.0.1:9/judge?key=hunter3", headers={"X": "hunter4"}, retries=0
    )
    with pytest.raises(ValueError, match=r"http://127.0.0.1:9/judge gave no verdict") as caught:
        verifier.verify(PROBLEM, "4")
    assert "hunter" not in str(caught.value)


def test_what_json_cannot_say_names_the_problem_and_what_a_run_plants_is_not_sent():
    planted = {KEY: Canary(answer="5", reference=None, control="6"), "level": 3}
    with Service(says(RIGHT)) as service:
        verifier = http(service)
        assert verifier.verify(Problem(id="1", prompt="", extra=planted), "4").correct
        assert service.requests[0]["extra"] == {"level": 3}
        for value in ({1, 2}, float("nan")):
            with pytest.raises(ValueError, match="problem '1': its extra cannot be sent as JSON"):
                verifier.verify(Problem(id="1", prompt="", extra={"level": value}), "4")


def test_a_copy_for_another_process_asks_the_same_service():
    with Service(says(RIGHT)) as service:
        assert pickle.loads(pickle.dumps(http(service))).verify(PROBLEM, "4").correct


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"url": "localhost:8000"}, "verifier.url is 'localhost:8000'"),
        ({"url": "file:///etc/passwd"}, "verifier.url is"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"timeout_s": float("inf")}, "timeout_s is inf"),
        ({"retries": -1}, "retries is -1"),
        ({"backoff_s": -1}, "backoff_s is -1"),
        ({"on_failure": "zero"}, "on_failure is 'zero', but it must be stop or invalid"),
    ],
)
def test_settings_without_sense_are_refused(settings, fault):
    with pytest.raises(ValueError, match=fault):
        Http(**({"url": "http://localhost"} | settings))
