"""What vLLM is started with, and that nothing is left when it is to end. A stand-in for vLLM answers here."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlsd_lightning.quickstart.text_model import build_text_model
from rlsd_lightning.quickstart.tiny_model import build_model
from rlsd_lightning.serve import RolloutServing
from tests.helpers.rollout_servers import free_port, state

STAND_IN = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

below = subprocess.Popen(["sleep", "1000"])
print(below.pid, file=open(sys.argv[2], "w"), flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory, processor):
    """A model that reads text and one that sees images, on disk."""
    parent = tmp_path_factory.mktemp("models")
    build_text_model(processor.tokenizer, seed=0).save_pretrained(parent / "text")
    processor.tokenizer.save_pretrained(parent / "text")
    build_model(processor.tokenizer, seed=0).save_pretrained(parent / "vl")
    processor.save_pretrained(parent / "vl")
    return parent


def serving(path, **settings):
    return RolloutServing(str(path), dtype="float32", **{"temperature": 1.0} | settings)


@pytest.mark.parametrize(
    ("temperature", "mode"), [(1.0, "raw_logprobs"), (0.7, "processed_logprobs")]
)
def test_log_probs_come_in_the_form_that_training_compares_with(folders, temperature, mode):
    words = serving(folders / "text", temperature=temperature).command()
    assert f"--logprobs-mode={mode}" in words


def test_only_a_model_that_sees_images_reads_its_checkpoint(folders):
    text = serving(folders / "text").command()
    assert "--load-format=dummy" in text
    assert not [word for word in text if word.startswith("--limit-mm")]
    seeing = serving(folders / "vl", max_images_per_prompt=3).command()
    assert "--load-format=auto" in seeing
    assert '--limit-mm-per-prompt={"image": 3, "video": 0}' in seeing


def test_options_have_the_last_word(folders):
    words = serving(folders / "text", options={"max_num_seqs": 7, "block_size": None}).command()
    assert "--max-num-seqs=7" in words
    assert not [word for word in words if word.startswith("--block-size")]


def test_an_address_on_all_interfaces_is_told_by_the_hosts_name(folders):
    assert serving(folders / "text", host="0.0.0.0").url == f"http://{socket.gethostname()}:8765"


def test_a_port_in_use_is_told_before_anything_is_started(folders):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=rf"serving\.port {port}, at which .* cannot listen"):
            serving(folders / "text", port=port).run()


def test_a_transfer_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match=r"serving\.transfer is 'ipc'"):
        serving("model", transfer="ipc")


class StandIn(RolloutServing):
    """Starts something else than vLLM."""

    words: tuple[str, ...] = ()

    def command(self):
        return [sys.executable, "-c", *self.words]


def test_a_server_that_does_not_start_is_told():
    fake = StandIn("model", dtype="float32", temperature=1.0, port=free_port())
    fake.words = ("raise SystemExit(3)",)
    with pytest.raises(ChildProcessError, match="status 3 before it was ready"):
        fake.run()


def test_a_server_that_is_never_ready_is_told_and_ended():
    fake = StandIn("model", dtype="float32", temperature=1.0, port=free_port(), start_timeout_s=0.1)
    fake.words = ("import time; time.sleep(1000)",)
    with pytest.raises(TimeoutError, match=r"not ready after 0\.1 s"):
        fake.run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_ends_the_server_and_what_that_has_started(tmp_path, capfd, number):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background
    try:
        check_that_it_ends(tmp_path, capfd, number)
    finally:
        signal.signal(signal.SIGINT, before)


def check_that_it_ends(tmp_path, capfd, number):
    port, file = free_port(), tmp_path / "below"
    fake = StandIn("model", dtype="float32", temperature=1.0, port=port)
    fake.words = (STAND_IN, str(port), str(file))
    seen = []
    deadline = time.monotonic() + 20

    def end():
        while "is ready" not in "".join(seen) and time.monotonic() < deadline:
            seen.append(capfd.readouterr().out)
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    ender = threading.Thread(target=end)
    ender.start()
    with pytest.raises(KeyboardInterrupt):
        fake.run()
    ender.join()
    assert f"'engine.servers=[http://127.0.0.1:{port}]'" in "".join(seen)
    below = int(file.read_text())
    while state(below) not in ("", "Z") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state(below) in ("", "Z")


@pytest.mark.parametrize(("status", "starts"), [(130, 1), (3, 3)])
def test_the_job_script_writes_the_addresses_and_starts_a_server_again_that_has_died(
    tmp_path, status, starts
):
    """With stand-ins for SLURM's programs: two hosts with two servers each, of which one task is run."""
    stand_ins = {
        "scontrol": "echo hostA; echo hostB",
        "srun": 'shift; SLURM_LOCALID=1 "$@"',
        "python": f'echo "$@"; exit {status}',
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "5", "SLURM_JOB_NODELIST": "x", "SLURM_NTASKS_PER_NODE": "2"}
    script = Path(__file__).parents[1] / "scripts" / "slurm" / "serve_rollouts.sbatch"
    done = subprocess.run(
        ["bash", script, "model.path=a b"],
        cwd=tmp_path,
        env=os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    servers = ",".join(f"http://host{host}:{port}" for host in "AB" for port in (8765, 8766))
    addresses, *started = done.stdout.splitlines()
    assert addresses == f"engine.servers=[{servers}]"
    assert (tmp_path / "rollout_servers_5").read_text().strip() == addresses
    words = "-m rlsd_lightning serve-rollouts serving.host=0.0.0.0 serving.port=8766 model.path=a b"
    assert started == [words] * starts
    assert done.returncode == (0 if status == 130 else status)
