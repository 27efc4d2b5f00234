"""What the text recipes' warm start reads is what a run reads, and how it scores is what the model says."""

from itertools import islice

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from rlsd_lightning.models import family_of
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.quickstart.questions import Questions
from rlsd_lightning.quickstart.text_model import build_text_model, build_text_tokenizer
from rlsd_lightning.quickstart.text_views import TextEncoder, encode_text_views
from rlsd_lightning.types import Problem

TASK = Questions()
EXERCISES = list(islice(TASK.draw(0), 6))


@pytest.fixture(scope="module")
def words():
    return build_text_tokenizer(TASK.words)


@pytest.fixture(scope="module")
def model(words):
    return build_text_model(words, seed=0).eval()


@pytest.fixture(scope="module")
def views(words):
    return encode_text_views(EXERCISES, words)


@pytest.fixture(scope="module")
def template():
    with initialize_config_module("rlsd_lightning.conf", version_base=None):
        return instantiate(compose("prompt/text_quickstart").prompt)


def test_prompts_are_those_of_a_run(views, words, model, template):
    encoder = PromptEncoder(words, template, family_of(model.config))
    for row, exercise in enumerate(EXERCISES):
        problem = Problem(id=str(row), prompt=exercise.question, answer=exercise.answer)
        for view, prompt in (
            (views.student, encoder.student(problem)),
            (views.teacher, encoder.teacher(problem)),
        ):
            kept = view.prompt_ids[row][view.attention_mask[row].bool()]
            assert kept.tolist() == prompt.token_ids
            assert view.attention_mask[row, -1] == 1  # padding stands on the left


def test_a_siblings_answer_is_shown_without_its_thought(template):
    problem = Problem(id="1", prompt="?", answer="SELECT 2")
    right = "<thought>t</thought><answer>SELECT 1</answer>"
    assert template.sibling_reference(problem, right, "").text == "SELECT 1"
    assert template.sibling_reference(problem, "", "").text == ""


@torch.no_grad()
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_scores_are_those_of_one_completion_at_a_time(side, views, model, words):
    view, rows = getattr(views, side), [0, 3, 5]
    batch = TextEncoder(words, TASK.facts).encode([EXERCISES[row].respond() for row in rows])
    together = view.completion_logits(model, rows, batch.token_ids)
    for place, row in enumerate(rows):
        prompt = view.prompt_ids[row][view.attention_mask[row].bool()]
        ids = batch.token_ids[place][batch.mask[place]]
        alone = model(input_ids=torch.cat([prompt, ids])[None]).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(together[place, : len(ids)], alone, atol=1e-4, rtol=0)


def test_facts_are_what_may_be_right_or_wrong(words):
    text = "<thought>staff city</thought><answer>SELECT AVG(pay) FROM staff WHERE city = 'Rome'</answer>"
    batch = TextEncoder(words, TASK.facts).encode([text, "<answer></answer>"])
    facts = words.convert_ids_to_tokens(batch.token_ids[0][batch.fact_mask[0]])
    assert facts == ["staff", "city", "AVG", "pay", "staff", "city", " = ", "Rome"]
    assert torch.equal(batch.reading_mask, batch.fact_mask)
    assert not batch.fact_mask[1].any()
    assert words.decode(batch.token_ids[1][batch.mask[1]]) == "<answer></answer><|im_end|>"
