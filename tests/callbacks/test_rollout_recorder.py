"""The recorder under a real Trainer with a tiny module that hands out scripted records."""

import io
import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from rlsd_lightning.callbacks.rollout_recorder import RolloutRecorder, image_path
from rlsd_lightning.records import TokenRecord, token_columns, token_pieces
from rlsd_lightning.types import Completion, Problem, Prompt, Rollout, Verdict

STEPS, MICRO_BATCHES, GROUP = 7, 2, 2


class ByteTokenizer:
    """One token per byte of UTF-8; 256 ends a turn."""

    def decode(self, token_ids, skip_special_tokens, clean_up_tokenization_spaces):
        assert not skip_special_tokens
        assert not clean_up_tokenization_spaces
        parts, run = [], bytearray()
        for token_id in token_ids:
            if token_id == 256:
                parts += [run.decode(errors="replace"), "<|end|>"]
                run = bytearray()
            else:
                run.append(token_id)
        return "".join([*parts, run.decode(errors="replace")])


def decode(token_ids):
    return ByteTokenizer().decode(
        token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )


def rollout(problem_id, text, advantage, images=()):
    token_ids = [*text.encode(), 256]
    prompt = Prompt(id=problem_id, token_ids=[1], position_ids=torch.zeros(1, 1))
    return Rollout(
        problem=Problem(
            id=problem_id,
            prompt="How many?",
            images=images,
            answer="4",
            reference="2+2",
            location="a:1",
        ),
        student=prompt,
        teacher=prompt,
        completion=Completion(
            token_ids=token_ids, logprobs=[0.0] * len(token_ids), text=text, finish_reason="stop"
        ),
        verdict=Verdict(reward=1.0, correct=True, parts={"math": 1.0}, reason="4 is 4"),
        advantage=advantage,
    )


def record(rollouts, step, teacher=True):
    """Log-probs -1, gains +0.5, weights 1.2; NaN stands at the padding, as after a real forward pass."""
    lengths = torch.tensor([len(r.completion.token_ids) for r in rollouts])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    advantages = torch.tensor([r.advantage for r in rollouts])[:, None]
    padded = torch.full(mask.shape, torch.nan)
    policy = torch.where(mask, -1.0, padded)
    return TokenRecord(
        rollouts=tuple(rollouts),
        completion_mask=mask,
        policy_logprobs=policy,
        teacher_logprobs=policy + 0.5 if teacher else None,
        credit=torch.where(mask, advantages * 1.2, torch.zeros(())),
        step=step,
        clipped=mask,
    )


class Scripted(LightningModule):
    """Returns one record per micro-batch; each problem's two completions are split over the micro-batches."""

    def __init__(self, images=(), logs_lambda=True):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.encoder = SimpleNamespace(tokenizer=ByteTokenizer())
        self.logs_lambda = logs_lambda
        self.images = images

    def training_step(self, batch, batch_idx):
        step, micro_batch = self.trainer.global_step + 1, batch_idx % MICRO_BATCHES
        sign = 1.0 if micro_batch == 0 else -1.0
        rollouts = [
            rollout(f"{step}-{p}", f"{p}{micro_batch}", sign, self.images) for p in range(2)
        ]
        return {"loss": self.weight * 1.0, "record": record(rollouts, step)}

    def on_before_optimizer_step(self, optimizer):
        if self.logs_lambda:
            self.log("credit/lambda", 0.5 / (self.trainer.global_step + 1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(recorder, folder, steps=STEPS, module=None):
    trainer = Trainer(
        default_root_dir=folder,
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=MICRO_BATCHES,
        callbacks=[recorder],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module or Scripted(), torch.utils.data.DataLoader(range(steps * MICRO_BATCHES)))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_step_gets_one_file_with_the_completions_of_all_its_micro_batches(tmp_path):
    fit(RolloutRecorder(tmp_path / "rollouts"), tmp_path)
    names = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert names == [f"step_{step:08d}.jsonl" for step in range(1, STEPS + 1)]
    rows = read(tmp_path / "rollouts" / "step_00000003.jsonl")
    assert [(row["problem_id"], row["response"]) for row in rows] == [
        ("3-0", "00"),
        ("3-0", "01"),
        ("3-1", "10"),
        ("3-1", "11"),
    ]
    assert {row["step"] for row in rows} == {3}


def test_a_row_says_everything_about_its_completion(tmp_path):
    fit(RolloutRecorder(tmp_path), tmp_path, steps=1)
    row = read(tmp_path / "step_00000001.jsonl")[0]
    assert row == {
        "step": 1,
        "problem_id": "1-0",
        "location": "a:1",
        "kind": "",
        "prompt": "How many?",
        "images": [],
        "answer": "4",
        "reference": "2+2",
        "response": "00",
        "num_tokens": 3,
        "finish_reason": "stop",
        "reward": 1.0,
        "correct": True,
        "valid": True,
        "parts": {"math": 1.0},
        "reason": "4 is 4",
        "advantage": 1.0,
        "lambda": 0.5,
        "tokens": ["0", "0", "<|end|>"],
        "token_ids": [48, 48, 256],
        "policy_logprobs": [-1.0, -1.0, -1.0],
        "teacher_logprobs": [-0.5, -0.5, -0.5],
        "gain": [0.5, 0.5, 0.5],
        "weight": [1.2, 1.2, 1.2],
        "credit": [1.2, 1.2, 1.2],
        "clipped": [True, True, True],
    }


def test_first_middle_and_last_step_get_their_tokens_in_any_case(tmp_path):
    fit(RolloutRecorder(tmp_path, every_n_steps=3, tokens_every_n_steps=6), tmp_path)
    files = {
        int(path.stem[5:]): "tokens" in read(path)[0]
        for path in sorted(tmp_path.glob("step_*.jsonl"))
    }
    assert files == {1: True, 3: False, 4: True, 6: True, 7: True}


def test_each_step_has_its_own_lambda_and_a_method_without_one_has_none(tmp_path):
    fit(RolloutRecorder(tmp_path / "rlsd"), tmp_path, steps=2)
    fit(RolloutRecorder(tmp_path / "grpo"), tmp_path, steps=2, module=Scripted(logs_lambda=False))
    for step, lambda_ in ((1, 0.5), (2, 0.25)):
        name = f"step_{step:08d}.jsonl"
        assert {row["lambda"] for row in read(tmp_path / "rlsd" / name)} == {lambda_}
        assert {row["lambda"] for row in read(tmp_path / "grpo" / name)} == {None}


def test_a_step_that_is_trained_again_writes_the_same_file(tmp_path):
    fit(RolloutRecorder(tmp_path), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    fit(RolloutRecorder(tmp_path), tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_limit_keeps_whole_groups_first(tmp_path):
    fit(RolloutRecorder(tmp_path, max_per_step=3), tmp_path, steps=1)
    assert [row["response"] for row in read(tmp_path / "step_00000001.jsonl")] == ["00", "01", "10"]


def test_images_in_memory_are_saved_once_and_paths_stay_paths(tmp_path):
    picture = Image.new("RGB", (3, 2), (200, 30, 30))
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    picture.save(tmp_path / "given.png")
    images = (picture, encoded.getvalue(), str(tmp_path / "given.png"))
    fit(RolloutRecorder(tmp_path / "rollouts"), tmp_path, steps=2, module=Scripted(images))
    saved = list((tmp_path / "rollouts" / "images").iterdir())
    assert len(saved) == 1
    assert Image.open(saved[0]).getpixel((0, 0)) == (200, 30, 30)
    row = read(tmp_path / "rollouts" / "step_00000002.jsonl")[0]
    assert row["images"] == [f"images/{saved[0].name}"] * 2 + [str(tmp_path / "given.png")]


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert image_path("grid.png", tmp_path) == str(tmp_path / "grid.png")


def test_several_ranks_write_a_file_each(tmp_path):
    trainer = type("TwoRanks", (), {"world_size": 2, "global_rank": 1})()
    assert RolloutRecorder(tmp_path)._path(trainer, 12).name == "step_00000012.rank001.jsonl"


def test_numbers_are_missing_where_there_are_none():
    rollouts = [rollout("a", "12", 0.0), rollout("b", "1", 2.0)]
    whole = record(rollouts, step=1)
    masked = whole.completion_mask.clone()
    masked[1, 1] = False
    changed = TokenRecord(
        rollouts=whole.rollouts,
        completion_mask=masked,
        policy_logprobs=whole.policy_logprobs,
        teacher_logprobs=whole.teacher_logprobs,
        credit=whole.credit,
        step=1,
        clipped=whole.clipped,
    )
    unmoved = token_columns(changed, 0, decode)
    assert unmoved["teacher_logprobs"] == unmoved["gain"] == unmoved["weight"] == [None] * 3
    assert unmoved["credit"] == [0.0] * 3
    outside = token_columns(changed, 1, decode)
    assert outside["policy_logprobs"] == [-1.0, None]
    assert outside["weight"] == [1.2, None]
    assert outside["clipped"] == [True, False]


def test_a_skipped_teacher_leaves_credit_and_weight():
    columns = token_columns(record([rollout("a", "1", -2.0)], step=1, teacher=False), 0, decode)
    assert columns["gain"] == columns["teacher_logprobs"] == [None, None]
    assert columns["weight"] == [1.2, 1.2]
    assert columns["credit"] == [-2.4, -2.4]


def test_infinities_are_none_as_json_has_no_word_for_them():
    broken = record([rollout("a", "1", 1.0)], step=1)
    broken.policy_logprobs[0, 0] = -torch.inf
    columns = token_columns(broken, 0, decode)
    assert columns["policy_logprobs"] == [None, -1.0]
    json.dumps(columns, allow_nan=False)


@pytest.mark.parametrize(
    "token_ids",
    [
        list("3 \u00d7 4 = \u4e09\U0001f600.".encode()),  # characters of two, three and four bytes
        [0xFF, 0x41, 0xC3],  # bytes that are no text: in the middle, and cut off at the end
        [0xE4, 0xB8, 256, 0x89],  # a character cut in two by a special token
        [],
    ],
)
def test_pieces_join_to_the_text_however_it_is_cut(token_ids):
    pieces = token_pieces(decode, token_ids)
    assert len(pieces) == len(token_ids)
    assert "".join(pieces) == decode(token_ids)


def test_a_character_of_several_tokens_stands_at_its_last_one():
    assert token_pieces(decode, list("a\u00d7b".encode())) == ["a", "", "\u00d7", "b"]


def test_a_real_tokenizer_is_cut_as_well(tokenizer):
    text = "<thought>red2 \u00d7 \u4e09</thought><|im_end|>"
    token_ids = tokenizer.encode(text)
    pieces = token_pieces(tokenizer.decode, token_ids)
    assert "".join(pieces) == tokenizer.decode(token_ids) == text
    assert (pieces[0], pieces[-1], len(pieces)) == ("<thought>", "<|im_end|>", len(token_ids))


def test_tokenizers_that_drop_a_leading_space_keep_it_between_words():
    words = ["", "_One", "_two", "three"]

    def dropping(token_ids):
        return "".join(words[i] for i in token_ids).replace("_", " ").removeprefix(" ")

    assert token_pieces(dropping, [1, 2, 3]) == ["One", " two", "three"]


@pytest.mark.parametrize("name", ["every_n_steps", "tokens_every_n_steps", "max_per_step"])
def test_a_limit_below_one_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"rollout_recorder: {name} is 0, needs 1 or more"):
        RolloutRecorder(tmp_path, **{name: 0})
