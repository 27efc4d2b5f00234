"""The tables of docs/scaling.md are what the formulas say today."""

import dataclasses

import pytest

from benchmarks.scaling_model import PAGE, base, filled, with_nodes, with_work
from rlsd_lightning.planning.flops import plan_step
from rlsd_lightning.planning.memory import plan_memory


@pytest.fixture(scope="module")
def run():
    return base()


def test_the_pages_tables_are_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page, "run python benchmarks/scaling_model.py --write"


def test_a_page_without_a_place_for_a_table_is_refused():
    with pytest.raises(ValueError, match=r"0 places for the table 'same work'"):
        filled("no place")


def test_twice_the_ranks_halve_update_and_teacher_at_the_same_work(run):
    few, many = (plan_step(with_nodes(run, n, 32 // n)).phases for n in (1, 2))
    for phase in ("teacher", "update"):
        assert many[phase].flops == pytest.approx(few[phase].flops / 2)


def test_a_rank_with_as_much_work_takes_as_long_on_64_nodes_but_for_the_sync(run):
    few, many = (plan_step(with_nodes(run, n, 8)).phases for n in (2, 64))
    for phase in ("rollout", "teacher", "update"):
        assert many[phase] == few[phase]
    # (W - 1) / W of the bytes: 511 / 512 against 15 / 16
    ratio = (511 / 512) / (15 / 16)
    assert many["sync"].seconds == pytest.approx(ratio * few["sync"].seconds)


def test_decoding_does_not_fall_below_what_launching_takes(run):
    alone = with_work(run, num_problems=1, num_micro_batches=1)
    floor = 4096 * 36 * run.assumptions.launch_s_per_layer
    assert floor <= plan_step(alone).phases["rollout"].seconds < 1.02 * floor


def test_memory_falls_with_the_ranks_to_what_every_rank_keeps(run):
    """bfloat16 weights and teacher: 4 bytes each. Gradients, moments and master weights, 16 bytes, are shared out."""
    weights = run.architecture.num_params
    kept, *others = (
        plan_memory(
            dataclasses.replace(run, parallel=dataclasses.replace(run.parallel, num_nodes=n))
        ).resident_bytes
        for n in (1, 2, 64)
    )
    assert others[0] == pytest.approx(kept - 16 * weights * (1 / 8 - 1 / 16))
    assert others[1] == pytest.approx(4 * weights + 2 * 2 * 2e8, rel=0.01)
