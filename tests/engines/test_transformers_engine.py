"""The engine against transformers' generate, against the policy's own log-probs, and against itself in other batches."""

import pytest
import torch

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.transformers_engine import TransformersEngine, stop_token_ids
from rlsd_lightning.interfaces import RolloutEngine, StreamsCompletions
from rlsd_lightning.packing import image_batch, pack_rows
from rlsd_lightning.types import Sampling
from rlsd_lightning.weights import named_weights
from tests.helpers.fakes import BiasedPolicy


@pytest.fixture
def bound(tokenizer):
    """Return a function that binds an engine to a policy."""

    def bind(policy, **settings):
        engine = TransformersEngine(**settings)
        engine.bind(policy, tokenizer)
        return engine

    return bind


@pytest.fixture
def ending_policy(policy):
    """The tiny policy with the end of text made about as likely as 1 in 8: completions of very unequal lengths."""
    bias = torch.zeros(policy.head_weight.shape[0])
    bias[policy.model.generation_config.eos_token_id] = 5.0
    return BiasedPolicy(policy, bias)


def known_policy(policy, probabilities):
    """A policy that draws token i with probabilities[i], whatever it read."""
    bias = torch.full((policy.head_weight.shape[0],), -1e4)
    bias[: len(probabilities)] = torch.tensor(probabilities).log()
    return BiasedPolicy(policy, bias, scale=0.0)


def token_ids(groups):
    return [[completion.token_ids for completion in group] for group in groups]


def assert_same_logprobs(found, wanted):
    for group, other in zip(found, wanted, strict=True):
        for mine, theirs in zip(group, other, strict=True):
            torch.testing.assert_close(
                torch.tensor(mine.logprobs), torch.tensor(theirs.logprobs), atol=1e-5, rtol=0
            )


def policy_logprobs(policy, prompts, groups, temperature):
    """Score sampled completions the way training does. Per completion, [T]."""
    images = {image.key: image for prompt in prompts for image in prompt.images}
    completions = [c.token_ids for group in groups for c in group]
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(c) for c in completions], batch_first=True
    )
    mask = torch.arange(padded.shape[1]) < torch.tensor([len(c) for c in completions]).unsqueeze(1)
    units = [(p, [c.token_ids for c in group]) for p, group in zip(prompts, groups, strict=True)]
    rows = pack_rows(units, {key: i for i, key in enumerate(images)})
    with torch.no_grad():
        features = policy.encode_images(image_batch(list(images.values())))
        scored = policy.logprobs(rows, padded, mask, features, temperature)
    return [row[:length] for row, length in zip(scored, mask.sum(1), strict=True)]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_greedy_is_transformers_generate(policy, prompts, bound, implementation):
    """Prompts of unequal lengths with two, one and no images, in one batch here and one by one there."""
    policy.model.set_attn_implementation(implementation)
    sampling = Sampling(max_completion_tokens=12, temperature=0)
    found = bound(policy).generate(prompts, sampling, group_size=2)
    for prompt, group in zip(prompts, found, strict=True):
        wanted = generate(policy, prompt, 12)
        assert [completion.token_ids for completion in group] == [wanted, wanted]


def generate(policy, prompt, num_tokens):
    """Greedy decoding by transformers itself."""
    ids = torch.tensor([prompt.token_ids])
    inputs = {}
    if prompt.images:
        images = image_batch(prompt.images)
        inputs = {
            "pixel_values": images.pixel_values,
            "image_grid_thw": images.grids,
            "mm_token_type_ids": (ids == policy.family.image_token_id).int(),
        }
    banned = list(policy.family.placeholder_token_ids)
    output = policy.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=num_tokens,
        suppress_tokens=banned or None,
        pad_token_id=0,
        **inputs,
    )
    return output[0, ids.shape[1] :].tolist()


def test_greedy_is_transformers_generate_for_a_text_model(text_policy, text_prompts, bound):
    sampling = Sampling(max_completion_tokens=12, temperature=0)
    found = bound(text_policy).generate(text_prompts, sampling, group_size=1)
    assert [group[0].token_ids for group in found] == [
        generate(text_policy, prompt, 12) for prompt in text_prompts
    ]


def test_with_a_large_presence_penalty_no_token_comes_twice(ending_policy, prompts, bound):
    """Whatever rows are dropped on the way, each completion remembers what it holds itself."""
    settings = {"max_completion_tokens": 24, "top_k": 40, "seed": 5}
    plain = bound(ending_policy).generate(prompts, Sampling(**settings), group_size=3)
    assert any(len(set(c.token_ids)) < len(c.token_ids) for group in plain for c in group)
    penalised = Sampling(presence_penalty=1e4, **settings)
    for group in bound(ending_policy).generate(prompts, penalised, group_size=3):
        for completion in group:
            assert len(set(completion.token_ids)) == len(completion.token_ids)


@pytest.mark.parametrize("settings", [{}, {"top_k": 5, "top_p": 0.8}])
@pytest.mark.parametrize("temperature", [0.7, 1.6])
def test_logprobs_are_those_that_training_computes(policy, prompts, bound, temperature, settings):
    """Over the whole vocabulary, whatever top-k and top-p leave out."""
    sampling = Sampling(max_completion_tokens=9, temperature=temperature, seed=3, **settings)
    groups = bound(policy).generate(prompts, sampling, group_size=3)
    scored = iter(policy_logprobs(policy, prompts, groups, temperature))
    for completion in [completion for group in groups for completion in group]:
        found = torch.tensor(completion.logprobs)
        torch.testing.assert_close(found, next(scored), atol=1e-5, rtol=0)


def test_logprobs_are_those_that_training_computes_for_a_text_model(
    text_policy, text_prompts, bound
):
    sampling = Sampling(max_completion_tokens=9, temperature=0.8)
    groups = bound(text_policy).generate(text_prompts, sampling, group_size=2)
    scored = policy_logprobs(text_policy, text_prompts, groups, 0.8)
    for completion, wanted in zip([c for group in groups for c in group], scored, strict=True):
        torch.testing.assert_close(torch.tensor(completion.logprobs), wanted, atol=1e-5, rtol=0)


def test_a_draw_does_not_depend_on_the_rest_of_the_batch(ending_policy, prompts, bound):
    """All together, in another order, one by one, and in batches of 2: the same completions."""
    engine, sampling = bound(ending_policy), Sampling(max_completion_tokens=16, seed=5)
    together = engine.generate(prompts, sampling, group_size=4)
    turned = engine.generate(prompts[::-1], sampling, group_size=4)[::-1]
    alone = [engine.generate([prompt], sampling, group_size=4)[0] for prompt in prompts]
    in_pairs = bound(ending_policy, max_batch_prompts=2).generate(prompts, sampling, group_size=4)
    for other in (turned, alone, in_pairs):
        assert token_ids(other) == token_ids(together)
        assert_same_logprobs(other, together)


def test_a_draw_does_not_depend_on_the_size_of_its_group_or_the_limit(
    ending_policy, prompts, bound
):
    engine = bound(ending_policy)
    large = engine.generate(prompts, Sampling(max_completion_tokens=12), group_size=6)
    small = engine.generate(prompts, Sampling(max_completion_tokens=5), group_size=2)
    assert token_ids(small) == [[c.token_ids[:5] for c in group[:2]] for group in large]


def test_groups_that_are_finished_are_dropped_and_the_others_do_not_notice(
    ending_policy, prompts, bound, make_prompt
):
    """Many groups of two that end at different times: the completions are those of one group at a time."""
    many = [
        make_prompt(f"{prompt.id}{i}", "?" * i) for i, prompt in enumerate(prompts * 2, start=1)
    ] + prompts
    engine, sampling = bound(ending_policy), Sampling(max_completion_tokens=30, seed=1)
    rows = rows_of_passes(ending_policy)
    together = engine.generate(many, sampling, group_size=2)
    ends = sorted(max(len(c.token_ids) for c in group) for group in together)
    assert len(rows) == ends[-1] > ends[len(ends) // 2] + 3  # no pass after the last end
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] < len(many) / 2
    alone = [engine.generate([prompt], sampling, group_size=2)[0] for prompt in many]
    assert token_ids(alone) == token_ids(together)
    assert_same_logprobs(alone, together)


def rows_of_passes(policy):
    """Return a list that fills with the number of rows of each forward pass from now on."""
    rows = []
    layer = policy.model.model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    return rows


def test_completions_of_a_group_differ_and_another_seed_draws_others(policy, prompts, bound):
    engine = bound(policy)
    first = token_ids(engine.generate(prompts, Sampling(max_completion_tokens=8, seed=0), 4))
    again = token_ids(engine.generate(prompts, Sampling(max_completion_tokens=8, seed=0), 4))
    other = token_ids(engine.generate(prompts, Sampling(max_completion_tokens=8, seed=1), 4))
    assert first == again != other
    assert all(len({tuple(tokens) for tokens in group}) == 4 for group in first)


def test_sampled_frequencies_match_a_known_distribution(text_policy, text_prompts, bound):
    """4,000 completions of two tokens: each token by itself and the pairs."""
    known = torch.tensor([0.1, 0.2, 0.3, 0.4])
    engine = bound(known_policy(text_policy, known.tolist()))
    groups = [
        group
        for seed in range(8)
        for group in engine.generate(
            text_prompts[:1], Sampling(max_completion_tokens=2, seed=seed), group_size=500
        )
    ]
    drawn = torch.tensor([tokens for group in token_ids(groups) for tokens in group])
    pairs = torch.zeros(4, 4)
    pairs.index_put_((drawn[:, 0], drawn[:, 1]), torch.ones(len(drawn)), accumulate=True)
    pairs /= len(drawn)
    assert float((pairs.sum(1) - known).abs().sum() / 2) < 0.03
    assert float((pairs.sum(0) - known).abs().sum() / 2) < 0.03
    assert float((pairs - known.outer(known)).abs().sum() / 2) < 0.06


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_placeholders_are_never_sampled_even_when_the_logits_favour_them(
    policy, prompts, bound, temperature
):
    bias = torch.zeros(policy.head_weight.shape[0])
    bias[list(policy.family.placeholder_token_ids)] = 1e3
    sampling = Sampling(max_completion_tokens=6, temperature=temperature)
    groups = bound(BiasedPolicy(policy, bias)).generate(prompts, sampling, group_size=3)
    drawn = {token for group in token_ids(groups) for tokens in group for token in tokens}
    assert drawn.isdisjoint(policy.family.placeholder_token_ids)


def test_a_stop_token_ends_a_completion_and_the_limit_cuts_it(
    ending_policy, prompts, bound, tokenizer
):
    groups = bound(ending_policy).generate(prompts, Sampling(max_completion_tokens=6, seed=2), 8)
    completions = [completion for group in groups for completion in group]
    end = tokenizer.eos_token_id
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}
    for completion in completions:
        stopped = completion.finish_reason == "stop"
        assert completion.token_ids.count(end) == stopped
        assert (completion.token_ids[-1] == end) is stopped
        assert stopped or len(completion.token_ids) == 6
        assert len(completion.logprobs) == len(completion.token_ids)
        assert completion.text == tokenizer.decode(completion.token_ids, skip_special_tokens=True)


def test_a_stop_token_at_the_limit_is_a_stop(text_policy, text_prompts, bound, tokenizer):
    """The end of text is the only token there is: a completion of 1 token at a limit of 1."""
    always = torch.full((text_policy.head_weight.shape[0],), -1e4)
    always[tokenizer.eos_token_id] = 0.0
    engine = bound(BiasedPolicy(text_policy, always, scale=0.0))
    for limit in (1, 4):
        ((completion,),) = engine.generate(
            text_prompts[:1], Sampling(max_completion_tokens=limit), 1
        )
        assert completion.token_ids == [tokenizer.eos_token_id]
        assert (completion.finish_reason, completion.text) == ("stop", "")


def test_every_stop_token_of_the_generation_config_stops(text_policy, text_prompts, bound):
    text_policy.model.generation_config.eos_token_id = [3, 4]
    engine = bound(known_policy(text_policy, [0.4, 0.2, 0.2, 0.1, 0.1]))
    (group,) = engine.generate(text_prompts[:1], Sampling(max_completion_tokens=30), 40)
    last = {c.token_ids[-1] for c in group if c.finish_reason == "stop"}
    assert last == {3, 4}
    assert all(not {3, 4} & set(c.token_ids[:-1]) for c in group)


def test_stop_tokens_are_those_of_the_model_and_of_the_tokenizer(text_policy, tokenizer):
    text_policy.model.generation_config.eos_token_id = [3, 4]
    assert stop_token_ids(text_policy, tokenizer) == {3, 4, tokenizer.eos_token_id}


def test_a_model_that_never_stops_is_refused(text_policy):
    class NoEnd:
        eos_token_id = None

    text_policy.model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match="no end-of-text token"):
        stop_token_ids(text_policy, NoEnd())


def test_an_image_of_several_prompts_is_encoded_once(policy, prompts, bound):
    """The square of the first two prompts, the wide one and the low one: 16 + 24 + 8 patches."""
    seen = []
    policy.model.model.visual.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )
    bound(policy).generate(prompts, Sampling(max_completion_tokens=3), group_size=4)
    assert seen == [16 + 24 + 8]


def test_a_prompt_is_computed_once_per_group(policy, prompts, bound):
    """Of the first layer's tokens, S are the padded prompts'; each later pass has one token per branch."""
    seen = []
    layer = policy.model.model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[:2])))
    bound(policy).generate(prompts, Sampling(max_completion_tokens=3), group_size=5)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    assert seen == [(4, longest), (4, 5), (4, 5)]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_what_it_was_even_after_an_error(policy, prompts, bound, training):
    engine, sampling = bound(policy), Sampling(max_completion_tokens=2)
    policy.train(training)
    engine.generate(prompts, sampling, group_size=1)
    assert policy.training is policy.model.training is training
    with pytest.raises(TypeError):
        engine.generate(prompts, sampling, group_size="1")
    assert policy.training is training


def test_gradient_checkpointing_and_training_mode_do_not_change_a_draw(policy, prompts, bound):
    engine, sampling = bound(policy), Sampling(max_completion_tokens=6)
    wanted = token_ids(engine.generate(prompts, sampling, group_size=2))
    policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    policy.train()
    assert token_ids(engine.generate(prompts, sampling, group_size=2)) == wanted


def test_generating_leaves_no_graph_and_no_random_state_behind(policy, prompts, bound):
    before = torch.get_rng_state()
    bound(policy).generate(prompts, Sampling(max_completion_tokens=3), group_size=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None for weight in policy.parameters())


def test_a_shared_policy_is_always_current_and_takes_no_weights(policy, prompts, bound):
    engine, sampling = bound(policy), Sampling(max_completion_tokens=6)
    before = token_ids(engine.generate(prompts, sampling, group_size=2))
    shake(policy)
    assert token_ids(engine.generate(prompts, sampling, group_size=2)) != before
    with pytest.raises(ValueError, match="shares_policy_weights is true"):
        engine.load_weights(named_weights(policy), version=1)


def test_a_copy_is_stale_until_it_is_given_the_weights(policy, prompts, bound):
    engine, sampling = bound(policy, shares_policy_weights=False), Sampling(max_completion_tokens=6)
    assert not engine.shares_policy_weights
    before = engine.generate(prompts, sampling, group_size=2)
    shake(policy)
    assert token_ids(engine.generate(prompts, sampling, group_size=2)) == token_ids(before)
    engine.load_weights(named_weights(policy), version=1)
    after = engine.generate(prompts, sampling, group_size=2)
    wanted = bound(policy).generate(prompts, sampling, group_size=2)
    assert token_ids(after) == token_ids(wanted) != token_ids(before)
    assert_same_logprobs(after, wanted)
    assert not any(weight.requires_grad for weight in engine.policy.parameters())


def shake(policy):
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.05 * torch.randn_like(weight))


def test_batches_need_at_least_one_prompt():
    with pytest.raises(ValueError, match=r"max_batch_prompts is 0.*1 or more"):
        TransformersEngine(max_batch_prompts=0)


def test_no_prompts_give_no_groups(policy, bound):
    assert bound(policy).generate([], Sampling(max_completion_tokens=2), group_size=2) == []


def test_it_is_a_rollout_engine(policy, bound):
    engine = bound(policy)
    engine.sleep()
    engine.wake()
    assert isinstance(engine, RolloutEngine)
    assert isinstance(engine, StreamsCompletions)


def test_groups_are_handed_over_as_they_end_and_are_those_of_generate(
    ending_policy, prompts, bound, make_prompt
):
    """In batches of five: whoever ends first comes first, and of the passes still to come none has been made."""
    many = [make_prompt(f"{p.id}{i}", "?" * i) for i, p in enumerate(prompts * 2, start=1)]
    engine, sampling = bound(ending_policy), Sampling(max_completion_tokens=30, seed=1)
    engine.max_batch_prompts = 5
    wanted = engine.generate(many, sampling, 2)
    passes, arrived = rows_of_passes(ending_policy), {}
    for place, group in engine.generate_each(many, sampling, 2):
        arrived[place] = group, len(passes)
        assert torch.is_grad_enabled()  # whoever asks goes on as before
    assert sorted(arrived) == list(range(len(many)))
    for place, (group, _) in arrived.items():
        assert group == wanted[place]
    first_batch = [place for place in arrived if place < 5]
    lengths = [max(len(c.token_ids) for c in wanted[place]) for place in first_batch]
    assert lengths == sorted(lengths)
    assert list(arrived)[: len(first_batch)] == first_batch
    assert [
        arrived[place][1] for place in first_batch
    ] == lengths  # one pass per token, prompts' included


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nans_are_told_with_the_problem(bound, policy, prompts, temperature):
    engine = bound(policy)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.fill_(float("nan"))
    sampling = Sampling(max_completion_tokens=3, temperature=temperature)
    with pytest.raises(EngineError, match="completions of problem 'one' are not finite") as error:
        engine.generate(prompts[:2], sampling, 2)
    assert error.value.problem_id == "one"
