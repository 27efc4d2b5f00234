"""A vLLM engine that fails on one rank, once the policy has taken some steps."""

import os

from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.engines.vllm_engine import VLLMEngine


class FailingEngine(VLLMEngine):
    """Fails where it is told to: "load_weights" (after a few of them), "probe" (of a sync) or "rollouts"."""

    def __init__(self, path, revision=None, *, fails_in, after_steps, on_rank=1, **settings):
        super().__init__(path, revision, **settings)
        self.fails_in, self.after_steps, self.on_rank = fails_in, after_steps, on_rank

    def load_weights(self, named_tensors, version):
        super().load_weights(self.first_ones(named_tensors, version), version)

    def first_ones(self, named_tensors, version):
        for place, pair in enumerate(named_tensors):
            if place == 3 and version == self.after_steps:
                self.fail("load_weights")
            yield pair

    def generate(self, prompts, sampling, group_size):
        if self._version == self.after_steps:
            self.fail("probe" if prompts[0].id.startswith("probe") else "rollouts")
        return super().generate(prompts, sampling, group_size)

    def fail(self, where):
        if where == self.fails_in and int(os.environ["RANK"]) == self.on_rank:
            raise EngineError(f"engine: made to fail in {where}")
