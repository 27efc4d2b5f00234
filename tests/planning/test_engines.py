"""Which engine a configuration has, and `plan` from the command line with each of them."""

import logging
import sys

import pytest

from rlsd_lightning.__main__ import main
from rlsd_lightning.planning.engines import ServingEngine
from tests.planning.paper import setup

EXPERIMENT = "experiment=rlsd_qwen3_vl_8b"


def test_vllm_beside_the_trainer():
    given = ("engine=vllm", "engine.tensor_parallel_size=2")
    assert setup(*given).engine == ServingEngine(
        num_servers=0,
        dtype="bfloat16",  # under bf16-mixed
        tensor_parallel_size=2,
        gpu_memory_utilization=0.5,
        kv_cache_gb=None,
        max_num_seqs=1024,
        max_model_len=262_144,  # the model's own
        sleep_level=1,
        is_eager=False,
    )


def test_servers_are_set_by_their_own_section():
    given = ("engine.servers=[http://a:1,http://b:1]", "serving.max_model_len=20480")
    found = setup("engine=vllm_server", *given, "serving.max_num_seqs=64").engine
    assert (found.num_servers, found.max_model_len, found.max_num_seqs) == (2, 20480, 64)
    assert (found.gpu_memory_utilization, found.sleep_level, found.bucket_gb) == (0.9, 0, 0.25)


def test_an_engine_that_nothing_is_known_of_is_told():
    with pytest.raises(ValueError, match=r"engine\._target_ is .*, of which plan does not know"):
        setup("engine._target_=rlsd_lightning.engines.sampling.draw")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Return a function that runs the command line in this process and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rlsd", "plan", *words])
        main()
        return capsys.readouterr().out

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def test_the_papers_run_fits_with_vllm(run):
    """0.5 x 141 GiB = 70.5, less 8.77e9 weights of 2 bytes = 16.3: 54.2 GiB for keys and values."""
    text = run(EXPERIMENT, "engine=vllm", "engine.max_model_len=20480")
    rows = {line.split("  ")[0]: line.split()[-4:] for line in text.splitlines() if "  " in line}
    assert rows["engine weights"] == ["16.3", "0.0", "0.0", "0.0"]
    assert rows["KV cache"] == ["54.2", "0.0", "0.0", "0.0"]
    assert "\nFits: NVIDIA H200 has 141 GiB" in text
    assert "The engine takes 17.5 GB of weights after every step." in text
    assert "its weights wait in the host's memory, 140.3 GB on a node" in text


def test_the_papers_run_says_what_to_change_with_vllm_in_float32(run):
    """A float32 engine cannot hold the 262,144 tokens that the model allows; in bfloat16 it does."""
    text = run(EXPERIMENT, "engine=vllm", "engine.dtype=float32")
    assert "vLLM would not start: the cache lacks 34.2 GiB" in text
    assert "  engine.dtype=bfloat16  " in text
    assert "None of it is enough" not in text


def test_servers_cost_the_trainer_nothing_but_what_is_sent(run):
    text = run(EXPERIMENT, "engine=vllm_server")
    rows = {line.split("  ")[0]: line.split()[-4:] for line in text.splitlines() if "  " in line}
    assert rows["engine weights"] == rows["KV cache"] == ["0.0"] * 4
    assert "Servers: 1, GPUs of each: 1" in text
    assert "17.5 GB of weights, 1,855.4 GB of keys and values" in text
    assert "A server takes 17.5 GB of weights after every step." in text
