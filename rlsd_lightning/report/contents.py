"""The charts that every run gets, in the order of the page: which metrics, and how they look."""

from __future__ import annotations

from rlsd_lightning.report.charts import Chart, Series


def _each_step(key: str, label: str, tone: str = "blue") -> Series:
    return Series(key=key, label=label, tone=tone, noisy=True)


def _set_value(key: str, label: str, tone: str = "blue") -> Series:
    """A quantity that is set, not measured: no noise to smooth."""
    return Series(key=key, label=label, tone=tone)


def _now_and_then(key: str, label: str, tone: str = "blue") -> Series:
    """A quantity that is not measured at each step."""
    return Series(key=key, label=label, tone=tone, dots=True)


CONTENTS = [
    Chart(
        title="Reward",
        note="mean over the step's completions",
        series=[_each_step("rollout/reward_mean", "reward")],
    ),
    Chart(
        title="Length",
        note="tokens",
        kind="count",
        series=[
            _each_step("rollout/completion_tokens_mean", "mean"),
            _each_step("rollout/completion_tokens_max", "longest", "grey"),
        ],
    ),
    Chart(
        title="Entropy",
        note="nats per token",
        series=[_each_step("loss/entropy", "entropy", "green")],
    ),
    Chart(
        title="Lambda",
        note="how much the evidence counts",
        series=[_set_value("credit/lambda", "lambda")],
    ),
    Chart(
        title="Clipped",
        note="tokens whose weight is held back",
        kind="percent",
        series=[_each_step("credit/clipped_fraction", "clipped")],
    ),
    Chart(
        title="Mean weight",
        note="1: moved, not made",
        kind="factor",
        zero=False,
        level=1.0,
        series=[
            _each_step("credit/weight_mean_positive", "A > 0"),
            _each_step("credit/weight_mean_negative", "A < 0", "orange"),
        ],
    ),
    Chart(
        title="Gain",
        note="teacher minus policy, nats per token",
        level=0.0,
        series=[_each_step("credit/gain_mean", "gain", "purple")],
    ),
    Chart(
        title="No signal",
        note="share of groups or completions",
        kind="percent",
        series=[
            _each_step("rollout/zero_variance_fraction", "groups alike", "grey"),
            _each_step("rollout/truncated_fraction", "cut off", "orange"),
            _each_step("rollout/invalid_fraction", "not judged", "purple"),
        ],
    ),
    Chart(
        title="Appeals",
        note="completions in training that speak of a reference",
        kind="percent",
        series=[_each_step("leakage/phrase_fraction", "appeals", "orange")],
    ),
    Chart(
        title="Teacher's information",
        note="nats per token, of the reference it reads",
        series=[_now_and_then("leakage/information_nats", "information", "purple")],
    ),
    Chart(
        title="Canaries",
        note="answers that were planted, and others as wrong",
        kind="percent",
        series=[
            _set_value("leakage/canary_planted_fraction", "planted", "orange"),
            _set_value("leakage/canary_control_fraction", "control", "grey"),
        ],
    ),
    Chart(
        title="Length by reward",
        note="tokens",
        kind="count",
        series=[
            _each_step("leakage/length_positive", "A > 0"),
            _each_step("leakage/length_negative", "A < 0", "orange"),
        ],
    ),
    Chart(
        title="Style",
        note="punctuation, connectives, tags",
        kind="percent",
        series=[
            _now_and_then("leakage/style_credit_fraction", "of the credit"),
            _now_and_then("leakage/style_token_fraction", "of the tokens", "grey"),
        ],
    ),
    Chart(title="Policy loss", level=0.0, series=[_each_step("loss/policy", "loss", "grey")]),
    Chart(
        title="Gradient norm",
        note="before clipping",
        series=[_each_step("optim/grad_norm", "norm", "grey")],
    ),
    Chart(title="Learning rate", series=[_set_value("optim/lr", "rate", "grey")]),
    Chart(
        title="Seconds per step",
        note="by phase",
        kind="seconds",
        stacked=True,
        series=[
            _each_step("time/rollout_s", "rollout"),
            _each_step("time/rollout_wait_s", "waiting for the next rollout"),
            _each_step("time/verify_s", "verify", "green"),
            _each_step("time/teacher_s", "teacher", "purple"),
            _each_step("time/train_s", "train", "orange"),
            _each_step("time/backward_s", "backward", "grey"),
        ],
    ),
    Chart(title="Whole step", kind="seconds", series=[_each_step("time/step_s", "step", "grey")]),
    Chart(
        title="Tokens per second",
        kind="count",
        series=[_each_step("time/tokens_per_s", "tokens/s", "green")],
    ),
]
