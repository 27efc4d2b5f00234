"""Where a run lives, what it goes on from, and what it never overwrites."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, OmegaConf

from rlsd_lightning import exp_manager, run_folder
from rlsd_lightning.checkpoints import WholeFileCheckpointIO, newest_in
from rlsd_lightning.exp_manager import mark_finished, setup_run
from rlsd_lightning.shards import INDEX
from rlsd_lightning.step_boundary import ends_step
from tests.helpers.ranks import run_under_torchrun

CONF = Path(str(resources.files("rlsd_lightning.conf")))


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    """A machine without ranks or clusters, and an environment that is as before afterwards."""
    for name in (
        "RANK",
        "LOCAL_RANK",
        "NODE_RANK",
        "GROUP_RANK",
        "SLURM_PROCID",
        "SLURM_JOB_ID",
        "TORCHELASTIC_RUN_ID",
        "TORCHELASTIC_RESTART_COUNT",
        "RLSD_SWEEP_JOB",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("RLSD_RUN_DIR", "RLSD_RESUME_FROM"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def cfg(tmp_path) -> DictConfig:
    return OmegaConf.create(
        {
            "command": "fit",
            "seed": 1,
            "optim": {"lr": 1e-6},
            "paths": {"runs": str(tmp_path), "run": None},
            "trainer": {"num_nodes": 1, "enable_progress_bar": True},
            "recorder": {"folder": "${paths.run}/rollouts"},
            "exp_manager": OmegaConf.load(CONF / "exp_manager" / "default.yaml"),
        }
    )


def again(cfg: DictConfig, **changes) -> DictConfig:
    """The configuration as a new process would compose it."""
    fresh = OmegaConf.create(OmegaConf.to_container(cfg))
    fresh.paths.run = None
    for key, value in changes.items():
        OmegaConf.update(fresh, key.replace("__", "."), value)
    return fresh


def write_checkpoint(run_dir: Path, name: str) -> Path:
    path = run_dir / "checkpoints" / name
    WholeFileCheckpointIO().save_checkpoint({"step": torch.tensor(1)}, path)
    return path


def test_a_first_run_gets_version_0_and_its_resolved_settings(cfg, tmp_path):
    run = setup_run(cfg)
    assert run.dir == tmp_path / "default" / "version_0"
    assert run.resume_from is None
    saved = OmegaConf.load(run.dir / "config.yaml")
    assert saved.recorder.folder == cfg.recorder.folder == f"{run.dir}/rollouts"


def test_the_same_command_goes_on_in_an_unfinished_run_from_its_newest_checkpoint(cfg):
    first = setup_run(cfg)
    write_checkpoint(first.dir, "step_00000010.ckpt")
    newest = write_checkpoint(first.dir, "step_00000020.ckpt")
    second = setup_run(again(cfg))
    assert second.dir == first.dir
    assert second.resume_from == newest


def test_the_same_command_after_a_finished_run_starts_a_new_one(cfg):
    first = setup_run(cfg)
    write_checkpoint(first.dir, "step_00000010.ckpt")
    mark_finished(first)
    second = setup_run(again(cfg))
    assert second.dir.name == "version_1"
    assert second.resume_from is None


def test_other_settings_start_a_new_run_and_the_log_says_why(cfg, caplog):
    write_checkpoint(setup_run(cfg).dir, "step_00000010.ckpt")
    with caplog.at_level(logging.INFO):
        second = setup_run(again(cfg, optim__lr=2e-6))
    assert second.dir.name == "version_1"
    assert second.resume_from is None
    assert "version_0 is unfinished, but optim.lr was 1e-06 and is now 2e-06" in caplog.text


def test_a_version_in_which_nothing_happened_is_taken_again(cfg):
    first = setup_run(cfg)
    assert setup_run(again(cfg, optim__lr=2e-6)).dir == first.dir
    assert OmegaConf.load(first.dir / "config.yaml").optim.lr == 2e-6


def test_settings_that_change_no_number_do_not_keep_a_run_from_going_on(cfg):
    first = setup_run(cfg)
    changes = {
        "trainer__enable_progress_bar": False,
        "exp_manager__create_tensorboard_logger": True,
    }
    assert setup_run(again(cfg, **changes)).dir == first.dir


def test_an_older_unfinished_run_of_the_same_settings_is_found_behind_a_newer_one(cfg):
    first = setup_run(cfg)
    write_checkpoint(first.dir, "step_00000010.ckpt")
    assert setup_run(again(cfg, seed=2)).dir.name == "version_1"
    assert setup_run(again(cfg)).dir == first.dir


def test_version_10_is_newer_than_version_9(cfg, tmp_path):
    for number in (9, 10):
        folder = tmp_path / "default" / f"version_{number}"
        folder.mkdir(parents=True)
        run_folder.write_config(cfg, folder)
        write_checkpoint(folder, "step_00000010.ckpt")
    assert setup_run(again(cfg)).dir.name == "version_10"
    assert setup_run(again(cfg, seed=2)).dir.name == "version_11"


def test_without_resume_every_start_is_a_new_run(cfg):
    cfg.exp_manager.resume_if_exists = False
    write_checkpoint(setup_run(cfg).dir, "step_00000010.ckpt")
    run = setup_run(again(cfg))
    assert run.dir.name == "version_1"
    assert run.resume_from is None


def test_a_moved_runs_folder_does_not_look_like_other_settings(cfg, tmp_path):
    setup_run(cfg)
    (tmp_path / "default").rename(tmp_path / "moved")
    assert run_folder.changes(again(cfg), tmp_path / "moved" / "version_0") == ""
    assert "seed was 1" in run_folder.changes(again(cfg, seed=2), tmp_path / "moved" / "version_0")


def test_nothing_to_resume_is_an_error_if_it_must_not_be_ignored(cfg):
    cfg.exp_manager.resume_ignore_no_checkpoint = False
    with pytest.raises(ValueError, match="resume_ignore_no_checkpoint is false"):
        setup_run(cfg)


def test_a_named_version_goes_on_and_other_settings_are_told(cfg, caplog):
    cfg.exp_manager.version = "baseline"
    first = setup_run(cfg)
    assert first.dir.name == "baseline"
    newest = write_checkpoint(first.dir, "step_00000010.ckpt")
    second = setup_run(again(cfg, seed=7))
    assert second.resume_from == newest
    assert "seed was 1 and is now 7" in caplog.text


def test_a_named_version_that_is_finished_is_not_trained_again(cfg):
    cfg.exp_manager.version = "baseline"
    run = setup_run(cfg)
    mark_finished(run)
    with pytest.raises(
        ValueError, match=r"baseline is finished\. Choose another version; .* delete .*finished"
    ):
        setup_run(again(cfg))


def test_a_named_version_with_checkpoints_is_never_overwritten(cfg):
    cfg.exp_manager.update({"version": "baseline", "resume_if_exists": False})
    write_checkpoint(setup_run(cfg).dir, "step_00000010.ckpt")
    with pytest.raises(ValueError, match="holds a run already"):
        setup_run(again(cfg))


def hold(folder: Path) -> subprocess.Popen:
    """Another process that has claimed the folder, as a live run does."""
    code = "import sys, time, pathlib; from rlsd_lightning import run_folder; "
    code += "print(run_folder.claim(pathlib.Path(sys.argv[1])), flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    return process


def test_a_run_that_is_still_alive_is_left_alone_until_it_is_killed(cfg, tmp_path, caplog):
    folder = tmp_path / "default" / "version_0"
    folder.mkdir(parents=True)
    cfg.paths.run = str(folder)
    run_folder.write_config(cfg, folder)
    process = hold(folder)
    try:
        with caplog.at_level(logging.INFO):
            assert setup_run(again(cfg)).dir.name == "version_1"
        assert "another process is writing to it" in caplog.text
        with pytest.raises(ValueError, match="another process is writing to"):
            setup_run(again(cfg, exp_manager__version="version_0"))
    finally:
        process.kill()
        process.wait()
    assert setup_run(again(cfg, exp_manager__version="version_0")).dir == folder


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    whole = write_checkpoint(tmp_path, "step_00000010.ckpt")
    torn = write_checkpoint(tmp_path, "step_00000020.ckpt")
    torn.write_bytes(torn.read_bytes()[:-40])
    (tmp_path / "checkpoints" / "step_00000030.ckpt.partial").write_bytes(b"PK")
    (
        tmp_path / "checkpoints" / "step_00000040.ckpt"
    ).mkdir()  # DeepSpeed's folder, not written to its end
    write_checkpoint(tmp_path, "best_00000050.ckpt")
    assert newest_in(tmp_path / "checkpoints") == whole


def test_a_folder_counts_once_its_index_is_written(tmp_path):
    whole = write_checkpoint(tmp_path, "step_00000010.ckpt")
    sharded = tmp_path / "checkpoints" / "step_00000020.ckpt"
    sharded.mkdir()
    (sharded / "rank00000-0.safetensors").write_bytes(b"weights")
    assert newest_in(tmp_path / "checkpoints") == whole
    (sharded / INDEX).write_text("{}")
    os.utime(sharded / INDEX, ns=(time.time_ns() + 10**9,) * 2)
    assert newest_in(tmp_path / "checkpoints") == sharded


def test_the_newest_checkpoint_is_the_last_written_whatever_its_name(tmp_path):
    write_checkpoint(tmp_path, "step_00000020.ckpt")
    last = write_checkpoint(tmp_path, "last.ckpt")
    os.utime(last, ns=(time.time_ns() + 10**9,) * 2)
    assert newest_in(tmp_path / "checkpoints") == last


def test_last_is_the_newest_checkpoint_of_the_name_finished_or_not(cfg):
    with pytest.raises(
        FileNotFoundError, match=r"checkpoint is last, but .* holds no complete checkpoint"
    ):
        exp_manager.last_checkpoint(cfg)
    run = setup_run(cfg)
    path = write_checkpoint(run.dir, "step_00000010.ckpt")
    mark_finished(run)
    setup_run(again(cfg))
    assert exp_manager.last_checkpoint(again(cfg)) == path


def test_a_relaunched_rank_follows_its_parent_and_writes_nothing(cfg, monkeypatch):
    first = setup_run(cfg)
    checkpoint = write_checkpoint(first.dir, "step_00000010.ckpt")
    parent = setup_run(again(cfg))
    written = (first.dir / "config.yaml").stat().st_mtime_ns
    mark_finished(parent)  # would make any other process start version_1
    monkeypatch.setenv("LOCAL_RANK", "1")
    child_cfg = again(cfg, seed=99)
    child = setup_run(child_cfg)
    assert child == parent
    assert child.resume_from == checkpoint
    assert child_cfg.paths.run == str(first.dir)
    assert (first.dir / "config.yaml").stat().st_mtime_ns == written


def test_ranks_of_torchrun_follow_rank_zero(cfg):
    """Whatever the others see: here the run is finished by the time that rank 1 looks."""

    def work(rank):
        time.sleep(0.3 * rank)
        run = setup_run(again(cfg))
        write_checkpoint(run.dir, "step_00000010.ckpt")
        return run

    def finish(rank):
        run = work(rank)
        mark_finished(run)
        return run

    first, second, third = (run_under_torchrun(function) for function in (work, finish, work))
    for run, (version, step) in zip(
        (first, second, third),
        [("version_0", None), ("version_0", "step_00000010.ckpt"), ("version_1", None)],
        strict=True,
    ):
        assert run[0] == run[1]
        assert run[0].dir.name == version
        assert (run[0].resume_from and run[0].resume_from.name) == step


def test_what_stops_rank_zero_of_torchrun_stops_the_others(cfg):
    """They would wait for its answer otherwise."""
    cfg.exp_manager.exp_dir = "/dev/null/runs"

    def work(rank):
        with pytest.raises((OSError, ValueError)) as stopped:
            setup_run(again(cfg))
        return str(stopped.value)

    own, passed_on = run_under_torchrun(work)
    assert "/dev/null" in own
    assert passed_on == f"rank 0 stopped, so this rank does, too: {own}"


def test_torchrun_without_a_shared_store_needs_a_named_version(cfg, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    with pytest.raises(ValueError, match=r"Set exp_manager\.version=NAME"):
        setup_run(cfg)
    assert setup_run(again(cfg, exp_manager__version="shared")).dir.name == "shared"


def test_several_nodes_need_a_named_version(cfg):
    cfg.trainer.num_nodes = 2
    with pytest.raises(ValueError, match=r"Set exp_manager\.version=NAME"):
        setup_run(cfg)


def test_the_tasks_of_a_slurm_job_share_a_version_that_a_requeue_finds_again(cfg, monkeypatch):
    for name, value in {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    first = setup_run(cfg)
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert setup_run(again(cfg)).dir == first.dir
    assert first.dir.name == "slurm_17"


def test_only_the_first_rank_writes(cfg, monkeypatch, tmp_path):
    monkeypatch.setenv("NODE_RANK", "1")
    setup_run(again(cfg, exp_manager__version="shared"))
    assert list(tmp_path.rglob("*")) == []


def test_every_job_of_a_sweep_has_a_folder_named_after_what_is_swept(cfg, tmp_path, monkeypatch):
    monkeypatch.setenv("RLSD_SWEEP_JOB", "credit=grpo,seed=2")
    assert setup_run(cfg).dir == tmp_path / "default" / "credit=grpo,seed=2" / "version_0"
    monkeypatch.setenv("RLSD_SWEEP_JOB", "data.train.path=/data/a.jsonl")
    assert (
        setup_run(again(cfg, exp_manager__version="a")).dir
        == tmp_path / "default" / "data.train.path=_data_a.jsonl" / "a"
    )


def test_long_overrides_make_short_different_folder_names():
    one, two = (run_folder.safe_name(f"data.train.path={'x' * 300}{end}") for end in "ab")
    assert one != two
    assert max(len(one), len(two)) < 120


class Slope(lightning.LightningModule):
    """One weight that goes down by lr each step; an optimizer step takes K micro-batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.micro_batches = 0

    def training_step(self, batch, batch_idx):
        self.micro_batches += 1
        self.log("loss/policy", self.weight.detach().sum(), on_step=True)
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def train(cfg: DictConfig, max_steps: int, *more_callbacks) -> tuple[Slope, lightning.Trainer]:
    run = setup_run(cfg)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        accumulate_grad_batches=2,
        callbacks=[*more_callbacks, *exp_manager.callbacks(cfg)],
        logger=exp_manager.loggers(cfg, run),
        plugins=[WholeFileCheckpointIO()],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Slope()
    batches = torch.utils.data.DataLoader(torch.zeros(2 * max_steps, 1))
    trainer.fit(module, batches, ckpt_path=run.resume_from, weights_only=False)
    return module, trainer


def test_the_time_limit_stops_at_a_steps_end_and_each_start_has_the_whole_time(cfg):
    cfg.exp_manager.max_time_per_run = "00:00:00:00"
    module, trainer = train(cfg, 4)
    assert (trainer.global_step, module.micro_batches) == (1, 2)
    module, trainer = train(again(cfg), 4)
    assert (trainer.global_step, module.micro_batches) == (2, 2)
    assert module.weight.item() == -1.0
    module, trainer = train(again(cfg, exp_manager__max_time_per_run=None), 4)
    assert (trainer.global_step, module.micro_batches) == (4, 4)
    assert module.weight.item() == -2.0


def test_checkpoints_come_every_n_steps_and_only_the_newest_is_kept(cfg):
    cfg.exp_manager.checkpoint_callback_params.every_n_train_steps = 2
    train(cfg, 5)
    names = sorted(path.name for path in Path(cfg.paths.run, "checkpoints").iterdir())
    assert names == ["last.ckpt", "step_00000004.ckpt"]


def test_no_checkpoint_callback_no_checkpoints(cfg):
    cfg.exp_manager.create_checkpoint_callback = False
    setup_run(cfg)
    assert not [c for c in exp_manager.callbacks(cfg) if isinstance(c, Checkpoint)]


class Kill(lightning.Callback):
    """Ends the process as kill -9 does, in the middle of a step."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 3 and not ends_step(trainer, batch_idx):
            raise KeyError("killed")


def test_each_start_keeps_its_own_metrics(cfg):
    cfg.exp_manager.checkpoint_callback_params.every_n_train_steps = 2
    with pytest.raises(KeyError, match="killed"):
        train(cfg, 5, Kill())
    train(again(cfg), 5)
    files = sorted(Path(cfg.paths.run, "metrics").glob("version_*/metrics.csv"))
    steps = [[line.split(",")[-1] for line in path.read_text().splitlines()] for path in files]
    assert steps == [["step", "0", "1", "2"], ["step", "2", "3", "4"]]


def test_tensorboard_writes_into_the_run_folder(cfg):
    cfg.exp_manager.create_tensorboard_logger = True
    train(cfg, 1)
    assert list(Path(cfg.paths.run, "tensorboard").glob("events.out.tfevents.*"))


def test_wandb_works_offline_and_keeps_its_run_id(cfg, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is an extra")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    cfg.exp_manager.create_wandb_logger = True
    run = setup_run(cfg)
    ids = []
    for _ in range(2):
        _, logger = exp_manager.loggers(cfg, run)
        logger.log_metrics({"rollout/reward_mean": 0.5}, step=1)
        ids.append(logger.experiment.id)
        logger.experiment.finish()
    assert ids[0] == ids[1] == (run.dir / "wandb_id").read_text()
    assert list(run.dir.glob("wandb/offline-run-*"))
