"""Images on disk and an encoder around a tiny real Qwen3VLProcessor."""

import pytest
from PIL import Image, ImageDraw

from rlsd_lightning.models.qwen3_vl import Qwen3VLFamily
from rlsd_lightning.prompts import PromptEncoder, PromptTemplate
from tests.helpers.tiny_processor import tiny_config, tiny_processor

SIZES = {"square": (64, 64), "wide": (96, 32), "odd": (70, 45), "large": (700, 300), "tiny": (9, 5)}
"""Width and height."""


@pytest.fixture(scope="session")
def processor():
    return tiny_processor()


@pytest.fixture(scope="session")
def family(processor):
    return Qwen3VLFamily(tiny_config(processor))


@pytest.fixture
def image_paths(tmp_path):
    paths = {}
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        image = Image.new("RGB", (width, height), (40 * number, 90, 200))
        ImageDraw.Draw(image).ellipse((0, 0, width // 2, height // 2), fill=(250, 10 * number, 0))
        paths[name] = str(tmp_path / f"{name}.png")
        image.save(paths[name])
    return paths


@pytest.fixture
def make_encoder(processor, family):
    def make(template=None, **settings):
        template = template or PromptTemplate(
            "{{ problem.prompt }}",
            "{{ student }}{% if reference %} reference: {{ reference }}{% endif %}",
            reference="solution",
        )
        return PromptEncoder(processor, template, family, **settings)

    return make
