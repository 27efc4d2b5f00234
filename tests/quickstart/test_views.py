"""What the warm start reads is what a run reads, and how it scores is what the model says."""

from itertools import islice

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from rlsd_lightning.models import family_of
from rlsd_lightning.prompts import PromptEncoder
from rlsd_lightning.quickstart.demonstrations import Encoder, citing, clean
from rlsd_lightning.quickstart.digits import Digits
from rlsd_lightning.quickstart.shapes import Shapes, draw_puzzles
from rlsd_lightning.quickstart.task import reference
from rlsd_lightning.quickstart.tiny_model import build_model
from rlsd_lightning.quickstart.views import encode_views
from rlsd_lightning.types import Problem

PUZZLES = list(islice(draw_puzzles("tests", Shapes()), 6))


@pytest.fixture(scope="module")
def model(tokenizer):
    return build_model(tokenizer, seed=0).eval()


@pytest.fixture(scope="module")
def views(processor, model):
    return encode_views(PUZZLES, processor, model)


def test_prompts_are_those_of_a_run(views, processor, model):
    with initialize_config_module("rlsd_lightning.conf", version_base=None):
        template = instantiate(compose("prompt/quickstart").prompt)
    encoder = PromptEncoder(processor, template, family_of(model.config))
    for row, puzzle in enumerate(PUZZLES):
        problem = Problem(
            id=str(row),
            prompt=puzzle.question,
            images=[puzzle.render()],
            answer=str(sum(puzzle.readings)),
            reference=reference(puzzle),
            kind="numerical",
        )
        for view, prompt in (
            (views.student, encoder.student(problem)),
            (views.teacher, encoder.teacher(problem)),
        ):
            assert view.prompt_ids[row].tolist() == prompt.token_ids
            assert torch.equal(view.position_ids[:, 0], prompt.position_ids)
            assert torch.equal(view.pixel_values[row], prompt.images[0].pixel_values)


def test_lengths_of_the_short_form(views):
    assert views.student.prompt_ids.shape == (6, 24)
    assert views.teacher.prompt_ids.shape == (6, 53)


@pytest.mark.parametrize(("num_digits", "student", "teacher"), [(3, 23, 49), (5, 25, 67)])
def test_all_prompts_of_digits_have_one_length(num_digits, student, teacher, processor, model):
    # Behind the question: " reference: " 4, digits and spaces 2n - 1, a sum 6, " -> 5" 5 tokens.
    puzzles = list(islice(Digits(num_digits).draw(seed=0).train, 20))
    views = encode_views(puzzles, processor, model)
    assert views.student.prompt_ids.shape == (20, student)
    assert views.teacher.prompt_ids.shape == (20, teacher)


@torch.no_grad()
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_scores_are_those_of_one_completion_at_a_time(side, views, model, tokenizer):
    view = getattr(views, side)
    texts = [clean(PUZZLES[0]), citing(PUZZLES[3]), clean(PUZZLES[5])]
    batch = Encoder(tokenizer, num_readings=3).encode(texts)
    together = view.completion_logits(model, [0, 3, 5], batch.token_ids)
    for place, row in enumerate([0, 3, 5]):
        ids = batch.token_ids[place][batch.mask[place]]
        alone = model(
            input_ids=torch.cat([view.prompt_ids[row], ids])[None],
            attention_mask=torch.ones(1, view.prompt_ids.shape[1] + len(ids), dtype=torch.long),
            mm_token_type_ids=torch.cat([view.mm_token_type_ids[row], torch.zeros_like(ids)])[None],
            pixel_values=view.pixel_values[row],
            image_grid_thw=view.grids[row : row + 1],
        ).logits[0, view.prompt_ids.shape[1] - 1 : -1]
        torch.testing.assert_close(together[place, : len(ids)], alone, atol=1e-4, rtol=0)
