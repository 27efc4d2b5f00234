"""Two real vLLM servers of a model that sees images: equality with the policy after syncs, deaths, failures, ends.

They are started as a user starts them, and once for the whole file: half a minute each. The order of the tests
matters to their length only.
"""

import dataclasses
import threading
import time

import pytest
import torch

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.transformers_engine import TransformersEngine
from rlsd_lightning.engines.vllm_server_engine import VLLMServerEngine
from rlsd_lightning.types import Sampling
from rlsd_lightning.weight_check import first_layer_that_differs, fixed_prompts
from rlsd_lightning.weights import named_weights, weight_names
from tests.helpers.rollout_servers import Served
from tests.helpers.vllm_case import EXACT, Case, tokens

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(model_folders, tmp_path_factory):
    """Both servers."""
    folder = tmp_path_factory.mktemp("servers")
    both = [Served(model_folders["vl_tied"], folder) for _ in range(2)]
    yield [served.wait() for served in both]
    for served in both:
        served.tell()
    for served in both:
        served.end()


class ServerCase(Case):
    """The policy, an engine on servers, prompts with and without images."""

    def __init__(self, folder, urls):
        self.urls = urls
        super().__init__(folder)

    def make_engine(self, path, **settings):
        return VLLMServerEngine(
            self.urls, temperature=1.0, generate_timeout_s=120.0, sync_timeout_s=20.0
        )

    def many(self, count=24):
        """Prompts enough to keep both servers busy for a while."""
        return [
            dataclasses.replace(self.prompts[i % len(self.prompts)], id=f"many{i}")
            for i in range(count)
        ]


@pytest.fixture(scope="module")
def case(pair, model_folders):
    made = ServerCase(model_folders["vl_tied"], [served.url for served in pair])
    yield made
    made.engine.close()


def replace(pair, case, place):
    """Start a server that has died again, at its old address."""
    old = pair[place]
    old.end()
    pair[place] = Served(old.model, old.folder, old.port).wait()
    case.sync()
    assert len(case.engine.replicas()) == 2


def test_after_each_step_both_servers_sample_from_the_policys_weights(case):
    plain = TransformersEngine()
    plain.bind(case.policy, case.encoder.tokenizer)
    greedy = Sampling(max_completion_tokens=12, temperature=0.0)
    for _ in range(5):
        case.step()
        case.sync()
        ours = plain.generate(case.prompts, greedy, 1)
        for _, replica in case.engine.replicas():
            theirs = replica.generate(case.prompts, greedy, 2)
            assert tokens(theirs) == [group * 2 for group in tokens(ours)]
            assert {c.weight_versions for group in theirs for c in group} == {(case.version,)}
            case.engine, engine = replica, case.engine
            assert case.gap() <= EXACT
            case.engine = engine


def test_caches_hold_nothing_of_older_weights(case, monkeypatch):
    """Requests are made as if nothing in them told versions apart: only stopping for a sync empties the caches then."""
    request = VLLMServerEngine._request

    def plain(self, *arguments):
        made = request(self, *arguments)

        def body():
            sent = {k: v for k, v in made.body().items() if k != "cache_salt"}
            if "content_parts" in sent:
                parts = [{k: v for k, v in p.items() if k != "uuid"} for p in sent["content_parts"]]
                sent["content_parts"] = parts
            return sent

        return dataclasses.replace(made, body=body)

    monkeypatch.setattr(VLLMServerEngine, "_request", plain)
    assert case.gap() <= EXACT
    case.shake()
    case.sync()
    assert case.gap() <= EXACT


def test_without_emptied_caches_requests_still_tell_versions_apart(case, monkeypatch):
    assert case.gap() <= EXACT
    case.shake()
    for server in case.engine._servers:
        post = server.client.post

        def kept(path, *arguments, post=post, **named):
            path = path.replace("mode=wait", "mode=wait&clear_cache=false")
            return post(path, *arguments, **named)

        monkeypatch.setattr(server.client, "post", kept)
    case.sync()
    assert case.gap() <= EXACT


def test_names_of_weights_are_compared(case):
    names = weight_names(case.policy)
    case.engine.check_names(names)
    with pytest.raises(EngineError, match=r"model\.extra"):
        case.engine.check_names([*names, "model.extra"])


def test_layers_agree_and_a_changed_one_is_found(case):
    prompts = fixed_prompts(case.encoder)
    assert first_layer_that_differs(case.policy, case.engine, prompts, "32") is None
    name = next(n for n in weight_names(case.policy) if n.endswith("layers.1.mlp.down_proj.weight"))
    weight = case.policy.model.get_parameter(name)
    with torch.no_grad():
        weight.mul_(1.5)
        found = first_layer_that_differs(case.policy, case.engine, prompts, "32")
        weight.div_(1.5)
    assert found == name.removesuffix(".mlp.down_proj.weight")


def test_a_part_of_the_weights_is_refused_and_a_whole_sync_mends_it(case):
    left_out = next(
        n for n in weight_names(case.policy) if n.endswith("layers.0.mlp.up_proj.weight")
    )
    case.shake()
    some = ((name, tensor) for name, tensor in named_weights(case.policy) if name != left_out)
    with pytest.raises(EngineError, match=r"(?s)no rollout server has taken .*not filled"):
        case.engine.load_weights(some, case.version)
    case.sync()
    assert case.gap() <= EXACT


def test_a_weight_of_another_shape_is_refused_and_a_whole_sync_mends_it(case):
    case.shake()
    wrong = (
        (name, tensor[:-1] if name.endswith("layers.1.mlp.gate_proj.weight") else tensor)
        for name, tensor in named_weights(case.policy)
    )
    with pytest.raises(EngineError, match="no rollout server has taken the weights"):
        case.engine.load_weights(wrong, case.version)
    case.sync()
    assert case.gap() <= EXACT


def test_prompts_that_vllm_refuses_leave_the_others_usable(case, monkeypatch):
    """One that is too long, past our own check, and one with an image that is none."""
    before = tokens(case.sample())
    long = dataclasses.replace(case.prompts[0], id="long", token_ids=case.prompts[0].token_ids * 50)
    monkeypatch.setattr(case.engine, "_max_model_len", 10**6)
    with pytest.raises(EngineError, match="refused problem 'long': HTTP 400") as told:
        case.sample([*case.prompts, long])
    assert told.value.problem_id == "long"
    monkeypatch.setattr(
        "rlsd_lightning.engines.vllm_server_engine._as_url",
        lambda _: "data:image/png;base64,AAAA",
    )
    broken = dataclasses.replace(case.prompts[1], id="broken")
    with pytest.raises(EngineError, match="refused problem 'broken'"):
        case.sample([broken])
    monkeypatch.undo()
    assert tokens(case.sample()) == before


def test_whoever_stops_listening_leaves_nothing_running(case, pair):
    sampling = Sampling(max_completion_tokens=400, seed=1)
    for _ in case.engine.generate_each(case.many(), sampling, 4):
        break
    deadline = time.monotonic() + 5
    while sum(served.num_running() for served in pair) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [served.num_running() for served in pair] == [0, 0]
    assert case.gap() <= EXACT


def test_a_server_that_is_killed_while_it_samples_takes_nothing_along(case, pair, caplog):
    undisturbed = tokens(case.sample(case.many(), 4, max_completion_tokens=200))
    victim = pair[0]

    def kill():
        while victim.num_running() < 4:
            time.sleep(0.01)
        victim.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    disturbed = case.sample(case.many(), 4, max_completion_tokens=200)
    killer.join()
    assert tokens(disturbed) == undisturbed
    assert len([told for told in caplog.messages if f"{victim.url} is lost" in told]) == 1
    assert victim.process.wait(60) != 0
    assert "vLLM has ended by itself" in victim.log.read_text()
    assert not victim.left()


def test_a_server_that_is_started_again_is_taken_in_at_the_next_sync(case, pair):
    case.step()
    case.sync()
    assert [url for url, _ in case.engine.replicas()] == [pair[1].url]
    replace(pair, case, 0)
    assert case.gap() <= EXACT


def test_a_server_that_is_killed_in_a_sync_takes_nothing_along(case, pair):
    victim = pair[1]

    def dying():
        for count, pair_ in enumerate(named_weights(case.policy)):
            if count == 20:
                victim.kill()
            yield pair_

    case.shake()
    case.engine._sender._bucket_bytes = 20_000
    begun = time.monotonic()
    case.engine.load_weights(dying(), case.version)
    assert time.monotonic() - begun < 15
    assert [url for url, _ in case.engine.replicas()] == [pair[0].url]
    assert case.gap() <= EXACT


def test_told_to_end_a_server_leaves_no_process(case, pair):
    assert pair[0].end() != 0
    assert not pair[0].left()
    with pytest.raises(EngineError, match=r"none of the rollout servers .* is left"):
        case.sample()
