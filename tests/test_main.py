"""What a user types, what Hydra and Lightning's other ranks read of it, and what a user is told."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import lightning
import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.strategies.launchers.subprocess_script import _hydra_subprocess_cmd

from rlsd_lightning.__main__ import main, own_process_state
from rlsd_lightning.command_line import for_hydra, usage
from rlsd_lightning.config import COMMANDS, ConfigError
from rlsd_lightning.engines.errors import EngineError
from rlsd_lightning.types import Sampling
from rlsd_lightning.user_errors import is_users_to_mend


@pytest.fixture(autouse=True)
def _process(monkeypatch, tmp_path):
    """An empty working folder; logging, arguments and Hydra's state as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rlsd"])
    root = logging.getLogger()
    handlers, level, job = list(root.handlers), root.level, HydraConfig.instance().cfg
    yield
    root.handlers[:], HydraConfig.instance().cfg = handlers, job
    root.setLevel(level)


def run(*arguments: str) -> int:
    """Run the command line in this process; return its exit status."""
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_becomes_an_override(command):
    assert for_hydra([command, "seed=2"]) == [f"command={command}", "seed=2"]


def test_flags_may_stand_anywhere():
    wanted = [
        "--multirun",
        "--config-dir",
        "mine",
        "command=fit",
        "credit=rlsd,grpo",
        "~callbacks.report",
    ]
    assert (
        for_hydra(
            ["fit", "--multirun", "credit=rlsd,grpo", "--config-dir", "mine", "~callbacks.report"]
        )
        == wanted
    )


def test_a_command_line_that_was_rewritten_reads_the_same_again():
    once = for_hydra(["fit", "--multirun", "credit=rlsd,grpo"])
    assert for_hydra(once) == once


@pytest.mark.parametrize("arguments", [[], ["seed=2"], ["--multirun", "seed=1,2"]])
def test_without_a_command_all_five_are_listed_and_the_status_is_2(arguments, capsys):
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: python -m rlsd_lightning COMMAND")
    for command, purpose in COMMANDS.items():
        assert f"{command} " in err
        assert purpose in err


def test_help_without_a_command_is_short_and_no_error(capsys):
    assert run("--help") == 0
    assert capsys.readouterr().out == usage() + "\n"


def test_an_unknown_command_comes_with_the_nearest(capsys):
    assert run("exprot", "seed=2") == 2
    assert "'exprot' is no command. Did you mean export?" in capsys.readouterr().err


def test_version_is_ours(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("rlsd_lightning 0.")


def test_help_of_a_command_lists_every_group_with_its_options(capsys):
    assert run("fit", "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("credit: grpo, ") and ", rlsd, " in line for line in lines)
    assert any(line.startswith("trainer: cpu, ddp, ") for line in lines)
    assert not any("pycache" in line for line in lines)


def test_cfg_job_shows_the_composed_configuration_and_runs_nothing(capsys, tmp_path):
    assert run("fit", "--cfg", "job", "rollout.group_size=3", "credit=grpo") == 0
    out = capsys.readouterr().out
    assert "command: fit\n" in out
    assert "  group_size: 3\n" in out
    assert list(tmp_path.iterdir()) == []


def test_misspelt_overrides_are_told_together_each_with_what_is_near(capsys, tmp_path):
    assert run("fit", "optim.lrr=3", "credit=rlds", "credti=grpo", "trainer.max_steps=5") == 2
    out, err = capsys.readouterr()
    assert err.startswith("The configuration has 3 faults:")
    assert "optim.lrr=3: the configuration has no key optim.lrr. Did you mean optim.lr?" in err
    assert "credit=rlds: group credit has no option rlds. Did you mean rlsd?" in err
    assert "credti=grpo: the configuration has no key credti. Did you mean credit?" in err
    assert "Traceback" not in err
    assert "max_steps" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_argument_that_a_yaml_leaves_out_can_be_added_and_the_message_says_how(capsys):
    assert run("fit", "trainer.max_time=00:01:00:00") == 2
    assert "write +trainer.max_time=00:01:00:00" in capsys.readouterr().err


def test_overrides_that_cannot_be_read_are_told(capsys):
    assert run("fit", "predict") == 2
    assert "'predict' cannot be read. Write key=value" in capsys.readouterr().err


def test_several_values_without_multirun_are_told(capsys):
    assert run("fit", "seed=1,2") == 2
    assert "--multirun" in capsys.readouterr().err


@pytest.mark.parametrize("plus", ["+", "++"])
def test_added_keys_that_nothing_takes_are_refused(plus, capsys, tmp_path):
    assert (
        run("fit", f"{plus}typo=1", f"{plus}optim.wieght_decay=3", f"{plus}data.shufle=true") == 2
    )
    err = capsys.readouterr().err
    assert "typo is no key of the configuration" in err
    assert (
        "optim.wieght_decay: AdamW takes no such argument. Did you mean optim.weight_decay?" in err
    )
    assert (
        "data.shufle is no key of the configuration, so it would have no effect. Did you mean data.shuffle?"
        in err
    )
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_config_dir_adds_options(tmp_path, capsys):
    (tmp_path / "mine" / "optim").mkdir(parents=True)
    (tmp_path / "mine" / "optim" / "sgd.yaml").write_text(
        "_target_: torch.optim.SGD\n_partial_: true\nlr: 0.5\n"
    )
    assert run("fit", "--config-dir", "mine", "--cfg", "job", "optim=sgd") == 0
    assert "_target_: torch.optim.SGD" in capsys.readouterr().out
    assert run("fit", "--config-dir", "mine", "optim=sdg") == 2
    assert "group optim has no option sdg. Did you mean sgd?" in capsys.readouterr().err


def test_a_key_of_an_option_that_is_chosen_later_is_no_fault(tmp_path, capsys):
    (tmp_path / "mine" / "optim").mkdir(parents=True)
    (tmp_path / "mine" / "optim" / "sgd.yaml").write_text(
        "_target_: torch.optim.SGD\nmomentum: 0.5\n"
    )
    assert run("fit", "--config-dir", "mine", "optim.momentum=0.9", "optim=sgd", "typo=1") == 2
    err = capsys.readouterr().err
    assert err.startswith(
        "The configuration has 1 fault:\n  typo=1: the configuration has no key typo."
    )


def test_a_config_dir_that_is_not_there_is_told(capsys):
    assert run("fit", "--config-dir", "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_the_traceback_is_there_for_the_asking(monkeypatch):
    monkeypatch.setenv("RLSD_TRACEBACK", "1")
    with pytest.raises(ConfigError, match="group_size is 1"):
        run("fit", "rollout.group_size=1")


def as_job(*arguments: str) -> None:
    """Put this process into the state in which Hydra runs a job."""
    sys.argv[1:] = for_hydra(list(arguments))
    multirun = "--multirun" in arguments
    overrides = [word for word in sys.argv[1:] if "=" in word]
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        cfg = compose(
            "main",
            [*overrides, f"hydra.mode={'MULTIRUN' if multirun else 'RUN'}"],
            return_hydra_config=True,
        )
    cfg.hydra.runtime.cwd = os.getcwd()
    HydraConfig.instance().set_config(cfg)


def what_a_rank_reads() -> list[str]:
    """The overrides that a rank finds which Lightning starts now."""
    command, _ = _hydra_subprocess_cmd(local_rank=1)
    start = (
        len(command) - len(sys.argv[1:]) - 3
    )  # what Lightning adds: run dir, job name, no subfolder
    assert command[start:-3] == sys.argv[1:]
    return for_hydra(command[start:])


def test_the_other_ranks_find_the_same_command_and_settings():
    as_job("predict", "rollout.group_size=3")
    with own_process_state():
        overrides = what_a_rank_reads()
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        cfg = compose("main", overrides)
    assert cfg.command == "predict"
    assert cfg.rollout.group_size == 3


def test_the_other_ranks_of_a_sweeps_job_run_that_job_alone():
    as_job(
        "fit", "--multirun", "credit=grpo", "seed=2"
    )  # as Hydra composes one of credit=rlsd,grpo
    sys.argv[1:] = for_hydra(
        ["fit", "--multirun", "--config-dir", "mine", "credit=rlsd,grpo", "seed=1,2"]
    )
    with own_process_state():
        read = what_a_rank_reads()
        assert os.environ["RLSD_SWEEP_JOB"] == "credit=grpo,seed=2"
    assert read[:5] == ["--config-dir", "mine", "command=fit", "credit=grpo", "seed=2"]
    assert not any("mode" in word or "multirun" in word for word in read)
    assert "--multirun" in sys.argv


def test_a_job_of_a_sweep_is_named_after_what_is_swept_and_nothing_else():
    as_job("fit", "--multirun", "credit=grpo", "seed=2", "rollout.group_size=4")
    sys.argv[1:] = for_hydra(
        ["fit", "--multirun", "credit=rlsd,grpo", "seed=2", "rollout.group_size=4"]
    )
    with own_process_state():
        assert os.environ["RLSD_SWEEP_JOB"] == "credit=grpo"


def test_a_job_of_a_sweep_leaves_nothing_behind_for_the_next(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    as_job("fit", "--multirun", "seed=1")
    before = dict(os.environ)
    with own_process_state():
        os.environ.update({"LOCAL_RANK": "0", "RLSD_RUN_DIR": "somewhere"})
        del os.environ["WORLD_SIZE"]
    assert dict(os.environ) == before


def error_of(function) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any exception is a case here
        function()
    return caught.value


def test_what_this_package_raises_on_purpose_is_for_the_user_to_mend():
    assert is_users_to_mend(error_of(lambda: Sampling(max_completion_tokens=0)))


def test_what_lightning_calls_a_misconfiguration_is_for_the_user_to_mend():
    assert is_users_to_mend(error_of(lambda: lightning.Trainer(fast_dev_run=-1)))


def test_what_another_package_raises_keeps_its_traceback():
    def elsewhere():
        raise ValueError("a bug")

    assert not is_users_to_mend(error_of(elsewhere))


def test_a_call_that_failed_is_a_bug_even_within_this_package():
    assert not is_users_to_mend(error_of(lambda: Sampling(max_completion_tokens="many")))
    assert not is_users_to_mend(error_of(lambda: int("many")))


def test_an_engines_own_words_are_enough_unless_a_library_failed():
    def alone():
        raise EngineError("engine: too long")

    def with_a_cause():
        raise EngineError("engine: vLLM failed") from RuntimeError("a kernel failed")

    assert is_users_to_mend(error_of(alone))
    assert not is_users_to_mend(error_of(with_a_cause))


def test_the_module_runs_as_a_program_and_needs_no_hydra_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "rlsd_lightning", "fit", "rollout.group_size=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("The configuration has 1 fault:\n  rollout.group_size is 1")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
