"""Real vLLM in this process: tiny models on disk, vLLM's environment, and one reason to skip where it is missing.

A test module here imports vllm inside its functions, so that it can be collected where vLLM is not installed.
"""

import copy
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from rlsd_lightning.quickstart.text_model import build_text_model, build_text_tokenizer
from rlsd_lightning.quickstart.tiny_model import build_model
from tests.helpers.vllm_case import Case

WHY_NOT = Path(sys.prefix) / "without-vllm.txt"
"""What scripts/install_vllm.py says where no build of vLLM fits."""


def why_skipped() -> str:
    """Tell why vLLM is missing; empty where it is installed."""
    if importlib.util.find_spec("vllm") is not None:
        return ""
    if WHY_NOT.exists():
        return WHY_NOT.read_text(encoding="utf-8").strip()
    return "vLLM is not installed; scripts/install_vllm.py, which make test runs, does it"


@pytest.fixture(scope="session")
def vllm_cache(tmp_path_factory) -> Path:
    """Where vLLM keeps what it found out about model classes: nothing at first, whatever ran here before."""
    return tmp_path_factory.mktemp("vllm_cache")


@pytest.fixture(scope="module", autouse=True)
def _vllm(vllm_cache):
    """Skip without vLLM; else set what it and the processes that it starts read from the environment."""
    if why_skipped():
        pytest.skip(why_skipped())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        environment.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        environment.setenv("VLLM_CACHE_ROOT", str(vllm_cache))
        environment.setenv("HF_HUB_OFFLINE", "1")
        yield


def untied(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same shape with other weights and an output embedding of its own."""
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        other = type(model)(config)
    other.generation_config = model.generation_config
    return other


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, processor) -> dict[str, Path]:
    """Tiny models as a user has them, in float32: Qwen3 (text_) and Qwen3-VL (vl_), each _tied and _untied."""
    parent = tmp_path_factory.mktemp("models")
    folders = {}
    tokenizer = build_text_tokenizer([])
    for family, model, reader in (
        ("text", build_text_model(tokenizer, seed=0), tokenizer),
        ("vl", build_model(processor.tokenizer, seed=0), processor),
    ):
        for name, one in ((f"{family}_tied", model), (f"{family}_untied", untied(model))):
            folders[name] = parent / name
            one.save_pretrained(folders[name])
            reader.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session")
def living(model_folders):
    """Return a function that gives a case by its model and settings; there is one engine in a process at a time."""
    held = {}

    def case(name, **settings):
        key = (name, *settings.items())
        if key not in held:
            close_all()
            held[key] = Case(model_folders[name], **settings)
        return held[key]

    def close_all():
        for made in held.values():
            made.engine.close()
        held.clear()

    case.close_all = close_all
    yield case
    close_all()


@pytest.fixture
def seeing(living):
    return living("vl_tied")


@pytest.fixture
def text(living):
    return living("text_tied")
