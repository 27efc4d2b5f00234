"""Every method of conf/credit trains a tiny real model, and the options beside them change what they say they change."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset

import rlsd_lightning.conf
from rlsd_lightning.quickstart.tiny_model import build_model, build_processor
from tests.helpers.workplace import SMALL, checkpoint

METHODS = sorted(
    path.stem for path in (Path(rlsd_lightning.conf.__file__).parent / "credit").glob("*.yaml")
)
EXTERNAL = ["opd", "opd_distribution"]
SHORT = (
    *SMALL,
    "trainer.max_steps=2",
    "paths.runs=methods",
    "rollout.sampling.max_completion_tokens=100",  # long enough for an untrained model to end now and then
)
OPTIONS = (
    "credit.thought_only=true",
    "credit.evidence=contrast",
    "credit.mean_one=true",
    "rollout.refill_groups=2",
    "rollout.on_truncated=mask",
    "rollout.length_penalty_tokens=4",
    "rollout.advantages.estimator=rloo",
    "loss.importance_cap=2.0",
    "loss.kl_weight=0.01",
)


def metrics(folder: Path) -> list[dict[str, float]]:
    """Read what a run logged, a row per step."""
    (path,) = folder.glob("metrics/version_*/metrics.csv")
    with path.open() as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if "loss/policy" in row]


@pytest.fixture(scope="module")
def trained(workplace, rlsd):
    """All methods, two steps each, in two sweeps: the folder of each method's run."""
    own = [method for method in METHODS if method not in EXTERNAL]
    processor = build_processor()
    build_model(processor.tokenizer, seed=1).save_pretrained(workplace / "other")
    processor.save_pretrained(workplace / "other")
    external = ("teacher=external", "teacher.path=other", "teacher.dtype=float32")
    folders = {}
    for name, methods, more in (("own", own, ()), ("external", EXTERNAL, external)):
        sweep = (f"credit={','.join(methods)}", f"exp_manager.name={name}")
        done = rlsd("fit", "--multirun", *SHORT, *more, *sweep)
        assert done.returncode == 0, done.stderr
        sweeps = workplace / "methods" / name
        folders |= {method: sweeps / f"credit={method}" / "version_0" for method in methods}
    return folders


@pytest.mark.parametrize("method", METHODS)
def test_it_trains(trained, method):
    rows = metrics(trained[method])
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[-1]["optim/grad_norm"] > 0


def test_the_distribution_forms_and_only_they_add_a_divergence(trained):
    having = {method for method in METHODS if "loss/divergence" in metrics(trained[method])[0]}
    assert having == {method for method in METHODS if method.endswith("distribution")}


def test_an_external_teacher_with_the_policys_own_weights_has_nothing_to_say(workplace, rlsd):
    """The same weights and the same view: no gain, no gradient."""
    own = ("teacher=external", "teacher.path=data/quickstart/warm", "teacher.dtype=float32")
    done = rlsd("fit", *SHORT, *own, "credit=opd_distribution", "exp_manager.name=mirror")
    assert done.returncode == 0, done.stderr
    (first, *_) = metrics(workplace / "methods" / "mirror" / "version_0")
    assert first["loss/divergence"] == pytest.approx(0, abs=1e-6)
    assert first["optim/grad_norm"] == pytest.approx(0, abs=1e-5)


def test_an_external_teacher_with_another_vocabulary_is_refused_by_the_first_token(workplace, rlsd):
    folder = workplace / "strange"
    shutil.copytree(workplace / "data" / "quickstart" / "warm", folder)
    tokenizer = (folder / "tokenizer.json").read_text()
    assert '"purple"' in tokenizer
    (folder / "tokenizer.json").write_text(tokenizer.replace('"purple"', '"mauve"'))
    done = rlsd("fit", *SHORT, "credit=opd", "teacher=external", "teacher.path=strange")
    assert done.returncode != 0
    assert "is 'mauve' there and 'purple' here" in done.stderr


def test_an_external_teacher_is_loaded_and_not_saved(trained):
    path = trained["opd"] / "checkpoints" / "last.ckpt"
    weights = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    assert not [name for name in weights if name.startswith("teacher.copy")]
    assert "teacher.version" in weights


def test_the_ms_swift_preset_keeps_the_policy_near_where_it_started(trained):
    assert "loss/kl" in metrics(trained["rlsd_ms_swift"])[0]
    assert "loss/kl" not in metrics(trained["rlsd_official"])[0]


def test_a_method_without_a_teacher_keeps_no_copy_of_the_policy(trained):
    path = trained["grpo"] / "checkpoints" / "last.ckpt"
    weights = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    assert not [name for name in weights if name.startswith("teacher.copy")]


def test_all_options_at_once_do_not_depend_on_how_the_step_is_cut(workplace, rlsd):
    whole = rlsd("fit", *SMALL, *OPTIONS, "paths.runs=options_whole")
    cut = ("trainer.accumulate_grad_batches=3", "rollout.share_prefix=false")
    parts = rlsd("fit", *SMALL, *OPTIONS, *cut, "paths.runs=options_cut")
    assert whole.returncode == parts.returncode == 0, whole.stderr + parts.stderr
    one, other = (
        checkpoint(workplace, f"options_{name}")["state_dict"] for name in ("whole", "cut")
    )
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], atol=1e-5, rtol=0)
    (logged, *_) = metrics(workplace / "options_whole" / "quickstart" / "version_0")
    assert {"loss/kl", "rollout/refilled_fraction", "loss/importance_capped_fraction"} <= set(
        logged
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["credit=opd"], "Choose teacher=external"),
        (["credit=sdpo", "prompt.siblings=null"], "prompt.siblings is null"),
        (["rollout.on_truncated=drop"], "rollout.on_truncated is 'drop'"),
        (["rollout.advantages.estimator=ppo"], "estimator"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
@pytest.mark.slow
def test_what_cannot_work_is_refused_before_a_step_is_taken(rlsd, workplace, settings, told):
    done = rlsd("fit", *SHORT, *settings, "exp_manager.name=refused")
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((workplace / "methods" / "refused").rglob("metrics.csv"))


def test_a_stream_has_nothing_to_refill_groups_from(rlsd, workplace):
    rows = Dataset.from_json(str(workplace / "data" / "quickstart" / "data" / "train.jsonl"))
    rows.to_parquet(workplace / "train.parquet")
    stream = (
        "data.train._target_=rlsd_lightning.data.StreamingProblems",
        "data.train.path=train.parquet",
        "~data.train.check_images",
    )
    done = rlsd("fit", *SHORT, *stream, "rollout.refill_groups=1", "exp_manager.name=refused")
    assert done.returncode != 0
    assert "rollout.refill_groups is 1, but a stream" in done.stderr


def test_an_evaluation_loads_no_teacher(rlsd):
    absent = ("credit=opd", "teacher=external", "teacher.path=nowhere", "checkpoint=null")
    done = rlsd("validate", *SMALL, *absent)
    assert done.returncode == 0, done.stderr
