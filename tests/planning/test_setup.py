"""From configurations to numbers."""

import pytest
from hydra import compose, initialize_config_module

from rlsd_lightning.planning.engines import PolicyEngine
from rlsd_lightning.planning.setup import read_parallel
from tests.planning.paper import setup

pytestmark = pytest.mark.filterwarnings("ignore:In 'trainer/:UserWarning")  # composed on its own


def test_the_papers_run():
    found = setup()
    parallel, work = found.parallel, found.workload
    assert (parallel.kind, parallel.num_nodes, parallel.gpus_per_node) == ("zero2", 4, 8)
    assert (work.num_problems, work.group_size, work.num_micro_batches) == (8, 8, 8)
    assert (work.prompt_tokens, work.teacher_prompt_tokens, work.completion_tokens) == (
        16384,
        16384,
        4096,
    )
    assert found.num_trainable == found.architecture.num_params == 8_767_123_696
    assert (found.num_teacher_params, found.teacher_sync_steps) == (8_767_123_696, 20)
    assert (found.asks_teacher, found.has_anchor) == (True, False)
    assert found.engine == PolicyEngine(copies=False, max_batch_prompts=64)
    assert found.precision.stored == found.precision.weights == 2


@pytest.mark.parametrize(
    ("trainer", "kind", "shards"),
    [
        ("ddp", "ddp", (1, 1, 1)),
        ("deepspeed_zero1", "zero1", (1, 1, 8)),
        ("deepspeed_zero2", "zero2", (1, 8, 8)),
        ("deepspeed_zero3", "zero3", (8, 8, 8)),
        ("fsdp2", "fsdp2", (8, 8, 8)),
    ],
)
def test_every_trainer_is_known(trainer, kind, shards):
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        node = compose(f"trainer/{trainer}").trainer
    parallel = read_parallel(node, gpus_per_node=8)
    assert parallel.kind == kind
    assert (parallel.weight_shards, parallel.gradient_shards, parallel.optimizer_shards) == shards
    assert not parallel.offload_optimizer


def test_offloading_is_read():
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        parallel = read_parallel(compose("trainer/deepspeed_zero3_offload").trainer, 8)
    assert (parallel.offload_optimizer, parallel.offload_parameters) == (True, True)


def test_devices_may_be_left_to_the_machine():
    assert setup("trainer.devices=auto", "plan.gpus_per_node=4").parallel.world_size == 16


def test_one_device_is_one_process():
    alone = ("trainer=default", "trainer.devices=1", "trainer.num_nodes=1")
    assert setup(*alone).parallel.kind == "single"


@pytest.mark.parametrize(
    ("method", "asks", "copy", "divergence"),
    [("grpo", False, False, False), ("opsd", True, True, True), ("sdpo", True, True, False)],
)
def test_the_other_methods_of_the_table(method, asks, copy, divergence):
    found = setup(experiment=f"{method}_qwen3_vl_8b")
    assert (found.asks_teacher, found.num_teacher_params > 0, found.divergence) == (
        asks,
        copy,
        divergence,
    )


def test_expected_lengths_leave_the_limits_where_they_are():
    given = ("plan.prompt_tokens=1400", "plan.reference_tokens=100", "plan.completion_tokens=1500")
    work = setup(*given).workload
    assert (work.prompt_tokens, work.teacher_prompt_tokens, work.completion_tokens) == (
        1400,
        1500,
        1500,
    )
    longest = (
        work.longest_prompt_tokens,
        work.longest_teacher_prompt_tokens,
        work.longest_completion_tokens,
    )
    assert longest == (16384, 16384, 4096)


def test_without_an_expected_reference_the_teacher_reads_up_to_its_limit():
    work = setup("plan.prompt_tokens=1400", "data.max_teacher_prompt_tokens=20000").workload
    assert (work.prompt_tokens, work.teacher_prompt_tokens) == (1400, 20000)


def test_a_live_teacher_keeps_no_copy():
    assert setup("teacher=live", "credit=rlsd").num_teacher_params == 0


def test_an_external_teacher_has_sizes_of_its_own():
    external = ("credit=opd", "teacher=external", "teacher.path=Qwen/Qwen3-VL-32B-Instruct")
    found = setup(*external, experiment="grpo_qwen3_vl_8b")
    assert found.num_teacher_params == 33_357_390_064
    assert found.teacher_bytes == 2


def test_adapters_take_the_place_of_trained_weights_and_copies():
    """Rank 32 beside 36 layers: 32 x 36 x (2 x (H + A) + 2 x (H + A') + 3 x (H + I))."""
    found = setup("model.lora={rank: 32, alpha: 64}", "loss.kl_weight=0.1")
    assert found.num_trainable == 32 * 36 * (2 * 8192 + 2 * 5120 + 3 * 16384)
    assert (found.num_adapter_sets, found.num_teacher_params, found.anchor_copies) == (2, 0, False)
    assert found.freeze_vision


def test_layers_of_unknown_size_are_told():
    with pytest.raises(
        ValueError, match=r"target_modules names proj, whose size plan does not know"
    ):
        setup("model.lora={rank: 8, alpha: 8, target_modules: [q_proj, proj]}")


def test_a_kl_penalty_keeps_an_anchor():
    assert setup("loss.kl_weight=0.1").has_anchor
    assert not setup("loss.kl_weight=0.1", "credit=rlsd", "teacher=frozen").has_anchor


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "data.max_prompt_tokens=null",
            r"plan\.prompt_tokens and data\.max_prompt_tokens are both null",
        ),
        ("data.max_teacher_prompt_tokens=null", r"plan\.reference_tokens and"),
        ("plan.gpu=h300", r"plan\.gpu is 'h300'.*h200"),
        ("plan.prompt_tokens=0", r"plan\.prompt_tokens is 0"),
        ("plan.scored_fraction=2", r"plan\.scored_fraction is 2"),
        ("trainer.precision=64-true", r"trainer\.precision is '64-true'"),
    ],
)
def test_what_cannot_be_planned_is_told(override, told):
    with pytest.raises(ValueError, match=told):
        setup(override).precision  # noqa: B018
