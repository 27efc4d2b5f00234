"""A server that speaks as vLLM's does, as far as training listens, and misbehaves where it is told to."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from rlsd_lightning.engines.vllm_transfer import Layout, TransferGroup


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that has hung up is no news."""


class FakeServer:
    """Answers with tokens that depend on the request's seed alone.

    What stands in `before` by a path is called with the request's body; what it returns, a status and a body, is the
    answer, HANG_UP breaks the connection, and nothing leads to the usual answer.
    """

    HANG_UP = "hang up"

    def __init__(self, names=()):
        self.calls = Counter()
        self.aborted = []
        self.weights = {}
        self.version = "default"
        self.incomplete = []
        self.seen = {}
        self.logprob = -1.0
        self.settings = {
            "max_model_len": 512,
            "max_num_seqs": 64,
            "logprobs_mode": "raw_logprobs",
            "dtype": "float32",
            "backend": "rlsd_gloo",
        }
        self.names = list(names)
        self.paths = ["/inference/v1/generate"]
        self.is_healthy = True
        self.before = {}
        self.delay_s = 0.0
        self._group = None
        self._open()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _open(self, port=0):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                fake.answer(self, None)

            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                fake.answer(self, json.loads(self.rfile.read(length)) if length else None)

            def log_message(self, *_):
                pass

        self._server = QuietServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def die(self):
        """Be gone: no connection is taken any more."""
        self._server.shutdown()
        self._server.server_close()
        if self._group is not None:
            self._group.leave()

    def come_back(self):
        """Be a new process at the same address."""
        self.version, self._group, self.weights = "default", None, {}
        self._open(self.port)

    def answer(self, request, body):
        path = request.path.partition("?")[0]
        self.calls[path] += 1
        result = self.before.get(path, lambda _: None)(body) or None
        if result == self.HANG_UP:
            request.close_connection = True
            request.connection.close()
            return
        status, answer = result or self.usual(path, body)
        data = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def usual(self, path, body):
        if path == "/health":
            return (200, None) if self.is_healthy else (503, None)
        if path == "/openapi.json":
            return 200, {"paths": dict.fromkeys(self.paths)}
        if path == "/weight_info":
            return 200, {"weight_version": self.version}
        if path == "/get_world_size":
            return 200, {"world_size": 1}
        if path == "/collective_rpc":
            self.calls[body["method"]] += 1
            known = {
                "rlsd_settings": self.settings,
                "rlsd_weight_names": self.names,
                "rlsd_incomplete_layers": self.incomplete,
                "rlsd_end_trace": self.seen,
            }
            return 200, {"results": [known.get(body["method"])]}
        if path == "/inference/v1/generate":
            return self.generate(body)
        if path == "/abort_requests":
            self.aborted += body["request_ids"]
        if path == "/init_weight_transfer_engine":
            meeting = body["init_info"]
            self._group = TransferGroup.join(
                "gloo", meeting["host"], meeting["port"], 1, meeting["size"], meeting["timeout_s"]
            )
        if path == "/update_weights":
            layout = Layout(**body["update_info"])
            buffer = torch.empty(layout.num_bytes, dtype=torch.uint8)
            self._group.wait(self._group.broadcast(buffer))
            self.weights |= {name: tensor.clone() for name, tensor in layout.unpack(buffer)}
        if path == "/finish_weight_update":
            self.version = body["weight_version"]
        return 200, {}

    def generate(self, body):
        time.sleep(self.delay_s)
        params = body["sampling_params"]
        tokens = [(params["seed"] + place) % 250 for place in range(3)]
        spans = [{"version": self.version, "start": 0, "end": 3}]
        choices = [
            {
                "index": index,
                "finish_reason": "length",
                "token_ids": [(token + index) % 250 for token in tokens],
                "weight_versions": spans,
                "logprobs": {"content": [{"logprob": self.logprob} for _ in tokens]},
            }
            for index in range(params["n"])
        ]
        return 200, {"choices": choices, "prompt_token_ids": body["token_ids"]}


@contextmanager
def fake_servers(count, names=()):
    """Several of them, gone at the end."""
    servers = [FakeServer(names) for _ in range(count)]
    try:
        yield servers
    finally:
        for server in servers:
            server.die()
