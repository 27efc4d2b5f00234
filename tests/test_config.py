"""Every fault of a configuration is found before anything is loaded, and all are told at once."""

from __future__ import annotations

import sys
from datetime import date
from fractions import Fraction

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from rlsd_lightning.config import COMMANDS, ConfigError, instantiate, validate
from rlsd_lightning.rules import loggers_are_installed
from rlsd_lightning.spelling import did_you_mean
from rlsd_lightning.targets import locate


def a_config(*changes: str) -> DictConfig:
    """A small configuration without faults, then changed by "key=value"."""
    cfg = OmegaConf.create(
        {
            "command": "fit",
            "seed": 1,
            "paths": {"data": "data", "runs": "runs", "run": None},
            "data": {
                "train": {"_target_": "builtins.dict", "path": "train.jsonl"},
                "on_bad_row": "error",
            },
            "rollout": {
                "_target_": "rlsd_lightning.data.datamodule.RolloutSettings",
                "problems_per_step": 4,
                "group_size": 2,
                "sampling": {
                    "_target_": "rlsd_lightning.types.Sampling",
                    "max_completion_tokens": 8,
                },
            },
            "optim": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-6},
            "trainer": {
                "_target_": "lightning.Trainer",
                "max_steps": 10,
                "accumulate_grad_batches": 2,
            },
            "callbacks": {"stop": {"_target_": "lightning.pytorch.callbacks.Timer"}},
        }
    )
    for change in changes:
        key, value = change.split("=", 1)
        OmegaConf.update(cfg, key, yaml.safe_load(value), force_add=True)
    return cfg


def faults(*changes: str, command: str = "fit") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(a_config(*changes), command)
    return caught.value.faults


@pytest.mark.parametrize("command", COMMANDS)
def test_a_sound_configuration_passes(command):
    needed = ["responses=mine.jsonl"] if command == "score" else []
    validate(a_config(*needed), command)


def test_scoring_needs_something_to_score():
    with pytest.raises(ConfigError, match="responses is null"):
        validate(a_config(), "score")


def test_all_faults_come_in_one_message_one_per_line():
    with pytest.raises(ConfigError) as caught:
        validate(a_config("rollout.group_size=1", "optim.lrr=1", "typo=1"), "fit")
    lines = str(caught.value).splitlines()
    assert lines[0] == "The configuration has 3 faults:"
    assert {line.split()[0] for line in lines[1:]} == {"rollout.group_size", "optim.lrr:", "typo"}


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("typo=1", "no key of the configuration"),
        ("group_size=4", "Did you mean rollout.group_size?"),
        ("data.on_bad_rwo=skip", "Did you mean data.on_bad_row?"),
        ("rolout.group_size=4", "Did you mean rollout?"),
        ("paths.rusn=x", "paths.runs?"),
    ],
)
def test_a_key_that_no_yaml_knows_is_refused(change, hint):
    (fault,) = faults(change)
    assert fault.startswith(change.split("=")[0].split(".")[0])
    assert hint in fault


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("rollout.sampling.temprature=1", "Did you mean rollout.sampling.temperature?"),
        ("optim.learning_rate=1", "It takes params, lr"),
        ("trainer.max_step=5", "Did you mean trainer.max_steps"),
        ("callbacks.stop.durration=1", "Did you mean callbacks.stop.duration?"),
    ],
)
def test_an_argument_that_the_constructor_lacks_is_refused(change, hint):
    (fault,) = faults(change)
    assert "takes no such argument" in fault
    assert hint in fault


def test_a_missing_argument_is_a_fault_unless_the_node_is_partial():
    assert faults("optim._partial_=false") == [
        "optim.params is missing, but AdamW needs it. Set optim.params=VALUE."
    ]


def test_a_value_that_was_never_given_is_a_fault_with_its_key():
    assert faults("data.train.path='???'") == [
        "data.train.path has no value yet (???). Set data.train.path=VALUE."
    ]


def test_a_command_needs_no_value_that_it_never_reads():
    validate(a_config("data.train.path='???'"), "validate")
    validate(a_config("data.train.path='???'"), "export")


def test_a_reference_to_nothing_is_a_fault_with_its_key():
    (fault,) = faults("optim.lr=${rollout.lerning_rate}")
    assert fault.startswith("optim.lr refers to nothing")
    assert "rollout.lerning_rate" in fault


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("rollout.group_size=1", "rollout.group_size"),
        ("rollout.problems_per_step=0", "rollout.problems_per_step"),
        ("trainer.max_steps=-1", "trainer.max_steps"),
        ("trainer.max_steps=null", "trainer.max_steps"),
        ("trainer.max_epochs=3", "trainer.max_epochs"),
        ("trainer.accumulate_grad_batches=9", "trainer.accumulate_grad_batches"),
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches"),
    ],
)
def test_rules_between_groups_hold_for_training(change, key):
    found = faults(change)
    assert found[0].startswith(f"{key} is {change.split('=')[1].replace('null', 'None')}")
    validate(a_config(change), "validate")


@pytest.mark.parametrize(
    ("devices", "num_processes"),
    [("3", 3), ("'3'", 3), ("[0, 1, 2]", 3), ("'0,1,2'", 3), ("auto", 1), ("-1", 1)],
)
def test_devices_are_counted_in_every_form_that_lightning_takes(devices, num_processes):
    """Four problems: three processes cannot share them, one can."""
    cpu = ("trainer.accelerator=cpu", "trainer.num_nodes=1", f"trainer.devices={devices}")
    if num_processes == 1:
        validate(a_config(*cpu), "fit")
        return
    (fault,) = faults(*cpu)
    assert fault.startswith("rollout.problems_per_step is 4, which 3 processes")


@pytest.mark.parametrize(
    "launcher",
    [
        {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "3"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "3", "SLURM_JOB_NAME": "rlsd"},
    ],
    ids=["torchrun", "srun"],
)
def test_processes_that_a_launcher_has_started_count(launcher, monkeypatch):
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    sharing, *_ = faults("trainer.accelerator=cpu")
    assert sharing.startswith("rollout.problems_per_step is 4, which 3 processes")
    counts, _ = faults("trainer.devices=2", "trainer.num_nodes=2")
    assert counts.startswith(
        "trainer.devices is 2 and trainer.num_nodes 2, which makes 4 processes, but 3 were"
    )
    validate(a_config("trainer.devices=3", "rollout.problems_per_step=6"), "fit")


def test_problems_are_shared_evenly_by_all_processes():
    (fault,) = faults("trainer.devices=3", "trainer.accumulate_grad_batches=1")
    assert fault.startswith("rollout.problems_per_step is 4, which 3 processes")
    validate(
        a_config("trainer.devices=2", "trainer.num_nodes=2", "trainer.accumulate_grad_batches=2"),
        "fit",
    )


def test_micro_batches_are_counted_on_each_process():
    (fault,) = faults("trainer.devices=2", "trainer.accumulate_grad_batches=5")
    assert "a step has 4 completions on each process" in fault


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_logger_whose_package_is_missing_is_told_before_anything_is_loaded(package, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("sys.path", [])
        patch.setattr("sys.meta_path", [])
        patch.delitem(sys.modules, package, raising=False)
        rule_faults = list(
            loggers_are_installed({"exp_manager": {f"create_{package}_logger": True}})
        )
    assert rule_faults[0].startswith(
        f"exp_manager.create_{package}_logger is true, but the package {package} is not installed"
    )
    assert list(loggers_are_installed({"exp_manager": {f"create_{package}_logger": False}})) == []


ELSEWHERE = "tests.helpers.fakes.EngineElsewhere"
OVERLAP = (
    f"engine._target_={ELSEWHERE}",
    "engine.script=none",
    "rollout.overlap=true",
    "rollout.max_policy_lag=1",
    "loss={_target_: rlsd_lightning.loss.PolicyLoss, importance_cap: 2.0}",
)


@pytest.mark.parametrize(
    "engine", ["rlsd_lightning.engines.transformers_engine.TransformersEngine", "builtins.dict"]
)
def test_overlap_needs_an_engine_elsewhere(engine):
    changes = [change for change in OVERLAP if not change.startswith("engine.")]
    (fault,) = faults(*changes, f"engine._target_={engine}")
    name = engine.rpartition(".")[2]
    assert fault.startswith(f"rollout.overlap is true, but engine is {name}, which samples in the")
    assert "engine=vllm_server" in fault
    validate(a_config(*OVERLAP), "fit")


def test_overlap_needs_importance_sampling():
    (fault,) = faults(*OVERLAP, "loss.importance_cap=null")
    assert fault.startswith("rollout.overlap is true, but loss.importance_cap is null")
    assert "Set loss.importance_cap=2.0" in fault


@pytest.mark.parametrize(
    ("overlap", "every", "lag"), [(True, 1, 1), (False, 2, 1), (False, 4, 3), (True, 4, 4)]
)
def test_the_lag_that_comes_about_must_be_allowed(overlap, every, lag):
    """Weights that come every n steps are n - 1 old at the last one; overlap adds one."""
    sync = f"{{_target_: builtins.dict, every_n_steps: {every}}}"
    changes = (*OVERLAP, f"rollout.overlap={overlap}", f"callbacks.weight_sync={sync}")
    (fault,) = faults(*changes, f"rollout.max_policy_lag={lag - 1}")
    assert fault.startswith(f"rollout.max_policy_lag is {lag - 1}, but ")
    assert ("rollout.overlap is true" in fault) == overlap
    assert (f"callbacks.weight_sync.every_n_steps is {every}" in fault) == (every > 1)
    assert fault.endswith(f"Set rollout.max_policy_lag={lag}.")
    validate(a_config(*changes, f"rollout.max_policy_lag={lag}"), "fit")


def test_weights_that_are_shared_are_never_old():
    sync = "callbacks.weight_sync={_target_: builtins.dict, every_n_steps: 4}"
    engine = "{_target_: rlsd_lightning.engines.transformers_engine.TransformersEngine, shares_policy_weights: true}"
    validate(a_config(sync, f"engine={engine}"), "fit")


def test_ranks_that_share_an_engine_form_whole_groups_and_ask_it_equally_often():
    shared = ("trainer.devices=4", "engine={_target_: builtins.dict, tensor_parallel_size: 2}")
    validate(a_config(*shared), "fit")
    (fault,) = faults(*shared, "rollout.refill_groups=1")
    assert fault.startswith("rollout.refill_groups is 1, but engine.tensor_parallel_size is 2: ")
    (fault,) = faults(*shared, "trainer.devices=1")
    assert fault.startswith("engine.tensor_parallel_size is 2, but there are 1 processes ")
    validate(a_config("rollout.refill_groups=1"), "fit")


def test_a_step_may_have_as_many_micro_batches_as_completions():
    validate(a_config("trainer.accumulate_grad_batches=8"), "fit")


def test_a_callback_needs_a_target():
    (fault,) = faults("callbacks.stp.duration=5")
    assert fault.startswith("callbacks.stp has no _target_")


def test_a_callback_may_be_switched_off_and_have_any_name():
    validate(
        a_config(
            "callbacks.stop=null", "callbacks.mine._target_=lightning.pytorch.callbacks.Timer"
        ),
        "fit",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim.AdmW", r"has no AdmW\. Did you mean torch\.optim\.Adam\w*"),
        ("rlsd_lightning.typs.Problem", "Did you mean rlsd_lightning.types"),
        ("verifiers.math.Math", "Write rlsd_lightning.verifiers.math.Math"),
        ("nopackage.Thing", "there is no package nopackage"),
        ("Thing", "dotted name"),
        ("math.pi", "something callable"),
    ],
)
def test_a_target_that_is_not_there_is_told_with_what_is_near(name, message):
    with pytest.raises(ValueError, match=message):
        locate(name)
    (fault,) = faults(f"callbacks.stop._target_={name}")
    assert fault.startswith(f"callbacks.stop._target_ is {name}: ")


def test_a_target_whose_module_needs_a_missing_package_names_the_package(tmp_path, monkeypatch):
    (tmp_path / "needy_plugin.py").write_text("import a_package_that_is_nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="the package a_package_that_is_nowhere is not installed"):
        locate("needy_plugin.Thing")


def test_a_function_named_like_its_module_is_found_as_hydra_finds_it(tmp_path, monkeypatch):
    package = tmp_path / "namesakes"
    package.mkdir()
    (package / "__init__.py").write_text("from namesakes.prepare import prepare\n")
    (package / "prepare.py").write_text("def prepare(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("namesakes.prepare")() == 1


def test_what_is_mentioned_twice_is_checked_once():
    (fault,) = faults(
        "data.train._target_=builtins.dct",
        "evaluators.x._target_=builtins.dict",
        "evaluators.x.p=${data.train}",
    )
    assert fault.startswith("data.train._target_")


def test_an_unknown_command_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean validate"):
        validate(a_config(), "valdate")


def test_instantiate_gives_plain_containers():
    made = instantiate(OmegaConf.create({"_target_": "builtins.dict", "rows": [{"a": [1]}]}))
    assert type(made["rows"]) is list
    assert type(made["rows"][0]) is dict
    assert type(made["rows"][0]["a"]) is list


def test_instantiate_hands_runtime_objects_over_as_they_are():
    weights, batch = torch.nn.Linear(1, 1), [Fraction(1, 2)]
    made = instantiate(
        OmegaConf.create({"_target_": "builtins.dict", "a": 1}), weights=weights, batch=batch
    )
    assert made["weights"] is weights
    assert made["batch"] is batch


def test_instantiate_of_a_partial_node_waits_for_the_rest():
    factory = instantiate(
        OmegaConf.create({"_target_": "datetime.date", "_partial_": True, "year": 2026}), month=4
    )
    assert factory(day=1) == date(2026, 4, 1)


def test_instantiate_of_nothing_is_nothing():
    assert instantiate(None) is None


def test_a_constructor_that_refuses_keeps_its_exception_and_names_its_node():
    cfg = OmegaConf.create(
        {
            "rollout": {
                "sampling": {
                    "_target_": "rlsd_lightning.types.Sampling",
                    "max_completion_tokens": 0,
                }
            }
        }
    )
    with pytest.raises(ValueError, match="max_completion_tokens is 0") as caught:
        instantiate(cfg.rollout.sampling)
    assert "rollout.sampling" in caught.value.__notes__[0]


def test_a_nested_constructor_that_refuses_keeps_its_exception_and_names_its_node():
    sampling = {"_target_": "rlsd_lightning.types.Sampling", "max_completion_tokens": 0}
    cfg = OmegaConf.create({"rollout": {"_target_": "builtins.dict", "sampling": sampling}})
    with pytest.raises(ValueError, match="max_completion_tokens is 0") as caught:
        instantiate(cfg.rollout)
    assert "sampling" in caught.value.__notes__[0]


def test_nothing_is_suggested_where_nothing_is_near():
    assert did_you_mean("zebra", ["rollout.group_size", "seed"]) == ""
