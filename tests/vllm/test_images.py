"""What vLLM does with images, and what would go wrong.

Each trap was seen to make completions silently wrong with vLLM 0.32: with its guard taken away, a test shows that.
"""

import dataclasses

import pytest
import torch

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.types import Problem
from tests.helpers.vllm_case import EXACT, picture, tokens, without


def test_completions_do_not_depend_on_the_rest_of_the_batch(seeing):
    together = tokens(seeing.sample(group_size=4))
    apart = [tokens(seeing.sample([prompt], group_size=4))[0] for prompt in seeing.prompts]
    backwards = tokens(seeing.sample(seeing.prompts[::-1], group_size=4))[::-1]
    assert together == apart == backwards
    assert tokens(seeing.sample(group_size=2)) == [group[:2] for group in together]
    assert len({tuple(ids) for group in together for ids in group}) == 12
    assert tokens(seeing.sample(group_size=4, seed=6)) != together


def test_places_of_images_are_never_drawn(seeing):
    banned = set(seeing.policy.family.placeholder_token_ids)
    drawn = {t for group in seeing.sample(group_size=32) for c in group for t in c.token_ids}
    assert not drawn & banned
    guarded, seeing.engine._vocabulary = (
        seeing.engine._vocabulary,
        dataclasses.replace(seeing.engine._vocabulary, banned_ids=()),
    )
    unguarded = {t for group in seeing.sample(group_size=32) for c in group for t in c.token_ids}
    seeing.engine._vocabulary = guarded
    assert unguarded & banned  # an untrained model does write them


def test_an_images_features_would_be_those_of_older_weights(seeing, monkeypatch):
    def change_the_tower():
        seeing.version += 1
        with torch.no_grad():
            for weight in seeing.policy.model.model.visual.parameters():
                weight.mul_(1.3)

    seeing.gap()
    change_the_tower()
    monkeypatch.setattr(seeing.engine, "_forget_old_values", lambda: None)
    seeing.sync()
    assert seeing.gap() <= EXACT
    monkeypatch.setattr(seeing.engine, "_add", without(seeing.engine, "multi_modal_uuids"))
    seeing.gap()
    change_the_tower()
    seeing.sync()
    assert seeing.gap() > 0.01
    monkeypatch.undo()
    monkeypatch.setattr(seeing.engine, "_add", without(seeing.engine, "multi_modal_uuids"))
    seeing.sync()
    assert seeing.gap() <= EXACT


def test_ids_that_are_expanded_already_would_be_expanded_again(seeing, monkeypatch):
    monkeypatch.setattr(
        "rlsd_lightning.engines.vllm_engine.collapsed_ids", lambda _, prompt: prompt.token_ids
    )
    with pytest.raises(
        EngineError, match=r"vLLM read \d+ tokens for the prompt of problem 'q1'"
    ) as error:
        seeing.sample()
    assert error.value.problem_id == "q1"


def test_places_and_images_must_be_as_many(seeing):
    odd = dataclasses.replace(seeing.prompts[2], images=seeing.prompts[2].images[:1])
    with pytest.raises(EngineError, match="'q2' has 2 places for images, but 1 images"):
        seeing.sample([odd])


def test_an_image_that_cannot_be_read_is_named(seeing, tmp_path):
    path = tmp_path / "gone.png"
    picture(3).save(path)
    prompt = seeing.encoder.student(Problem(id="gone", prompt="what?", images=[str(path)]))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(EngineError, match=r"problem 'gone': image .* cannot be read"):
        seeing.sample([*seeing.prompts, prompt])
    assert seeing.gap() <= EXACT
