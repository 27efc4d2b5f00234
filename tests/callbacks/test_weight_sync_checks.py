"""A sync is proven: wrong names, values, weights and caches are found, and what is done then is what was asked for."""

import logging
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from rlsd_lightning.callbacks.weight_sync import WeightSync
from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.transformers_engine import TransformersEngine
from rlsd_lightning.layer_trace import LayerTrace
from rlsd_lightning.phase_watch import PhaseWatch
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate
from rlsd_lightning.types import Sampling
from rlsd_lightning.weight_check import fixed_prompts

LAYER = "model.language_model.layers.1.mlp.down_proj.weight"


class Copying(TransformersEngine):
    """Keeps a copy, as an engine in another process would; `spoil` changes weights on their way."""

    def __init__(self, spoil=lambda name, weight: weight, times=1000):
        super().__init__(shares_policy_weights=False)
        self.spoil, self.times = spoil, times
        self.num_loads = 0
        self.awake_when_asked = []

    def load_weights(self, named_tensors, version):
        self.num_loads += 1
        spoils = self.num_loads <= self.times
        super().load_weights(
            ((n, self.spoil(n, w) if spoils else w) for n, w in named_tensors), version
        )

    def generate(self, prompts, sampling, group_size):
        self.awake_when_asked.append(self._awake)
        return super().generate(prompts, sampling, group_size)

    def trace(self, prompt):
        watched = LayerTrace(self.policy.model)
        self.generate([prompt], Sampling(max_completion_tokens=1), 1)
        return watched.end()


class OneRank:
    """What WeightSync asks of a strategy."""

    root_device = torch.device("cpu")

    def __init__(self, others_fail=False):
        self.others_fail = others_fail

    def reduce_boolean_decision(self, decision, all):
        return decision or self.others_fail

    def reduce(self, tensor, reduce_op):
        assert reduce_op == "max"
        return tensor


def trainer(precision="32-true", strategy=None, step=3):
    return SimpleNamespace(
        strategy=strategy or OneRank(),
        global_step=step,
        global_rank=0,
        precision=precision,
        precision_plugin=SimpleNamespace(forward_context=nullcontext),
        state=SimpleNamespace(fn=TrainerFn.FITTING),
    )


@pytest.fixture
def module(policy, processor):
    template = PromptTemplate(
        student="{{ problem.prompt }}", teacher="{{ student }} {{ reference }}"
    )
    encoder = PromptEncoder(processor, template, policy.family)
    return SimpleNamespace(policy=policy, encoder=encoder, temperature=0.7, engine=None)


def sync(module, engine, trainer=None, **settings):
    engine.bind(module.policy, module.encoder.tokenizer)
    with torch.no_grad():
        module.policy.model.get_parameter(LAYER).mul_(1.1)
    module.engine = engine
    return WeightSync(**settings)._sync(trainer or globals()["trainer"](), module)


def louder(name, weight):
    return weight * 1.5 if name == LAYER else weight


def test_a_good_sync_tells_what_it_cost_and_found(module):
    engine = Copying()
    found = sync(module, engine)
    assert found["sync/logprob_gap"] < 1e-5
    assert 0 < found["sync/check_seconds"] < found["sync/seconds"]
    assert engine.awake_when_asked == [True]
    assert not engine._awake


def test_tokens_are_sampled_and_scored_in_the_trainers_precision(module):
    class Noting(Copying):
        seen = ()

        def generate(self, prompts, sampling, group_size):
            self.seen += (torch.is_autocast_enabled("cpu"),)
            return super().generate(prompts, sampling, group_size)

    engine, mixed = Noting(), trainer("bf16-mixed")
    mixed.precision_plugin.forward_context = lambda: torch.autocast("cpu", torch.bfloat16)
    found = sync(module, engine, mixed)
    assert engine.seen == (True,)
    assert found["sync/logprob_gap"] < 1e-2


def test_wrong_weights_stop_the_run_and_the_first_layer_that_differs_is_named(module):
    with pytest.raises(EngineError, match=r"version 3 .* differ .* by .* nats") as error:
        sync(module, Copying(louder))
    assert "engine: the first layer that differs is model.language_model.layers.1." in str(
        error.value
    )
    assert "callbacks.weight_sync.tolerance" in str(error.value)


def test_a_wrong_vision_tower_is_found_by_the_prompt_with_an_image(module):
    def blind(name, weight):
        return weight * 0.5 if name.endswith("visual.blocks.0.mlp.linear_fc2.weight") else weight

    with pytest.raises(EngineError, match=r"first layer that differs is model.visual.blocks.0.mlp"):
        sync(module, Copying(blind))


def test_where_no_layer_differs_the_rest_is_named(module):
    def other_norm(name, weight):
        return weight * 1.5 if name == "model.language_model.norm.weight" else weight

    with pytest.raises(EngineError, match="the final norm, the output embedding, or a cache"):
        sync(module, Copying(other_norm))


def test_a_second_try_may_help(module, caplog):
    engine = Copying(louder, times=1)
    with caplog.at_level(logging.WARNING):
        found = sync(module, engine, on_mismatch="resync")
    assert engine.num_loads == 2
    assert found["sync/logprob_gap"] < 1e-5
    assert "once more" in caplog.text
    with pytest.raises(EngineError, match="first layer"):
        sync(module, Copying(louder), on_mismatch="resync")


def test_a_warning_goes_on(module, caplog):
    found = sync(module, Copying(louder), on_mismatch="warn")
    assert found["sync/logprob_gap"] > 1e-3
    assert "the first layer that differs" in caplog.text


def test_how_much_is_too_much_depends_on_the_numbers_and_can_be_set(module):
    def a_little(name, weight):
        return weight * 1.002 if name == LAYER else weight

    with pytest.raises(EngineError, match=r"0.0001 is the most at 32 bits"):
        sync(module, Copying(a_little))
    assert sync(module, Copying(a_little), trainer("bf16-mixed"))["sync/logprob_gap"] > 1e-4
    assert sync(module, Copying(a_little), tolerance=0.1)["sync/logprob_gap"] > 1e-4


def test_values_that_are_no_numbers_are_never_close(module):
    class Muddled(Copying):
        def generate(self, prompts, sampling, group_size):
            for group in (groups := super().generate(prompts, sampling, group_size)):
                group[0].logprobs[0] = float("nan")
            return groups

    with pytest.raises(EngineError, match="by inf nats"):
        sync(module, Muddled(), tolerance=1e9)


def test_names_are_compared_before_anything_is_sent_and_once(module):
    class Strict(Copying):
        asked = 0

        def check_names(self, names):
            self.asked += 1
            if self.num_loads == 0 and len(names) != len(list(module.policy.model.parameters())):
                raise EngineError("names differ")

    engine = Strict()
    engine.bind(module.policy, module.encoder.tokenizer)
    module.engine = engine
    callback = WeightSync()
    callback._sync(trainer(), module)
    callback._sync(trainer(step=4), module)
    assert (engine.asked, engine.num_loads) == (1, 2)

    class Refusing(Copying):
        def check_names(self, names):
            raise EngineError("names differ")

    refusing = Refusing()
    with pytest.raises(EngineError, match="names differ"):
        sync(module, refusing)
    assert refusing.num_loads == 0


def test_when_another_ranks_engine_fails_this_one_stops_too(module):
    with pytest.raises(EngineError, match="another rank's engine failed"):
        sync(module, Copying(), trainer(strategy=OneRank(others_fail=True)))


def test_a_rank_whose_engine_fails_still_takes_all_weights(module):
    taken = []

    class Failing(Copying):
        def load_weights(self, named_tensors, version):
            next(iter(named_tensors))
            raise EngineError("no more")

    def counted(policy):
        for name, _ in policy.model.named_parameters():
            taken.append(name)
            yield name, policy.model.get_parameter(name)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rlsd_lightning.callbacks.weight_sync.named_weights", counted)
        with pytest.raises(EngineError, match="no more"):
            sync(module, Failing())
    assert len(taken) == len(list(module.policy.model.named_parameters()))


def test_an_evaluation_in_training_syncs_only_what_is_old(module):
    engine = Copying()
    engine.bind(module.policy, module.encoder.tokenizer)
    module.engine = engine
    callback, now = WeightSync(every_n_steps=2), trainer(step=4)
    callback.on_train_start(now, module)
    callback.on_validation_start(now, module)
    assert engine.num_loads == 1
    now.global_step = 5
    callback.on_validation_start(now, module)
    assert engine.num_loads == 2
    now.state.fn = TrainerFn.VALIDATING
    callback.on_validation_start(now, module)
    callback.on_test_start(now, module)
    callback.on_predict_start(now, module)
    assert engine.num_loads == 5


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"every_n_steps is 0. Set it to 1 or more"):
        WeightSync(every_n_steps=0)
    with pytest.raises(
        ValueError, match=r"on_mismatch is 'ignore'. Set it to stop, resync or warn"
    ):
        WeightSync(on_mismatch="ignore")


def test_the_fixed_prompts_fit_into_short_limits(policy, processor):
    template = PromptTemplate(
        student="{{ problem.prompt }}", teacher="{{ student }} {{ reference }}"
    )
    roomy = PromptEncoder(processor, template, policy.family)
    text, image = fixed_prompts(roomy)
    assert (len(text.images), len(image.images)) == (0, 1)
    tight = PromptEncoder(processor, template, policy.family, max_prompt_tokens=90)
    assert all(20 < len(prompt.token_ids) <= 90 for prompt in fixed_prompts(tight))
    assert [p.id for p in fixed_prompts(roomy)] == ["probe 0", "probe 1"]


def test_a_phase_that_takes_too_long_is_named_and_ends_the_process(monkeypatch, caplog):
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    watch = PhaseWatch("weight sync", 0.05, rank=2, advice="Look at the log.")
    with watch.phase("quick"):
        pass
    with watch.phase("handing weights over"):
        for _ in range(200):
            if ended:
                break
            time.sleep(0.01)
    assert ended == [75]
    assert "weight sync: rank 2 on " in caplog.text
    assert "in the phase 'handing weights over' for 0.05 s. Look at the log." in caplog.text
