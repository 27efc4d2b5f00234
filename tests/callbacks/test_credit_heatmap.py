"""Heatmaps under a real Trainer with a tiny module that hands out scripted records."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from rlsd_lightning.callbacks.credit_heatmap import CreditHeatmap
from rlsd_lightning.records import TokenRecord
from rlsd_lightning.types import Completion, Problem, Prompt, Rollout, Verdict

STEPS, MICRO_BATCHES = 7, 2


class LetterTokenizer:
    """One token per letter."""

    def decode(self, token_ids, skip_special_tokens, clean_up_tokenization_spaces):
        return "".join(map(chr, token_ids))


def rollout(problem_id, text, advantage, images=()):
    prompt = Prompt(id=problem_id, token_ids=[1], position_ids=torch.zeros(1, 1))
    return Rollout(
        problem=Problem(id=problem_id, prompt=f"question {problem_id}", images=images, answer="4"),
        student=prompt,
        teacher=prompt,
        completion=Completion(
            token_ids=[ord(letter) for letter in text],
            logprobs=[0.0] * len(text),
            text=text,
            finish_reason="stop",
        ),
        verdict=Verdict(reward=advantage, correct=advantage > 0),
        advantage=advantage,
    )


def record(rollouts, credit, step, gain=0.5):
    """Log-probs -1, gains as given (None: no teacher); NaN stands at the padding, as after a real forward pass."""
    longest = max(map(len, credit))
    mask = torch.tensor([[place < len(line) for place in range(longest)] for line in credit])
    policy = torch.where(mask, -1.0, torch.nan)
    tokens = torch.tensor([line + [0.0] * (longest - len(line)) for line in credit])
    advantages = torch.tensor([r.advantage for r in rollouts])[:, None]
    return TokenRecord(
        rollouts=tuple(rollouts),
        completion_mask=mask,
        policy_logprobs=policy,
        teacher_logprobs=None if gain is None else policy + gain,
        credit=tokens,
        step=step,
        clipped=tokens.abs() > 1.1 * advantages.abs(),
    )


def reweighted(step, micro_batch):
    """Two problems whose two completions lie in two micro-batches; the second problem's credit is the less even."""
    sign, name = (1.0, "right") if micro_batch == 0 else (-1.0, "wrong")
    return record(
        [rollout("even", name, sign), rollout("uneven", name, sign)],
        [[sign] * 5, [sign * w for w in (1.0, 1.2, 0.8, 1.0, 1.0)]],
        step,
    )


class Scripted(LightningModule):
    def __init__(self, script=reweighted, lambda_=0.5):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.encoder = SimpleNamespace(tokenizer=LetterTokenizer())
        self.script, self.lambda_ = script, lambda_

    def training_step(self, batch, batch_idx):
        step = self.trainer.global_step + 1
        return {"loss": self.weight * 1.0, "record": self.script(step, batch_idx % MICRO_BATCHES)}

    def on_before_optimizer_step(self, optimizer):
        if self.lambda_ is not None:
            self.log("credit/lambda", self.lambda_)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(heatmap, module=None, steps=1):
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=MICRO_BATCHES,
        callbacks=[heatmap],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module or Scripted(), torch.utils.data.DataLoader(range(steps * MICRO_BATCHES)))


def page_of(folder, step=1):
    return (folder / f"step_{step:08d}.html").read_text()


def questions(text):
    return re.findall(r'<p class="question">question (\w+)</p>', text)


def responses(text):
    lines = re.findall(r'<p class="tokens"[^>]*>(.*?)</p>', text)
    return [re.sub(r"<[^>]+>", "", line) for line in lines]


def numbers(text):
    """Log-probs of policy and teacher, gain, weight and credit of the first completion."""
    return json.loads(re.search(r'data-numbers="([^"]+)"', text)[1])


def test_chosen_steps_and_the_first_middle_and_last_get_a_page_and_a_picture(tmp_path):
    fit(CreditHeatmap(tmp_path, every_n_steps=3), steps=STEPS)
    names = {path.name for path in tmp_path.iterdir()}
    steps = (1, 3, 4, 6, 7)
    pages = {f"step_{step:08d}.{end}" for step in steps for end in ("html", "png")}
    assert names == pages | {"steps.js"}
    assert (tmp_path / "steps.js").read_text() == "window.HEATMAP_STEPS = [1, 3, 4, 6, 7];\n"
    with Image.open(tmp_path / "step_00000004.png") as picture:
        assert picture.width == 1400
    assert " times<" not in page_of(
        tmp_path, 7
    )  # written twice, if an earlier step were still there


def test_completions_of_all_micro_batches_stand_beside_their_problem(tmp_path):
    fit(CreditHeatmap(tmp_path))
    text = page_of(tmp_path)
    assert questions(text) == ["uneven", "even"]
    assert responses(text) == ["right", "wrong"] * 2
    assert text.count("1 of 2 right") == 2


def test_the_pointer_finds_every_number_of_a_token(tmp_path):
    fit(CreditHeatmap(tmp_path))
    text = page_of(tmp_path)
    policy, teacher, gain, weight, credit = numbers(text)
    assert policy == [-1.0] * 5
    assert teacher == [-0.5] * 5
    assert gain == [0.5] * 5
    assert weight == credit == [1.0, 1.2, 0.8, 1.0, 1.0]
    assert 'data-advantage="1.0"' in text
    # the record says that the 1.2 was held back, in either completion
    assert len(re.findall(r'<i class="[^"]*\bclip"', text)) == 2


def test_problems_and_completions_come_by_influence(tmp_path):
    def script(step, micro_batch):
        # sum |A_t - mean|: problem a 2.0 and 0.2, mean 1.1; problem b 1.0 and 1.6, mean 1.3
        credit = ([[2.0, 0.0], [1.0, 0.0]], [[1.1, 0.9], [1.8, 0.2]])[micro_batch]
        name = ("xy", "yz")[micro_batch]
        return record([rollout("a", name, 1.0), rollout("b", name, 1.0)], credit, step)

    fit(CreditHeatmap(tmp_path), Scripted(script))
    text = page_of(tmp_path)
    assert questions(text) == ["b", "a"]
    assert responses(text) == ["yz", "xy", "xy", "yz"]
    assert re.findall(r"influence ([\d.]+)<", text) == ["1.6", "1", "2", "0.2"]


def test_padding_has_no_influence(tmp_path):
    def script(step, micro_batch):
        short, long = rollout("short", "x", 1.0), rollout("long", "abcd", 1.0)
        return record([short, long], [[1.0], [1.0, 1.2, 1.0, 1.0]], step)

    fit(CreditHeatmap(tmp_path), Scripted(script))
    assert questions(page_of(tmp_path)) == ["long", "short"]


def test_grpo_without_teacher_lambda_and_spread_is_sorted_by_the_amount_of_credit(tmp_path):
    def script(step, micro_batch):
        sizes = (0.5, 2.0) if micro_batch == 0 else (-0.5, -2.0)
        pair = [rollout(name, "xy"[micro_batch], a) for name, a in zip("ab", sizes, strict=True)]
        return record(pair, [[size] for size in sizes], step, gain=None)

    fit(CreditHeatmap(tmp_path), Scripted(script, lambda_=None))
    text = page_of(tmp_path)
    assert questions(text) == ["b", "a"]
    assert "The teacher was not asked in this step." in text
    assert "Here every factor is 1: no evidence was used." in text
    assert "all of its tokens have the same credit" in text
    assert "Lambda was" not in text
    assert numbers(text) == [[-1.0], [None], [None], [1.0], [2.0]]


def test_credit_that_does_not_follow_the_verdict_has_no_weights_and_the_page_says_so(tmp_path):
    def script(step, micro_batch):
        pair = [rollout(name, "xy"[micro_batch] * 2, a) for name, a in (("a", 0.0), ("b", 1.0))]
        asked = [replace(one, every_completion=True) for one in pair]
        return record(asked, [[0.3, -0.2], [0.1, -0.4]], step)

    fit(CreditHeatmap(tmp_path), Scripted(script, lambda_=None))
    text = page_of(tmp_path)
    assert "Here it does not follow the verdict" in text
    assert "Here credit is no multiple of the advantage, so there is none." in text
    assert numbers(text)[2:] == [[0.5, 0.5], [None, None], [0.3, -0.2]]
    lines = [json.loads(line) for line in re.findall(r'data-numbers="([^"]+)"', text)]
    assert [line[3] for line in lines] == [[None, None]] * 4
    assert 'class="cp' in text
    assert 'class="cn' in text


@pytest.mark.parametrize(("gain", "view"), [(None, "credit"), (0.5, "gain")])
def test_a_step_without_any_credit_opens_with_the_gain_if_there_is_one(tmp_path, gain, view):
    def script(step, micro_batch):
        asked = replace(rollout("a", "xy"[micro_batch], 0.0), every_completion=True)
        return record([asked], [[0.0]], step, gain=gain)

    fit(CreditHeatmap(tmp_path), Scripted(script))
    text = page_of(tmp_path)
    assert "No token of this step has any credit" in text
    assert re.findall(r'id="view-(\w+)" checked', text) == [view]
    assert (tmp_path / "step_00000001.png").exists()


def test_equal_completions_are_shown_once_and_counted(tmp_path):
    def script(step, micro_batch):
        return record([rollout("a", "same", 1.0)] * 2, [[1.0] * 4] * 2, step)

    fit(CreditHeatmap(tmp_path), Scripted(script))
    text = page_of(tmp_path)
    assert responses(text) == ["same"]
    assert "written 4 times" in text
    assert "Shown are" not in text


def test_limits_hold_and_the_page_says_what_was_left_out(tmp_path):
    fit(CreditHeatmap(tmp_path, max_problems=1, max_completions=1))
    text = page_of(tmp_path)
    assert questions(text) == ["uneven"]
    assert len(responses(text)) == 1
    assert "Shown are 1 of 4 completions and 1 of 2 problems, the most influential ones." in text


def test_the_image_of_a_problem_is_on_the_page_once(tmp_path):
    image = Image.new("RGB", (8, 8), (10, 200, 30))

    def script(step, micro_batch):
        pair = [rollout(name, "xy"[micro_batch], 1.0, (image,)) for name in "ab"]
        return record(pair, [[1.0], [1.0]], step)

    fit(CreditHeatmap(tmp_path), Scripted(script))
    text = page_of(tmp_path)
    assert text.count("data:image/png;base64,") == 1
    assert len(re.findall(r'<img class="tiny" data-same-as="picture-1"', text)) == 1


def test_a_step_that_is_trained_again_writes_the_same_files(tmp_path):
    fit(CreditHeatmap(tmp_path), steps=2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    fit(CreditHeatmap(tmp_path), steps=2)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(("is_zero", "pages"), [(True, 1), (False, 0)])
def test_of_several_ranks_the_first_shows_its_own_and_says_so(tmp_path, is_zero, pages):
    trainer = SimpleNamespace(
        is_global_zero=is_zero,
        world_size=4,
        max_steps=1,
        global_step=1,
        callback_metrics={"credit/lambda": torch.tensor(0.5)},
    )
    heatmap = CreditHeatmap(tmp_path)
    heatmap.on_train_start(trainer, Scripted())
    heatmap.on_train_batch_end(trainer, Scripted(), {"record": reweighted(1, 0)}, None, 0)
    found = list(tmp_path.glob("*.html"))
    assert len(found) == pages
    assert all("completions that rank 0 of 4 trained on" in path.read_text() for path in found)


@pytest.mark.parametrize("name", ["every_n_steps", "max_problems", "max_completions"])
def test_a_limit_below_one_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"credit_heatmap: {name} is 0, needs 1 or more"):
        CreditHeatmap(tmp_path, **{name: 0})
