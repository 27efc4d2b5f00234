"""A workplace as a user has one: a task, an untrained model, a plugin of the user's own, small settings."""

import csv
import json
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from rlsd_lightning.quickstart.dataset import write_dataset
from rlsd_lightning.quickstart.shapes import Shapes, draw_puzzles
from rlsd_lightning.quickstart.tiny_model import build_model, build_processor

PLUGINS = '''
import contextlib
import os
import signal
import threading

from lightning.pytorch.callbacks import Callback

from rlsd_lightning.engines.transformers_engine import TransformersEngine
from rlsd_lightning.types import Verdict


class SpreadVerifier:
    """Rewards that differ within every group, for an untrained model."""

    def verify(self, problem, response):
        reward = (sum(map(ord, response)) % 7) / 6
        return Verdict(reward=reward, correct=reward > 0.5)


class EngineElsewhere(TransformersEngine):
    """Stands for an engine in another process: weights of its own; whoever comes while it is in use has not waited."""

    runs_elsewhere = True

    def __init__(self, **settings):
        super().__init__(**settings)
        self.in_use = threading.Lock()

    @contextlib.contextmanager
    def alone(self):
        assert self.in_use.acquire(blocking=False), "the engine is in use"
        yield
        self.in_use.release()

    def generate(self, *arguments):
        with self.alone():
            return super().generate(*arguments)

    def load_weights(self, *arguments):
        with self.alone():
            super().load_weights(*arguments)


class SignalOnce(Callback):
    """Sends this process a signal after a micro-batch; only at the first start."""

    def __init__(self, after_batches, number, marker):
        self.after_batches, self.number, self.marker = after_batches, number, marker

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx + 1 == self.after_batches and not os.path.exists(self.marker):
            open(self.marker, "w").close()
            os.kill(os.getpid(), getattr(signal, self.number))
'''
STEPS, MICRO_BATCHES = 6, 2
SMALL = (
    "--config-dir=my_conf",
    "prepare=none",
    "verifier=spread",
    "verify_gold_problems=0",
    "rollout.problems_per_step=4",
    "rollout.group_size=4",
    "rollout.sampling.max_completion_tokens=10",
    f"trainer.max_steps={STEPS}",
    f"trainer.accumulate_grad_batches={MICRO_BATCHES}",
    "trainer.val_check_interval=null",
    "optim.eps=1e-3",  # with 1e-8, AdamW turns a rounding error of a gradient near 0 into a whole step
    "callbacks.lambda_decay={peak: 0.5, warmup_steps: 0, hold_steps: 0, decay_steps: 10}",
    "exp_manager.checkpoint_callback_params.every_n_train_steps=2",
)


def make_workplace(folder: Path) -> None:
    """Make what `prepare` would have made, without the warm start, and a user's plugins."""
    task = folder / "data" / "quickstart"
    puzzles = draw_puzzles("tests", Shapes())
    write_dataset(
        task / "data", {"train": list(islice(puzzles, 20)), "test": list(islice(puzzles, 4))}
    )
    processor = build_processor()
    build_model(processor.tokenizer, seed=0).save_pretrained(task / "warm")
    processor.save_pretrained(task / "warm")
    (folder / "my_plugins.py").write_text(PLUGINS)
    (folder / "my_conf" / "verifier").mkdir(parents=True)
    (folder / "my_conf" / "verifier" / "spread.yaml").write_text(
        "_target_: my_plugins.SpreadVerifier\n"
    )


def write_wemath(folder: Path) -> None:
    """A local copy of We-Math with one problem of two steps; the hub is out of reach here."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (32, 32)).save(folder / "1.png")
    keys = ("2steps_1", "2steps_2", "2steps_multi")
    row = {
        "ID": "2steps_1",
        "knowledge concept": "Up-Down Position",
        "question": "Which?",
        "option": "A. 1; B. 2; C. No correct answer",
        "answer": "B",
        "image_path": "1.png",
        "question number": 1,
    }
    lines = [json.dumps(row | {"key": key}) + "\n" for key in keys]
    (folder / "testmini.jsonl").write_text("".join(lines))


def checkpoint(workplace: Path, runs: str, version: str = "version_0") -> dict:
    """Load the last checkpoint of a version, by default the first one, in a runs folder."""
    path = workplace / runs / "quickstart" / version / "checkpoints" / "last.ckpt"
    return torch.load(path, map_location="cpu", weights_only=False)


def logged(workplace: Path, runs: str) -> list[dict[str, float]]:
    """Read the logged metrics of every step that do not measure time."""
    (path,) = (workplace / runs / "quickstart" / "version_0" / "metrics").glob("*/metrics.csv")
    with path.open() as file:
        steps = [row for row in csv.DictReader(file) if row["loss/policy"]]
    kept = ("credit/", "loss/", "optim/", "rollout/")
    left_out = ("loss/sampler_gap", "loss/approx_kl", "rollout/completion_tokens_max")
    return [
        {k: float(v) for k, v in row.items() if k.startswith(kept) and k not in left_out}
        for row in steps
    ]
