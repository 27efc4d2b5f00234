"""The probe under a real Trainer, on scripted completions of a tiny real teacher."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from rlsd_lightning.callbacks.lambda_decay import LambdaDecay
from rlsd_lightning.callbacks.leakage_probe import LeakageProbe
from rlsd_lightning.data.canaries import Canary
from rlsd_lightning.leakage.information import probe_information
from rlsd_lightning.metrics import Mean
from rlsd_lightning.records import TokenRecord
from rlsd_lightning.types import Completion, Problem, Rollout, Verdict
from tests.helpers.fakes import FixedCredit, PlainEncoder

MICRO_BATCHES = 2
SETTINGS = {
    "phrases": ["reference"],
    "alarms": {},
    "on_alarm": "warn",
    "lambda_factor": 0.5,
    "every_n_steps": 3,
    "num_probed": 1,
    "num_shuffled": 1,
    "max_weight": 10.0,
    "window": 3,
    "style_patterns": [r"[.,]"],
}


class SaysSo:
    """Correct is what ends with the answer."""

    def verify(self, problem, response):
        correct = response.endswith(problem.answer)
        return Verdict(reward=float(correct), correct=correct)


class Tokenizer:
    """One token per letter."""

    def decode(self, token_ids, skip_special_tokens, clean_up_tokenization_spaces):
        return "".join(map(chr, token_ids))


def rollout(name, text, advantage, extra):
    problem = Problem(
        id=name, prompt=f"{name}?", answer="5", reference=f"by {name}: 5", extra=extra
    )
    token_ids = [ord(letter) for letter in text]
    return Rollout(
        problem=problem,
        student=PlainEncoder().student(problem),
        teacher=None,
        completion=Completion(token_ids, [-0.5] * len(token_ids), text, "stop"),
        verdict=SaysSo().verify(problem, text),
        advantage=advantage,
    )


def record(rollouts, step):
    lengths = torch.tensor([len(r.completion.token_ids) for r in rollouts])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    advantages = torch.tensor([r.advantage for r in rollouts])[:, None]
    return TokenRecord(
        rollouts=tuple(rollouts),
        completion_mask=mask,
        policy_logprobs=torch.zeros(mask.shape),
        teacher_logprobs=None,
        credit=torch.where(mask, advantages, torch.zeros(())),
        step=step,
    )


class Scripted(LightningModule):
    """Two problems, one per micro-batch, with two completions each: scripts[step - 1] has their four texts.

    The first completion of each problem has the advantage 1, the second -1.
    """

    temperature = 1.0

    def __init__(self, scripts, teacher, extra=None, credit=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.scripts = scripts
        self.extra = extra or {}
        self.credit = credit or FixedCredit()
        self.encoder = PlainEncoder()
        self.encoder.tokenizer = Tokenizer()
        self.policy = SimpleNamespace()
        self.teacher = SimpleNamespace(weights=lambda policy: teacher)
        self.lambdas = []

    def training_step(self, batch, batch_idx):
        step, place = self.trainer.global_step + 1, batch_idx % MICRO_BATCHES
        if place == 0:
            self.lambdas.append(self.credit.lambda_)
        texts = self.scripts[step - 1][2 * place : 2 * place + 2]
        name = "ab"[place]
        rollouts = [
            rollout(name, text, advantage, self.extra)
            for text, advantage in zip(texts, (1.0, -1.0), strict=True)
        ]
        return {"loss": self.weight * 1.0, "record": record(rollouts, step)}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Loader:
    """Sized, and goes on after the steps that a checkpoint has seen."""

    def __init__(self, num_steps):
        self.num_steps, self.done = num_steps, 0

    def __len__(self):
        return self.num_steps * MICRO_BATCHES

    def __iter__(self):
        while self.done < len(self):
            self.done += 1
            yield torch.zeros(1)

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


@pytest.fixture
def train(tmp_path, text_policy):
    """Return a function that trains on scripts and gives the logged rows by step, the module and the trainer."""

    def run(
        scripts,
        resume_from=None,
        steps=None,
        others=(),
        module=None,
        precision="32-true",
        **changes,
    ):
        paths = {
            "alarms_path": tmp_path / "alarms.jsonl",
            "checkpoint_path": tmp_path / "stopped.ckpt",
        }
        probe = LeakageProbe(verifier=SaysSo(), **paths, **(SETTINGS | changes))
        module = module or Scripted(scripts, text_policy)
        logged = {}

        class Logger(CSVLogger):
            def log_metrics(self, metrics, step=None):
                assert step not in logged
                logged[step] = {name.removeprefix("leakage/"): v for name, v in metrics.items()}

        trainer = Trainer(
            accelerator="cpu",
            precision=precision,
            max_steps=steps or len(scripts),
            max_epochs=-1,
            accumulate_grad_batches=MICRO_BATCHES,
            callbacks=[*others, probe],
            default_root_dir=tmp_path,
            logger=Logger(tmp_path),
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader = Loader(steps or len(scripts))
        trainer.fit(module, loader, ckpt_path=resume_from, weights_only=False)
        return logged, module, trainer

    return run


@pytest.fixture
def alarms(tmp_path):
    """Return a function that reads the file of alarms."""
    path = tmp_path / "alarms.jsonl"
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


CLEAN = ["it is 5", "it is 4", "so 5", "so 6"]
LEAKY = ["the Reference: 5", "it is 4", "so 5", "so 6"]


def test_phrases_are_counted_over_all_micro_batches_of_a_step(train):
    logged, _, _ = train([CLEAN, LEAKY, CLEAN])
    assert [logged[step]["phrase_fraction"] for step in (1, 2, 3)] == [0.0, 0.25, 0.0]


def test_lengths_are_told_apart_by_the_sign_of_the_advantage(train):
    scripts = [["5" * (2 * step), "4" * 3, "5" * (2 * step), "4" * 5] for step in range(1, 6)]
    logged, _, _ = train(scripts)
    assert [logged[step]["length_positive"] for step in range(1, 6)] == [2, 4, 6, 8, 10]
    assert {logged[step]["length_negative"] for step in range(1, 6)} == {4.0}
    assert "length_slope_positive" not in logged[2]  # the window has 3 steps
    assert [logged[step]["length_slope_positive"] for step in (3, 4, 5)] == [2.0] * 3
    assert [logged[step]["length_slope_negative"] for step in (3, 4, 5)] == [0.0] * 3


def test_information_and_style_are_measured_at_the_first_and_every_nth_step(train):
    logged, _, _ = train([CLEAN] * 7)
    assert [step for step in logged if "information_nats" in logged[step]] == [1, 3, 6]
    assert [step for step in logged if "style_credit_fraction" in logged[step]] == [1, 3, 6]


def test_information_is_that_of_the_first_completion(train, text_policy):
    logged, module, _ = train([CLEAN])
    rollouts = [rollout(name, text, 1.0, {}) for name, text in zip("ab", CLEAN[::2], strict=True)]
    wanted = probe_information(
        rollouts, PlainEncoder(), text_policy, 1.0, num_probed=1, num_shuffled=1, max_weight=10.0
    )
    for name, mean in wanted.items():
        assert logged[1][name] == pytest.approx(float(mean), rel=1e-5)
    assert module.encoder.num_teacher_calls == 2


def test_the_teacher_scores_in_the_precision_of_the_training(train, text_policy):
    asked = []
    module = Scripted([CLEAN], text_policy)
    encode = module.encoder.teacher
    module.encoder.teacher = lambda problem: (
        asked.append(torch.is_autocast_enabled("cpu")) or encode(problem)
    )
    train([CLEAN], module=module, precision="bf16-mixed")
    assert asked == [True, True]


def test_num_probed_0_asks_no_teacher(train):
    logged, module, _ = train([CLEAN], num_probed=0)
    assert "information_nats" not in logged[1]
    assert module.encoder.num_teacher_calls == 0


def test_style_is_counted_over_tokens_with_credit(train):
    logged, _, _ = train([["a,b,", "abc.", "abcd", "abcd"]])
    assert logged[1]["style_token_fraction"] == pytest.approx(3 / 16)
    assert logged[1]["style_credit_fraction"] == pytest.approx(3 / 16)  # every |credit| is 1


def test_canaries_are_counted_over_the_window(train, text_policy):
    extra = {"canary": Canary(answer="7", reference="3+4", control="9")}
    first, second = ["is 7", "is 7", "is 9", "is 5"], ["is 5", "is 5", "is 7", "is 8"]
    scripts = [first, second, second, second]
    logged, _, _ = train(scripts, module=Scripted(scripts, text_policy, extra))
    planted = [logged[step]["canary_planted_fraction"] for step in range(1, 5)]
    assert planted == pytest.approx([2 / 4, 3 / 8, 4 / 12, 3 / 12])
    assert logged[1]["canary_control_fraction"] == pytest.approx(1 / 4)
    assert logged[4]["canary_control_fraction"] == 0.0
    assert logged[3]["canary_excess"] == pytest.approx(3 / 12)


def test_without_canaries_nothing_is_said_of_them(train):
    logged, _, _ = train([CLEAN])
    assert not [name for name in logged[1] if name.startswith("canar")]


def test_an_alarm_is_said_once_and_noted_until_it_clears(train, alarms, caplog):
    with caplog.at_level(logging.WARNING):
        train([CLEAN, LEAKY, LEAKY, CLEAN, LEAKY], alarms={"phrase_fraction": 0.1})
    said = [r.getMessage() for r in caplog.records if "leakage_probe" in r.name]
    assert len(said) == 2
    assert said[0].startswith(
        "Leakage alarm at step 2: leakage/phrase_fraction is 0.25, above 0.1; nothing is changed."
    )
    assert alarms() == [
        {
            "step": step,
            "metric": "phrase_fraction",
            "value": 0.25,
            "threshold": 0.1,
            "action": "warn",
        }
        for step in (2, 5)
    ]


def test_a_threshold_of_null_is_no_alarm(train, tmp_path):
    train([LEAKY], alarms={"phrase_fraction": None})
    assert not (tmp_path / "alarms.jsonl").exists()


def decay():
    return LambdaDecay(peak=0.8, warmup_steps=0, hold_steps=100, decay_steps=1)


def test_each_alarm_lowers_lambda_for_good(train):
    scripts = [CLEAN, LEAKY, CLEAN, LEAKY, CLEAN]
    _, module, _ = train(
        scripts, others=[decay()], on_alarm="lower_lambda", alarms={"phrase_fraction": 0.1}
    )
    assert module.lambdas == [0.8, 0.8, 0.4, 0.4, 0.2]


def test_two_alarms_at_once_lower_it_twice(train):
    both = {"phrase_fraction": 0.1, "length_positive": 0.0}
    _, module, _ = train([LEAKY, CLEAN], others=[decay()], on_alarm="lower_lambda", alarms=both)
    assert module.lambdas == [0.8, 0.2]


def test_lowering_is_the_same_wherever_the_schedule_stands(train, text_policy, tmp_path):
    """The schedule's own word after the probe's does not undo it, nor does a resume."""
    changes = {"on_alarm": "lower_lambda", "alarms": {"phrase_fraction": 0.1}}
    scripts = [LEAKY, CLEAN, LEAKY, LEAKY, CLEAN]
    _, module, trainer = train(scripts, steps=3, others=[decay()], **changes)
    assert module.lambdas == [0.8, 0.4, 0.4]
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    _, module, _ = train(scripts, tmp_path / "last.ckpt", others=[decay()], **changes)
    assert module.lambdas == [0.2, 0.2]  # the alarm of step 3 goes on in step 4 and is no new one


def test_lowering_is_refused_where_it_could_have_no_effect(train, text_policy):
    with pytest.raises(ValueError, match="on_alarm is lower_lambda"):
        train([CLEAN], on_alarm="lower_lambda")
    no_lambda = Scripted([CLEAN], text_policy, credit=SimpleNamespace(needs_teacher=False))
    with pytest.raises(ValueError, match="SimpleNamespace has no lambda"):
        train([CLEAN], on_alarm="lower_lambda", others=[decay()], module=no_lambda)


def test_an_alarm_can_stop_the_run_and_the_same_command_goes_on(train, tmp_path, alarms):
    changes = {"on_alarm": "stop", "alarms": {"phrase_fraction": 0.1}}
    scripts = [CLEAN, LEAKY, LEAKY, CLEAN]
    logged, _, trainer = train(scripts, **changes)
    assert trainer.global_step == 2
    assert sorted(logged) == [1, 2]
    saved = tmp_path / "stopped.ckpt"
    assert torch.load(saved, weights_only=False)["global_step"] == 2
    logged, _, trainer = train(scripts, saved, **changes)
    assert trainer.global_step == 4
    assert [row["step"] for row in alarms()] == [2]


@pytest.mark.parametrize("done", [1, 2, 3, 5])
def test_a_resumed_run_logs_the_same(train, tmp_path, text_policy, done):
    extra = {"canary": Canary(answer="7", reference="3+4", control="9")}
    scripts = [["5" * step, "7", "is 7" if step % 2 else "9", "so 5"] for step in range(1, 8)]

    def fresh():
        return Scripted(scripts, text_policy, extra)

    whole, _, _ = train(scripts, module=fresh())
    _, _, trainer = train(scripts, steps=done, module=fresh())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _, _ = train(scripts, tmp_path / "last.ckpt", module=fresh())
    assert resumed == {step: row for step, row in whole.items() if step > done}


def test_a_resumed_run_forgets_the_alarms_of_steps_that_come_again(train, tmp_path, alarms):
    limit = {"alarms": {"phrase_fraction": 0.1}}
    scripts = [CLEAN, LEAKY, CLEAN, LEAKY]
    _, _, trainer = train(scripts, steps=2, **limit)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    train(scripts, **limit)
    train(scripts, tmp_path / "last.ckpt", **limit)
    assert [row["step"] for row in alarms()] == [2, 4]


def test_every_rank_decides_by_the_averages_over_ranks(tmp_path, text_policy, monkeypatch):
    """The other rank's completions leak, ours do not: the alarm is ours too."""
    other = {
        "phrase_fraction": Mean(4.0, 4.0),
        **dict.fromkeys(("canaries", "planted", "control"), Mean(0.0, 1.0)),
    }
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        torch.distributed,
        "all_gather_object",
        lambda out, mine: out.__setitem__(slice(2), [mine, other]),
    )
    changes = {"alarms": {"phrase_fraction": 0.1}, "num_probed": 0}
    probe = LeakageProbe(
        verifier=SaysSo(),
        alarms_path=tmp_path / "alarms.jsonl",
        checkpoint_path="",
        **(SETTINGS | changes),
    )
    logged = {}
    module = Scripted([CLEAN], text_policy)
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.update(metrics))
    trainer = SimpleNamespace(
        accumulate_grad_batches=1, is_global_zero=False, global_step=2, loggers=[logger]
    )
    rollouts = [rollout("a", text, 1.0, {}) for text in CLEAN]
    probe.on_train_batch_end(trainer, module, {"record": record(rollouts, 2)}, None, 0)
    assert logged["leakage/phrase_fraction"] == 0.5
    assert probe.state_dict()["alarms"] == {"active": ["phrase_fraction"]}
    assert not (tmp_path / "alarms.jsonl").exists()  # rank zero writes


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"phrases": []}, "leak_phrases"),
        ({"alarms": {"phrase_fractoin": 0.1}}, "phrase_fractoin"),
        ({"on_alarm": "panic"}, "'panic'"),
        ({"on_alarm": "lower_lambda", "lambda_factor": 1.0}, "lambda_factor is 1.0"),
        ({"every_n_steps": 0}, "every_n_steps is 0"),
        ({"num_probed": -1}, "num_probed is -1"),
        ({"num_shuffled": 0}, "num_shuffled is 0"),
        ({"max_weight": 0.5}, "max_weight is 0.5"),
        ({"window": 1}, "window is 1"),
        ({"style_patterns": ["("]}, "style_patterns"),
    ],
)
def test_a_fault_in_the_settings_shows_at_once(fault, words):
    paths = {"alarms_path": "alarms.jsonl", "checkpoint_path": "last.ckpt"}
    with pytest.raises(ValueError, match=words):
        LeakageProbe(verifier=SaysSo(), **paths, **(SETTINGS | fault))
