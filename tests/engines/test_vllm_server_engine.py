"""The engine for vLLM servers against fake ones: who is asked, what happens when one misbehaves, and what crosses the network.

Real servers are in tests/vllm/test_server.py.
"""

import logging
import re
import threading
import time

import pytest
import torch

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.vllm_client import ServerClient
from rlsd_lightning.engines.vllm_server_engine import VLLMServerEngine
from rlsd_lightning.engines.vllm_transfer import pack
from rlsd_lightning.interfaces import (
    DescribesLogprobs,
    HasReplicas,
    NamesItsWeights,
    RolloutEngine,
    RunsElsewhere,
    StartsWithRanks,
    StreamsCompletions,
    TracesLayers,
)
from rlsd_lightning.types import Prompt, Sampling
from rlsd_lightning.weights import named_weights, tied_names, with_tied
from tests.helpers.fake_vllm import FakeServer, fake_servers
from tests.helpers.ranks import run_ranks

SAMPLING = Sampling(max_completion_tokens=3, seed=5)
GENERATE = "/inference/v1/generate"


@pytest.fixture
def servers():
    with fake_servers(2) as both:
        yield both


@pytest.fixture
def prompts():
    """Twelve prompts of three tokens."""
    return [
        Prompt(id=f"q{i}", token_ids=[1, 2, i], position_ids=torch.arange(3).unsqueeze(0))
        for i in range(12)
    ]


@pytest.fixture
def started(text_policy, tokenizer):
    """Return a function that gives an engine on servers, with the policy's weights there unless told otherwise."""
    engines = []

    def start(servers, synced=True, **settings):
        limits = {"start_timeout_s": 0.2, "sync_timeout_s": 30.0, "generate_timeout_s": 10.0}
        engine = VLLMServerEngine(
            [server.url for server in servers], temperature=1.0, **limits | settings
        )
        engine.bind(text_policy, tokenizer)
        engine.start()
        if synced:
            engine.load_weights(named_weights(text_policy), version=7)
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.close()


def tokens_of(groups):
    return [[completion.token_ids for completion in group] for group in groups]


def once(answer):
    """A misbehaviour that happens the first time only."""
    left = [answer]
    return lambda _: left.pop() if left else None


def test_the_engine_is_all_that_training_asks_for(servers, started):
    engine = started(servers, synced=False)
    for protocol in (
        RolloutEngine,
        StreamsCompletions,
        StartsWithRanks,
        RunsElsewhere,
        NamesItsWeights,
        TracesLayers,
        HasReplicas,
        DescribesLogprobs,
    ):
        assert isinstance(engine, protocol)
    assert engine.runs_elsewhere
    assert not engine.shares_policy_weights


# Who is asked


def once_there(count, servers):
    """A behaviour: answer when so many requests have come to these servers."""

    def wait(_):
        deadline = time.monotonic() + 10
        while sum(server.calls[GENERATE] for server in servers) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait


def test_servers_share_the_prompts_evenly(servers, started, prompts):
    for server in servers:
        server.before[GENERATE] = once_there(12, servers)
    groups = started(servers).generate(prompts, SAMPLING, group_size=2)
    assert [server.calls[GENERATE] for server in servers] == [6, 6]
    assert [len(group) for group in groups] == [2] * 12
    assert {c.weight_versions for group in groups for c in group} == {(7,)}


def test_a_slow_server_gets_less(servers, started, prompts):
    servers[0].before[GENERATE] = once_there(11, servers[1:])
    started(servers, requests_per_server=1).generate(prompts, SAMPLING, group_size=1)
    assert [server.calls[GENERATE] for server in servers] == [1, 11]


def test_it_does_not_matter_who_answers(servers, started, prompts):
    both = started(servers).generate(prompts, SAMPLING, group_size=2)
    alone = started(servers[:1]).generate(prompts[::-1], SAMPLING, group_size=2)[::-1]
    assert tokens_of(both) == tokens_of(alone)


def test_groups_come_as_they_are_done(servers, started, prompts):
    """One prompt waits until all others have been handed over."""
    others_are_there = threading.Event()
    for server in servers:
        server.before[GENERATE] = lambda body: (
            others_are_there.wait(5) and None if body["token_ids"][2] == 0 else None
        )
    arrived = []
    for place, _ in started(servers).generate_each(prompts, SAMPLING, group_size=1):
        arrived.append(place)
        if len(arrived) == 11:
            others_are_there.set()
    assert arrived[-1] == 0
    assert sorted(arrived) == list(range(12))


def test_a_greedy_group_is_one_completion_several_times(servers, started, prompts):
    greedy = Sampling(max_completion_tokens=3, temperature=0)
    [group] = started(servers).generate(prompts[:1], greedy, group_size=3)
    assert len({tuple(completion.token_ids) for completion in group}) == 1
    assert len(group) == 3


# Servers that misbehave


def test_what_a_dying_server_had_begun_is_done_by_the_other(servers, started, prompts, caplog):
    engine = started(servers)
    undisturbed = engine.generate(prompts, SAMPLING, group_size=2)
    servers[0].before[GENERATE] = lambda _: FakeServer.HANG_UP
    with caplog.at_level(logging.WARNING):
        disturbed = engine.generate(prompts, SAMPLING, group_size=2)
    assert tokens_of(disturbed) == tokens_of(undisturbed)
    [told] = caplog.messages
    assert f"rollout server {servers[0].url} is lost" in told


def test_a_replica_asks_its_own_server_while_that_is_there(servers, started, prompts):
    (first, one), (second, two) = started(servers).replicas()
    assert [first, second] == [server.url for server in servers]
    one.generate(prompts, SAMPLING, group_size=1)
    assert [server.calls[GENERATE] for server in servers] == [12, 0]
    servers[1].before[GENERATE] = lambda _: FakeServer.HANG_UP
    assert len(two.generate(prompts, SAMPLING, group_size=1)) == 12
    assert servers[0].calls[GENERATE] == 24


def test_a_server_that_does_not_answer_is_given_up(servers, started, prompts):
    servers[0].delay_s = 8.0
    engine = started(servers, request_timeout_s=1.0)
    begun = time.monotonic()
    assert len(engine.generate(prompts, SAMPLING, group_size=1)) == 12
    assert time.monotonic() - begun < 6.0
    assert len(servers[0].aborted) == servers[0].calls[GENERATE]


def test_the_last_server_that_dies_ends_the_run(servers, started, prompts):
    engine = started(servers)
    for server in servers:
        server.before[GENERATE] = lambda _: FakeServer.HANG_UP
    with pytest.raises(EngineError, match=r"none of the rollout servers .* is left") as told:
        engine.generate(prompts, SAMPLING, group_size=1)
    assert all(server.url in str(told.value) for server in servers)
    assert told.value.problem_id in {prompt.id for prompt in prompts}


def test_a_server_with_other_weights_is_not_used(servers, started, prompts, caplog):
    engine = started(servers)
    servers[1].version = "another-7"
    groups = engine.generate(prompts, SAMPLING, group_size=1)
    assert {c.weight_versions for group in groups for c in group} == {(7,)}
    assert f"{servers[1].url} is lost (its weights are not those of the last sync" in caplog.text


def test_an_engine_that_has_died_behind_its_server_is_a_lost_server(servers, started, prompts):
    engine = started(servers)
    servers[0].before[GENERATE] = lambda _: (500, {"error": {"message": "EngineCore died"}})
    servers[0].is_healthy = False
    assert len(engine.generate(prompts, SAMPLING, group_size=1)) == 12


@pytest.mark.parametrize("status", [400, 500])
def test_a_refused_request_names_its_problem_and_leaves_the_servers_usable(
    servers, started, prompts, status
):
    def refuse(body):
        return (status, {"error": {"message": "no"}}) if body["token_ids"][2] == 3 else None

    engine = started(servers)
    for server in servers:
        server.before[GENERATE] = refuse
    with pytest.raises(EngineError, match=f"refused problem 'q3': HTTP {status}: no") as told:
        engine.generate(prompts, SAMPLING, group_size=1)
    assert told.value.problem_id == "q3"
    for server in servers:
        server.before.clear()
    assert len(engine.generate(prompts, SAMPLING, group_size=1)) == 12


def test_a_request_over_which_servers_die_is_not_given_to_all_of_them(started, prompts):
    with fake_servers(5) as servers:
        engine = started(servers)
        for server in servers:
            server.before[GENERATE] = lambda body: (
                FakeServer.HANG_UP if body["token_ids"][2] == 3 else None
            )
        with pytest.raises(EngineError, match="'q3' was given to 4 rollout servers"):
            engine.generate(prompts, SAMPLING, group_size=1)
        for server in servers:
            server.before.clear()
        assert len(engine.generate(prompts, SAMPLING, group_size=1)) == 12


def test_a_request_that_somebody_else_breaks_off_is_asked_again(servers, started, prompts):
    engine = started(servers)
    aborted = {"choices": [{"finish_reason": "abort", "weight_versions": []}]}
    servers[0].before[GENERATE] = once((200, aborted))
    assert len(engine.generate(prompts, SAMPLING, group_size=1)) == 12
    assert sum(server.calls[GENERATE] for server in servers) == 13


def test_generating_ends_in_time_and_leaves_nothing_running(servers, started, prompts):
    engine = started(servers, generate_timeout_s=1.0)
    for server in servers:
        server.delay_s = 8.0
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r"12 of 12 groups are not there after 1 s"):
        engine.generate(prompts, SAMPLING, group_size=1)
    assert time.monotonic() - begun < 6.0
    assert [len(server.aborted) for server in servers] == [6, 6]


def test_whoever_stops_listening_leaves_nothing_running(servers, started, prompts):
    engine = started(servers)
    release, before = threading.Event(), set(threading.enumerate())
    for server in servers:
        server.before[GENERATE] = lambda body: body["token_ids"][2] and release.wait(5) and None
    for _ in engine.generate_each(prompts, SAMPLING, group_size=1):
        once_there(12, servers)(None)
        break
    assert sum(len(server.aborted) for server in servers) == 11
    new = set(threading.enumerate()) - before
    assert not [thread for thread in new if thread.name.startswith("rollouts")]
    release.set()


def test_log_probs_that_are_no_numbers_stop_the_run(servers, started, prompts):
    engine = started(servers[:1])
    cleared = servers[0].calls["rlsd_clear_kv_cache"]
    servers[0].logprob = -9999.0  # what vLLM makes of NaN
    with pytest.raises(EngineError, match="not finite") as told:
        engine.generate(prompts[:1], SAMPLING, group_size=1)
    assert told.value.problem_id == "q0"
    assert servers[0].calls["rlsd_clear_kv_cache"] == cleared + 1
    with pytest.raises(EngineError, match="do not have the policy's weights"):
        engine.generate(prompts[:1], SAMPLING, group_size=1)


def test_a_prompt_that_leaves_no_room_is_refused_before_anything_is_sent(servers, started, prompts):
    servers[1].settings["max_model_len"] = 5
    engine = started(servers)
    with pytest.raises(EngineError, match=r"'q0' has 3 tokens.*max_model_len is 5"):
        engine.generate(prompts, SAMPLING, group_size=1)
    assert sum(server.calls[GENERATE] for server in servers) == 0


def test_a_server_that_read_other_tokens_is_told(servers, started, prompts):
    answer = {"choices": [], "prompt_token_ids": [1, 2]}
    engine = started(servers[:1])
    servers[0].before[GENERATE] = lambda _: (200, answer)
    with pytest.raises(EngineError, match="vLLM read 2 tokens for the prompt of problem 'q0'"):
        engine.generate(prompts[:1], SAMPLING, group_size=1)


# Weights


def test_every_server_gets_every_weight_under_all_of_its_names(servers, started, text_policy):
    started(servers, bucket_gb=2e-6)
    wanted = dict(with_tied(named_weights(text_policy), tied_names(text_policy)))
    assert "lm_head.weight" in wanted
    for server in servers:
        assert server.calls["/update_weights"] > 3
        assert list(server.weights) == list(wanted)
        assert all(torch.equal(server.weights[name], wanted[name]) for name in wanted)
        assert re.fullmatch("[0-9a-f]{8}-7", server.version)


def test_no_completion_before_weights(servers, started, prompts):
    with pytest.raises(EngineError, match="do not have the policy's weights"):
        started(servers, synced=False).generate(prompts, SAMPLING, group_size=1)


def test_a_group_outlives_a_sync(servers, started, text_policy):
    engine = started(servers)
    engine.load_weights(named_weights(text_policy), version=8)
    assert [server.calls["/init_weight_transfer_engine"] for server in servers] == [1, 1]


@pytest.mark.parametrize("path", ["/pause", "/update_weights", "/finish_weight_update"])
def test_a_server_that_dies_in_a_sync_is_left_out(
    servers, started, text_policy, prompts, path, caplog
):
    engine = started(servers)
    servers[0].before[path] = lambda _: FakeServer.HANG_UP
    engine.load_weights(named_weights(text_policy), version=8)
    assert [url for url, _ in engine.replicas()] == [servers[1].url]
    assert len([told for told in caplog.messages if "is lost" in told]) == 1
    groups = engine.generate(prompts, SAMPLING, group_size=1)
    assert {c.weight_versions for group in groups for c in group} == {(8,)}


def test_a_server_that_hangs_in_a_sync_is_left_out_in_time(servers, started, text_policy, caplog):
    engine = started(servers, sync_timeout_s=3.0)
    over = threading.Event()
    servers[0].before["/update_weights"] = lambda _: over.wait(60.0)
    begun = time.monotonic()
    engine.load_weights(named_weights(text_policy), version=8)
    over.set()
    assert time.monotonic() - begun < 30.0
    assert "sending weights: no answer to /update_weights in 3 s" in caplog.text


def test_a_server_that_was_started_again_is_taken_in_at_the_next_sync(
    servers, started, text_policy, prompts, caplog
):
    engine = started(servers)
    servers[0].die()
    engine.load_weights(named_weights(text_policy), version=8)
    engine.load_weights(named_weights(text_policy), version=9)
    assert len([told for told in caplog.messages if "is lost" in told]) == 1
    servers[0].come_back()
    with caplog.at_level(logging.INFO):
        engine.load_weights(named_weights(text_policy), version=10)
    assert f"rollout server {servers[0].url} is back" in caplog.text
    assert len(engine.replicas()) == 2
    assert servers[0].weights.keys() == servers[1].weights.keys()
    engine.generate(prompts, SAMPLING, group_size=1)


def test_a_server_that_was_started_again_unnoticed_is_met_anew(servers, started, text_policy):
    engine = started(servers)
    servers[0].die()
    servers[0].come_back()
    engine.load_weights(named_weights(text_policy), version=8)
    assert len(engine.replicas()) == 2
    assert servers[0].weights.keys() == servers[1].weights.keys()


def test_when_no_server_takes_the_weights_the_run_ends(servers, started, text_policy, prompts):
    engine = started(servers)
    for server in servers:
        server.incomplete = ["model.layers.0.mlp"]
    with pytest.raises(
        EngineError, match=r"(?s)no rollout server has taken .*not filled, .* model\.layers\.0\.mlp"
    ):
        engine.load_weights(named_weights(text_policy), version=8)
    with pytest.raises(EngineError, match=r"none of the rollout servers|policy's weights"):
        engine.generate(prompts, SAMPLING, group_size=1)


def test_weights_that_are_no_numbers_are_not_put_into_place(servers, started, text_policy):
    engine = started(servers)
    before = [server.version for server in servers]
    with torch.no_grad():
        text_policy.model.model.norm.weight[3] = torch.nan
    with pytest.raises(EngineError, match=r"model\.norm\.weight holds values that are not finite"):
        engine.load_weights(named_weights(text_policy), version=8)
    assert [server.version for server in servers] == before
    for server in servers:
        assert server.calls["/resume"] == 2  # and is not left standing still
        assert server.calls["/finish_weight_update"] == 1


def test_weights_wait_for_a_generate_in_another_thread(servers, started, text_policy, prompts):
    engine = started(servers)
    begun = threading.Event()
    for server in servers:
        server.before[GENERATE] = lambda _: begun.set()
        server.delay_s = 0.2
    groups = []
    thread = threading.Thread(
        target=lambda: groups.extend(engine.generate(prompts, SAMPLING, group_size=1))
    )
    thread.start()
    begun.wait(5)
    engine.load_weights(named_weights(text_policy), version=8)
    assert len(groups) == 12
    thread.join()
    assert {c.weight_versions for group in groups for c in group} == {(7,)}


def test_names_are_compared_on_every_server(servers, started, text_policy):
    names = [name for name, _ in named_weights(text_policy)]
    for server in servers:
        server.names = [*names, "lm_head.weight"]
    engine = started(servers, synced=False)
    engine.check_names(names)
    servers[1].names.append("model.layers.9.mlp.up_proj.weight")
    with pytest.raises(EngineError, match=rf"{servers[1].url}.*model\.layers\.9\.mlp"):
        engine.check_names(names)


def test_buckets_hold_what_was_packed():
    """Types of every width, a scalar, a weight that is larger than a bucket, one that is not contiguous."""
    weights = {
        "half": torch.randn(5).to(torch.bfloat16),
        "one": torch.tensor(3.5),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "large": torch.randn(40, 3),
        "turned": torch.randn(3, 4).T,
        "last": torch.randn(2),
    }
    found = {}
    sizes = []
    for layout, buffer in pack(weights.items(), 64, torch.device("cpu")):
        assert layout.num_bytes == len(buffer)
        sizes.append(len(buffer))
        found |= {name: tensor.clone() for name, tensor in layout.unpack(buffer)}
    assert sizes == [48, 480, 64]
    assert list(found) == list(weights)
    for name, tensor in weights.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_bucket_is_good_while_the_next_is_filled():
    weights = [(str(i), torch.full((4,), float(i))) for i in range(4)]
    before = None
    for layout, buffer in pack(weights, 16, torch.device("cpu")):
        if before is not None:
            [(name, tensor)] = before[0].unpack(before[1])
            assert torch.equal(tensor, torch.full((4,), float(name)))
        before = layout, buffer


# Several ranks


def as_rank(servers, policy, tokenizer, do):
    """Return what a rank does with an engine of its own: what it returns, or the message of its error."""
    list(named_weights(policy))  # imports peft once, before ranks are forked

    def run(rank):
        engine = VLLMServerEngine(
            [server.url for server in servers], temperature=1.0, sync_timeout_s=10.0
        )
        engine.bind(policy, tokenizer)
        engine.start()
        try:
            return do(engine, rank)
        except EngineError as error:
            return str(error)
        finally:
            engine.close()

    return run


def test_one_rank_sends_the_weights_and_all_know_who_has_them(
    servers, text_policy, tokenizer, prompts
):
    servers[1].before["/start_weight_update"] = lambda _: (500, {"error": "no"})

    def do(engine, rank):
        engine.load_weights(named_weights(text_policy), version=3)
        groups = engine.generate(prompts[6 * rank : 6 * rank + 6], SAMPLING, group_size=1)
        return [url for url, _ in engine.replicas()], {c.weight_versions for [c] in groups}

    found = run_ranks(as_rank(servers, text_policy, tokenizer, do), 2)
    assert found == [([servers[0].url], {(3,)})] * 2
    assert servers[0].calls["/finish_weight_update"] == 1
    assert servers[0].calls[GENERATE] == 12


def test_no_rank_waits_for_one_whose_weights_are_no_numbers(servers, text_policy, tokenizer):
    def do(engine, rank):
        good = ((name, tensor) for name, tensor in named_weights(text_policy))
        bad = ((name, tensor * torch.nan) for name, tensor in named_weights(text_policy))
        engine.load_weights(bad if rank == 0 else good, version=3)

    sender, other = run_ranks(as_rank(servers, text_policy, tokenizer, do), 2)
    assert "not finite" in sender
    assert "rank 0 could not hand the weights over" in other


def test_one_rank_looks_into_a_server_and_all_see_it(servers, text_policy, tokenizer, prompts):
    def do(engine, rank):
        engine.load_weights(named_weights(text_policy), version=3)
        return engine.trace(prompts[0])

    servers[0].seen = {"model.layers.0": [1.0, 2.0]}
    assert (
        run_ranks(as_rank(servers, text_policy, tokenizer, do), 2)
        == [{"model.layers.0": (1.0, 2.0)}] * 2
    )
    assert servers[0].calls["rlsd_start_trace"] == 1


# Starting


def test_all_that_servers_lack_is_told_at_once(servers, text_policy, tokenizer):
    servers[0].settings |= {"backend": "nccl", "logprobs_mode": "processed_logprobs"}
    servers[0].paths = []
    servers[1].before["/collective_rpc"] = lambda _: (404, {"detail": "Not Found"})
    gone = FakeServer()
    gone.die()
    engine = VLLMServerEngine(
        [server.url for server in (*servers, gone)], temperature=1.0, start_timeout_s=0.1
    )
    with pytest.raises(EngineError) as told:
        engine.start()
    for fault in (
        f"{servers[0].url}: weight transfer is by nccl",
        f"{servers[0].url}: log-probs are processed_logprobs",
        f"{servers[0].url}: /inference/v1/generate is off",
        f"{servers[1].url}: its routes for training are off",
        f"{gone.url}: is not there",
    ):
        assert fault in str(told.value)


def test_a_server_without_this_package_is_told(servers):
    servers[0].before["/collective_rpc"] = lambda _: (500, {"error": "no rlsd_settings"})
    engine = VLLMServerEngine([servers[0].url], temperature=0.7, start_timeout_s=0.1)
    with pytest.raises(EngineError, match="its workers do not know this package"):
        engine.start()


def test_training_waits_for_servers_that_are_being_started(servers, started):
    servers[0].before["/health"] = once((503, None))
    started(servers[:1], start_timeout_s=5.0)


@pytest.mark.parametrize(
    ("addresses", "fault"),
    [
        ([], r"engine\.servers is \[\]"),
        (["http://a:1", "http://a:1"], "each once"),
        (["a:1"], "engine.servers holds 'a:1'"),
        (["https://a:1"], "http://HOST:PORT"),
    ],
)
def test_addresses_are_checked(addresses, fault):
    with pytest.raises(ValueError, match=fault):
        VLLMServerEngine(addresses, temperature=1.0)


def test_the_key_of_the_servers_is_sent(servers, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    seen = []
    usual = servers[0].answer
    servers[0].answer = lambda request, body: (
        seen.append(request.headers["Authorization"]),
        usual(request, body),
    )
    ServerClient(servers[0].url).is_healthy()
    assert seen == ["Bearer secret"]
