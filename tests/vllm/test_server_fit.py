"""A whole run with two real servers, one of which is killed on the way; and a text model's server."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from rlsd_lightning.engines.vllm_client import ServerClient
from rlsd_lightning.engines.vllm_server_engine import VLLMServerEngine
from tests.helpers.rollout_servers import Served
from tests.helpers.vllm_case import EXACT, Case, tokens
from tests.helpers.workplace import SMALL, STEPS, checkpoint, make_workplace

pytestmark = pytest.mark.slow


def test_a_run_goes_on_to_its_end_when_a_server_is_killed(tmp_path):
    workplace = tmp_path / "workplace"
    workplace.mkdir()
    make_workplace(workplace)
    model = workplace / "data" / "quickstart" / "warm"
    both = [Served(model, tmp_path / "servers") for _ in range(2)]
    try:
        for served in both:
            served.wait()
        addresses = ",".join(served.url for served in both)
        words = ("engine=vllm_server", f"engine.servers=[{addresses}]")
        fit = subprocess.Popen(
            [sys.executable, "-m", "rlsd_lightning", "fit", *SMALL, *words],
            cwd=workplace,
            env=os.environ | {"PYTHONPATH": str(workplace), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        victim = both[0]
        while fit.poll() is None and not version_of(victim).endswith("-2"):
            time.sleep(0.05)
        victim.kill()
        said, _ = fit.communicate(timeout=600)
    finally:
        for served in both:
            served.tell()
        for served in both:
            served.end()
    assert fit.returncode == 0, said
    assert said.count(f"rollout server {victim.url} is lost") == 1
    assert checkpoint(workplace, "runs")["global_step"] == STEPS
    (path,) = (workplace / "runs").rglob("metrics.csv")
    with path.open() as file:
        steps = [row for row in csv.DictReader(file) if row["loss/policy"]]
    assert len(steps) == STEPS
    assert all(float(row["sync/logprob_gap"]) < 1e-4 for row in steps)
    assert all(abs(float(row["loss/sampler_gap"])) < 1e-4 for row in steps)
    for served in both:
        assert not served.left()


def version_of(served):
    return ServerClient(served.url).get("/weight_info")["weight_version"]


class TextCase(Case):
    def __init__(self, folder, url):
        self.url = url
        super().__init__(folder)

    def make_engine(self, path, **settings):
        return VLLMServerEngine([self.url], temperature=1.0, generate_timeout_s=120.0)


def test_a_text_model_needs_no_weights_to_start_and_ends_with_whoever_started_it(
    model_folders, tmp_path
):
    served = Served(model_folders["text_tied"], tmp_path / "servers").wait()
    try:
        case = TextCase(model_folders["text_tied"], served.url)
        assert case.gap() <= EXACT
        for _ in range(5):
            case.step()
            case.sync()
            assert case.gap() <= EXACT
        drawn = tokens(case.sample(group_size=4))
        apart = [tokens(case.sample([prompt], group_size=4))[0] for prompt in case.prompts]
        assert drawn == apart
        with torch.no_grad():
            for weight in case.policy.parameters():
                weight.zero_()
        case.sync()
        assert case.gap() <= EXACT
        case.engine.close()
    finally:
        served.tell(signal.SIGKILL)
    served.end()
    assert not served.left()
