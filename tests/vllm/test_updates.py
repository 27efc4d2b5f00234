"""Draws, updates and requests of a text model: what would go wrong, and what does.

Each trap was seen to make completions silently wrong with vLLM 0.32: with its guard taken away, a test shows that.
"""

import dataclasses
import signal
import time

import pytest

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.vllm_requests import request_seed
from rlsd_lightning.types import Sampling
from rlsd_lightning.weights import named_weights, weight_names
from tests.helpers.vllm_case import EXACT, LIMIT, tokens, without


def test_equal_prompts_of_two_problems_are_drawn_apart(text):
    twin = dataclasses.replace(text.prompts[0], id="twin")
    one, other = tokens(text.sample([text.prompts[0], twin]))
    assert one != other
    assert request_seed(5, "q0") < 2**62


def test_groups_come_one_by_one_and_are_those_of_generate(text):
    sampling = Sampling(max_completion_tokens=12, seed=5)
    arrived = dict(text.engine.generate_each(text.prompts, sampling, 3))
    assert tokens([arrived[place] for place in range(3)]) == tokens(text.sample())


def test_a_tied_output_embedding_would_keep_its_old_weights(text, monkeypatch):
    assert text.engine._tied == {"model.embed_tokens.weight": ["lm_head.weight"]}
    monkeypatch.setattr(text.engine, "_tied", {})
    with pytest.raises(EngineError, match=r"lm_head\.weight"):
        text.engine.check_names(weight_names(text.policy))
    text.shake()
    with pytest.raises(EngineError, match=r"only a part of 1 layers .* the first is lm_head"):
        text.sync()
    monkeypatch.setattr(text.engine, "_ask", lambda method: None)  # nobody looks whether all came
    text.sync()
    assert text.gap() > 0.1
    monkeypatch.undo()
    text.sync()
    assert text.gap() <= EXACT


def test_a_prompts_keys_and_values_would_be_those_of_older_weights(text, monkeypatch):
    text.gap()
    text.shake()
    monkeypatch.setattr(text.engine, "_forget_old_values", lambda: None)
    text.sync()
    assert text.gap() <= EXACT  # what is kept has the version in its key
    monkeypatch.setattr(text.engine, "_add", without(text.engine, "cache_salt"))
    text.gap()
    text.shake()
    text.sync()
    assert text.gap() > 0.1
    monkeypatch.undo()
    text.sync()
    monkeypatch.setattr(text.engine, "_add", without(text.engine, "cache_salt"))
    assert text.gap() <= EXACT  # emptying the cache is enough


def lacking(policy, name):
    return ((n, w) for n, w in named_weights(policy) if n != name)


def test_an_update_without_a_part_of_a_layer_is_refused(text):
    missing = (
        "model.layers.0.mlp.up_proj.weight"  # vLLM would fill the place with whatever lies there
    )
    text.shake()
    with pytest.raises(EngineError, match=r"the first is model.layers.0.mlp.gate_up_proj"):
        text.engine.load_weights(lacking(text.policy, missing), text.version)
    with pytest.raises(EngineError, match="no weights, or only a part of an update"):
        text.sample()
    text.sync()
    assert text.gap() <= EXACT


def broken(kind, policy):
    for name, weight in named_weights(policy):
        if name == "model.layers.1.mlp.down_proj.weight":
            if kind == "shape":
                weight = weight[:-1]
            elif kind == "nan":
                weight = weight.clone().fill_(float("nan"))
            elif kind == "interrupt":
                raise KeyboardInterrupt
        yield ("model.other" if kind == "name" and "layers.1" in name else name), weight


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("shape", EngineError, "vLLM failed while loading weights"),
        ("name", EngineError, "vLLM failed while loading weights: ValueError.*named 'other'"),
        (
            "nan",
            EngineError,
            "weight model.layers.1.mlp.down_proj.weight holds values that are not",
        ),
        ("interrupt", KeyboardInterrupt, "^$"),
    ],
)
def test_a_failed_update_can_be_made_good(text, kind, error, message):
    text.shake()
    with pytest.raises(error, match=message):
        text.engine.load_weights(broken(kind, text.policy), text.version)
    text.sync()
    assert text.gap() <= EXACT


def test_nans_are_found_and_do_not_spoil_what_comes_after(text, monkeypatch):
    monkeypatch.setattr("rlsd_lightning.engines.vllm_engine.finite", lambda named: named)
    text.shake()
    text.engine.load_weights(broken("nan", text.policy), text.version)
    with pytest.raises(
        EngineError, match="log-probs of a completion of problem 'q0' are not finite"
    ):
        text.sample(group_size=8)
    text.sync()
    for _ in range(3):
        assert text.gap(group_size=8) <= EXACT


def test_a_prompt_that_leaves_no_room_is_named(text):
    with pytest.raises(
        EngineError, match=r"'q0' has \d+ tokens.*engine.max_model_len is 768"
    ) as error:
        text.sample(max_completion_tokens=LIMIT)
    assert error.value.problem_id == "q0"
    assert text.gap() <= EXACT


@pytest.mark.parametrize("error", [RuntimeError("a kernel failed"), KeyboardInterrupt()])
def test_after_a_failed_step_the_next_call_does_not_wait(text, monkeypatch, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as failing:
        runner = text.engine._llm.llm_engine.model_executor.driver_worker.model_runner
        failing.setattr(runner, "execute_model", fail)
        kind = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else EngineError
        with pytest.raises(kind):
            text.sample()
    assert text.gap() <= EXACT


def test_who_stops_listening_leaves_nothing_running(text):
    sampling = Sampling(max_completion_tokens=200)
    listening = text.engine.generate_each(text.prompts, sampling, 2)
    next(listening)
    listening.close()
    assert not text.engine._llm.llm_engine.has_unfinished_requests()
    assert text.gap() <= EXACT


def test_a_step_that_hangs_ends_in_time(text, monkeypatch):
    monkeypatch.setattr(text.engine, "_timeout_s", 0.5)
    before = signal.getsignal(signal.SIGALRM)
    with monkeypatch.context() as hanging:
        hanging.setattr(text.engine._llm.llm_engine, "step", lambda: time.sleep(60))
        started = time.monotonic()
        with pytest.raises(
            EngineError, match=r"not finished a completion in 0.5 s.*engine.timeout_s"
        ):
            text.sample()
    assert time.monotonic() - started < 10
    assert signal.getsignal(signal.SIGALRM) is before
    assert text.gap() <= EXACT
