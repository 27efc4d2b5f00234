"""The tiny model's folder: tokens, chat format, images, weights."""

import random
from itertools import islice

import jinja2
import pytest
import torch

from rlsd_lightning.quickstart.demonstrations import citing, clean, sloppy
from rlsd_lightning.quickstart.shapes import Shapes, draw_puzzles
from rlsd_lightning.quickstart.task import reference
from rlsd_lightning.quickstart.tiny_model import SPECIAL_TOKENS, WORDS, build_model

PUZZLES = list(islice(draw_puzzles("tests", Shapes(6, 5)), 50))
IMAGE_TURN = [{"type": "image"}, {"type": "text", "text": "red+blue"}]


def chat(processor, messages, **options):
    return processor.apply_chat_template(messages, tokenize=False, **options)


def test_every_demonstration_survives_the_round_trip(tokenizer):
    rng = random.Random(0)
    for puzzle in PUZZLES:
        for text in (clean(puzzle), citing(puzzle), sloppy(puzzle, 0.5, rng), reference(puzzle)):
            assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["", " a  b\n\t", "evergreen", "Zweiundzwanzig \u00e4\u00f6\u00fc \u20ac", "<thought"]
)
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("word", [*SPECIAL_TOKENS, *WORDS])
def test_special_tokens_and_words_are_one_token(tokenizer, word):
    assert len(tokenizer.encode(word)) == 1


def test_only_special_tokens_are_left_out_of_decoded_text(tokenizer):
    ids = tokenizer.encode("<|im_start|><thought>red1</thought><|im_end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<thought>red1</thought>"


def test_end_and_padding_are_different_tokens(tokenizer):
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_chat_format_with_system_image_and_open_assistant(processor):
    messages = [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": IMAGE_TURN},
    ]
    assert chat(processor, messages, add_generation_prompt=True) == (
        "<|im_start|>system\nCount.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>red+blue<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_chat_format_of_a_finished_conversation(processor):
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "1+1"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "2"}]},
    ]
    assert chat(processor, messages) == (
        "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
    )


def test_unknown_message_parts_are_refused(processor):
    with pytest.raises(jinja2.TemplateError, match="audio"):
        chat(processor, [{"role": "user", "content": [{"type": "audio"}]}])


def test_an_image_of_the_data_set_is_nine_tokens(processor, tokenizer):
    text = chat(processor, [{"role": "user", "content": IMAGE_TURN}], add_generation_prompt=True)
    batch = processor(text=[text], images=[PUZZLES[0].render()], return_tensors="pt")
    image_tokens = batch["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert image_tokens.sum() == 9
    assert torch.equal(image_tokens, batch["mm_token_type_ids"] == 1)
    assert batch["image_grid_thw"].tolist() == [[1, 6, 6]]


def test_the_model_is_tiny_tied_and_fits_the_tokenizer(tokenizer):
    model = build_model(tokenizer, seed=0)
    assert sum(weight.numel() for weight in model.parameters()) < 300_000
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.lm_head.weight.shape[0] == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_the_seed_fixes_the_weights_and_leaves_the_random_state_alone(tokenizer):
    before = torch.random.get_rng_state()
    first, same, other = (build_model(tokenizer, seed).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)
