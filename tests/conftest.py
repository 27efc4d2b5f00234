"""Tiny real models, prompts with real images, and the slow obvious way to score a completion.

Fixtures that make something afresh return the thing; fixtures that several tests call with their own arguments
return a function.
"""

import os

# Tests ask no name server: torch's stores look up every address backwards, and a server that drops a question costs 5 s.
os.environ["RES_OPTIONS"] = (
    "attempts:0"  # glibc's resolver: only /etc/hosts is read (man 5 resolv.conf)
)

import rlsd_lightning  # noqa: F401 - before transformers: it makes torchvision importable

# isort: split
import hashlib

import pytest
import torch
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from rlsd_lightning.models import Policy, family_of
from rlsd_lightning.quickstart.tiny_model import build_model, build_processor
from rlsd_lightning.types import ProcessedImage, Prompt

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def processor():
    """The tiny model's real Qwen3VLProcessor."""
    return build_processor()


@pytest.fixture(scope="session")
def tokenizer(processor):
    return processor.tokenizer


@pytest.fixture
def policy(tokenizer):
    """A tiny real Qwen3-VL with tied embeddings, in float32."""
    model = build_model(tokenizer, seed=0).eval()
    return Policy(model, family_of(model.config))


@pytest.fixture
def text_policy(tokenizer):
    """A tiny real Qwen3 that reads text only, with tied embeddings."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        initializer_range=0.15,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config).eval()
    return Policy(model, family_of(config))


@pytest.fixture(scope="session")
def make_prompt(processor):
    """Return a function that lets the model's own processor make a prompt of an id, a text and images."""
    family = family_of(build_model(processor.tokenizer, seed=0).config)

    def make(prompt_id, text, images=()):
        inputs = processor_inputs(processor, text, images)
        grids = [tuple(grid) for grid in inputs.get("image_grid_thw", torch.zeros(0, 3)).tolist()]
        token_ids = inputs["input_ids"][0].tolist()
        return Prompt(
            id=prompt_id,
            token_ids=token_ids,
            position_ids=family.positions(token_ids, grids),
            images=tuple(split_images(inputs, grids)),
        )

    return make


def processor_inputs(processor, text, images):
    """Apply the chat template and the processor to one user turn."""
    content = [{"type": "image"} for _ in images] + [{"type": "text", "text": text}]
    chat = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return processor(text=[chat], images=list(images) or None, return_tensors="pt")


def split_images(inputs, grids):
    """Yield the images of one prompt; the key is a digest of the pixels."""
    sizes = [time * height * width for time, height, width in grids]
    for grid, pixels in zip(
        grids, inputs["pixel_values"].split(sizes) if grids else [], strict=True
    ):
        key = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
        yield ProcessedImage(key=key, pixel_values=pixels, grid=grid)


def speckled(width, height, seed):
    """Draw an image of random pixels."""
    noise = torch.randint(
        0, 256, (height * width * 3,), generator=torch.Generator().manual_seed(seed)
    )
    return Image.frombytes("RGB", (width, height), bytes(noise.tolist()))


@pytest.fixture(scope="session")
def images():
    """Three images of different sizes: 4, 6 and 2 image tokens."""
    return {"square": speckled(32, 32, 1), "wide": speckled(48, 32, 2), "low": speckled(32, 16, 3)}


@pytest.fixture(scope="session")
def prompts(make_prompt, images):
    """Student prompts: one image; two images, the first one shared with the first prompt; none; another one."""
    return [
        make_prompt("one", "how many red?", [images["square"]]),
        make_prompt(
            "two",
            "which has more blue, the first or the second?",
            [images["square"], images["wide"]],
        ),
        make_prompt("none", "2+2"),
        make_prompt("low", "count green", [images["low"]]),
    ]


@pytest.fixture(scope="session")
def teacher_prompts(make_prompt, images):
    """The teacher's views of the same problems: same images, longer texts."""
    return [
        make_prompt("one", "how many red? reference: red3", [images["square"]]),
        make_prompt(
            "two", "which has more blue? reference: the second", [images["square"], images["wide"]]
        ),
        make_prompt("none", "2+2 reference: it is 4 because 2 and 2 are 4"),
        make_prompt("low", "count green reference: green1 and nothing else", [images["low"]]),
    ]


@pytest.fixture(scope="session")
def text_prompts(tokenizer):
    """Prompts of unequal lengths for the text model."""
    encoded = [tokenizer.encode(text) for text in ("2+2=", "name a colour: ", "x")]
    return [
        Prompt(id=f"text{i}", token_ids=ids, position_ids=torch.arange(len(ids)).unsqueeze(0))
        for i, ids in enumerate(encoded)
    ]


@pytest.fixture(scope="session")
def random_tokens():
    """Return a function that makes completions of given lengths from plain byte tokens."""

    def make(lengths, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return [
            torch.randint(0, 256, (length,), generator=generator).tolist() for length in lengths
        ]

    return make


@pytest.fixture(scope="session")
def plain_logprobs():
    """Return a function that scores one completion by one plain transformers forward over prompt + completion. [T]"""

    def score(policy, prompt, completion, temperature=1.0):
        ids = torch.tensor([prompt.token_ids + completion])
        inputs = {}
        if prompt.images:
            inputs = {
                "pixel_values": torch.cat([image.pixel_values for image in prompt.images]),
                "image_grid_thw": torch.tensor([image.grid for image in prompt.images]),
                "mm_token_type_ids": (ids == policy.family.image_token_id).int(),
            }
        logits = policy.model(input_ids=ids, use_cache=False, **inputs).logits[0]
        before = logits[len(prompt.token_ids) - 1 : -1] / temperature
        return before.log_softmax(-1).gather(1, torch.tensor(completion).unsqueeze(1)).squeeze(1)

    return score


@pytest.fixture(scope="session")
def gradients_of():
    """Return a function that gives the gradient of a scalar by the name of each weight; 0 where there is none."""

    def gradients(policy, scalar):
        policy.zero_grad()
        scalar.backward()
        return {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
            for name, weight in policy.model.named_parameters()
        }

    return gradients


@pytest.fixture(scope="session")
def assert_same_gradients():
    """Return a function that compares every weight's gradient, relative to that weight's largest one."""

    def check(found, wanted, relative=1e-5):
        floor = 1e-6 * max(float(gradient.abs().max()) for gradient in wanted.values())
        assert found.keys() == wanted.keys()
        for name, gradient in wanted.items():
            allowed = relative * float(gradient.abs().max()) + floor
            error = float((found[name] - gradient).abs().max())
            assert error <= allowed, f"{name}: off by {error:.2e}, allowed {allowed:.2e}"

    return check
