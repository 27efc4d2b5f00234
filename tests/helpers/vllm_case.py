"""A policy, a vLLM engine in this process that has its weights, and a few prompts."""

import numpy as np
import torch
from PIL import Image

from rlsd_lightning.engines.vllm_engine import VLLMEngine
from rlsd_lightning.models import load_policy, load_reader
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate
from rlsd_lightning.types import Problem, Sampling
from rlsd_lightning.weight_check import score
from rlsd_lightning.weights import named_weights

EXACT = 1e-5
"""Largest difference of log-probs in float32; seen: 5e-6."""
LIMIT = 768


def picture(seed, size=(64, 32)):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


class Case:
    """A policy, an engine with its weights, and prompts."""

    def __init__(self, folder, dtype="float32", **settings):
        self.policy = load_policy(str(folder), dtype=dtype).eval()
        processor, family = load_reader(str(folder))
        template = PromptTemplate(
            student="{{ problem.prompt }}", teacher="{{ student }} {{ reference }}"
        )
        self.encoder = PromptEncoder(processor, template, family)
        settings = {"temperature": 1.0, "max_model_len": LIMIT, "kv_cache_gb": 0.03} | settings
        self.engine = self.make_engine(str(folder), dtype=dtype, **settings)
        self.engine.bind(self.policy, self.encoder.tokenizer)
        self.engine.start()
        self.version = 0
        sees = self.policy.family.image_token_id is not None
        pictures = [[], [picture(1)], [picture(1), picture(2, (32, 32))]] if sees else [[], [], []]
        self.prompts = [
            self.encoder.student(
                Problem(id=f"q{i}", prompt=f"How many are there of kind {i}? " * 7, images=images)
            )
            for i, images in enumerate(pictures)
        ]
        self.sync()

    def make_engine(self, path, **settings):
        return VLLMEngine(path, **settings)

    def sync(self):
        self.engine.load_weights(named_weights(self.policy), self.version)

    def sample(self, prompts=None, group_size=3, **settings):
        sampling = Sampling(**{"max_completion_tokens": 12, "seed": 5} | settings)
        return self.engine.generate(prompts or self.prompts, sampling, group_size)

    def gap(self, prompts=None, left_out=(), **settings):
        """The largest difference between what the engine says of its tokens and what the policy says of them."""
        prompts = prompts or self.prompts
        groups = self.sample(prompts, **settings)
        temperature = settings.get("temperature", 1.0)
        trained = score(self.policy, prompts, groups, temperature, left_out)
        sampled = torch.tensor([x for group in groups for c in group for x in c.logprobs])
        return float((trained - sampled).abs().max())

    def step(self):
        """One optimizer step on the engine's own completions."""
        self.version += 1
        groups = self.sample(temperature=1.0)
        optimizer = torch.optim.AdamW(self.policy.parameters(), lr=0.02)
        with torch.enable_grad():
            self.policy.model.zero_grad()
            inputs = torch.tensor([groups[0][0].token_ids])
            logits = self.policy.model(input_ids=inputs).logits
            logits.log_softmax(-1).square().mean().backward()
        optimizer.step()

    def shake(self):
        """Change every weight so much that old ones would be seen."""
        self.version += 1
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.version)
            for weight in self.policy.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.05)


def without(engine, key):
    """The engine's way to hand a request to vLLM, with one of the request's keys left out."""
    add = type(engine)._add
    add_request = engine._llm.llm_engine.add_request

    def added(request):
        def plain(name, prompt, params):
            return add_request(name, {k: v for k, v in prompt.items() if k != key}, params)

        engine._llm.llm_engine.add_request = plain
        try:
            return add(engine, request)
        finally:
            engine._llm.llm_engine.add_request = add_request

    return added


def tokens(groups):
    return [[each.token_ids for each in group] for group in groups]
