"""Rows with images in the forms that users bring."""

import io

import datasets
import pytest
from PIL import Image


@pytest.fixture(autouse=True, scope="session")
def _quiet_cache(tmp_path_factory):
    """Keep what `datasets` caches inside the test's own folder."""
    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))
    datasets.disable_progress_bars()
    yield
    patch.undo()


@pytest.fixture
def png():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def image_table(png):
    """Three rows with a list of images each: two, one, none."""
    features = datasets.Features(
        {
            "problem": datasets.Value("string"),
            "answer": datasets.Value("int64"),
            "images": datasets.List(datasets.Image()),
        }
    )
    image = {"bytes": png, "path": None}
    return datasets.Dataset.from_dict(
        {"problem": ["a", "b", "c"], "answer": [1, 2, 3], "images": [[image, image], [image], []]},
        features=features,
    )
