"""Small stand-ins for the parts that a test is not about."""

import torch

from rlsd_lightning.models import Policy
from rlsd_lightning.types import Completion, Prompt, Verdict


class BiasedPolicy(Policy):
    """A policy whose logits are scale * its own + bias: known distributions, or ends that come soon.

    Shares the model it is made from; only sampling sees the bias.
    """

    def __init__(self, policy, bias, scale=1.0):
        super().__init__(policy.model, policy.family)
        self.register_buffer("bias", bias)
        self.scale = scale

    def logits(self, hidden):
        return self.scale * super().logits(hidden) + self.bias


class ScriptedEngine:
    """Returns given token ids: script(prompt id, place in the group, seed) -> token ids."""

    shares_policy_weights = True
    versions = ()

    def __init__(self, script, tokenizer=None):
        self.script = script
        self.tokenizer = tokenizer
        self.calls = []

    def generate(self, prompts, sampling, group_size):
        self.calls.append(([prompt.id for prompt in prompts], sampling, group_size))
        return [
            [self._completion(self.script(p.id, g, sampling.seed)) for g in range(group_size)]
            for p in prompts
        ]

    def _completion(self, token_ids):
        text = self.tokenizer.decode(token_ids) if self.tokenizer else " ".join(map(str, token_ids))
        logprobs = [-0.5 - 0.01 * token for token in token_ids]
        return Completion(
            token_ids=token_ids,
            logprobs=logprobs,
            text=text,
            finish_reason="stop",
            weight_versions=self.versions,
        )

    def load_weights(self, named_tensors, version):
        raise AssertionError("this engine has no weights")

    def sleep(self):
        self.calls.append("sleep")

    def wake(self):
        self.calls.append("wake")


class EngineElsewhere(ScriptedEngine):
    """A scripted engine with weights of its own, as in another process: completions tell which ones sampled them.

    `during(call)` runs while it generates; calls count from 0. It must have come back before weights are given.
    """

    shares_policy_weights = False
    runs_elsewhere = True
    versions = (0,)

    def __init__(self, script, during=lambda call: None):
        super().__init__(script)
        self.during = during
        self.num_calls = 0
        self.is_at_work = False

    def generate(self, prompts, sampling, group_size):
        self.is_at_work = True
        try:
            self.during(self.num_calls)
            return super().generate(prompts, sampling, group_size)
        finally:
            self.num_calls += 1
            self.is_at_work = False

    def load_weights(self, named_tensors, version):
        assert not self.is_at_work
        self.versions = (version,)


class ScriptedVerifier:
    """Judges by a function of the response: a reward, or None for "could not be judged"."""

    def __init__(self, judge):
        self.judge = judge

    def verify(self, problem, response):
        reward = self.judge(problem, response)
        if reward is None:
            return Verdict(0.0, correct=False, valid=False, reason="could not be judged")
        return Verdict(reward, correct=reward == 1.0, parts={"scripted": reward}, reason="scripted")


class PlainEncoder:
    """Prompts of one token per letter; the teacher's view has the reference after the question."""

    def __init__(self):
        self.num_teacher_calls = 0

    def student(self, problem):
        return self._prompt(problem, problem.prompt)

    def teacher(self, problem):
        self.num_teacher_calls += 1
        return self._prompt(problem, f"{problem.prompt} {problem.reference}")

    def _prompt(self, problem, text):
        token_ids = [ord(letter) for letter in text]
        return Prompt(
            id=problem.id,
            token_ids=token_ids,
            position_ids=torch.arange(len(token_ids)).unsqueeze(0),
        )


class FixedCredit:
    """Credit that needs a teacher or does not; lambda_ can be set."""

    def __init__(self, needs_teacher=True):
        self.needs_teacher = needs_teacher
        self.lambda_ = 0.0

    def __call__(self, advantages, policy_logprobs, teacher_logprobs, completion_mask):
        raise AssertionError("no test here assigns credit")
