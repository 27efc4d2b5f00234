"""Reading a run folder, whole, half-written and empty."""

import json

import pytest

from rlsd_lightning.report.load import load_run


def write_csv(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_rows(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_training_and_evaluations_lie_on_one_axis_of_steps(tmp_path):
    text = "epoch,rollout/accuracy,step,val/x/accuracy\n0,,0,0.2\n0,0.5,1,\n0,,1,0.25\n0,0.75,2,\n"
    write_csv(tmp_path / "metrics/version_0/metrics.csv", text)
    run = load_run(tmp_path)
    assert run.metrics == {
        "rollout/accuracy": {1: 0.5, 2: 0.75},
        "val/x/accuracy": {0: 0.2, 1: 0.25},
    }
    assert run.last_step == 2


def test_after_a_resume_the_later_version_wins_and_ten_is_later_than_two(tmp_path):
    write_csv(tmp_path / "metrics/version_2/metrics.csv", "a,step\n1,1\n2,2\n3,3\n")
    write_csv(tmp_path / "metrics/version_10/metrics.csv", "a,step\n20,2\n")
    assert load_run(tmp_path).metrics["a"] == {1: 1, 2: 20, 3: 3}


def test_an_empty_folder_is_all_notes(tmp_path):
    notes = " ".join(load_run(tmp_path).notes)
    for part in ("config.yaml", "summary.json", "metrics.csv", "rollouts/"):
        assert part in notes


def test_what_a_killed_run_wrote_half_is_left_out_and_said(tmp_path):
    write_csv(tmp_path / "metrics/version_0/metrics.csv", "a,b,step\n1,2,1\n3,")
    write_rows(tmp_path / "rollouts/step_00000001.jsonl", {"credit": [1.0]})
    with (tmp_path / "rollouts/step_00000001.jsonl").open("a") as file:
        file.write('{"credit": [1.')
    (tmp_path / "summary.json").write_text('{"seconds": 1')
    run = load_run(tmp_path)
    assert run.metrics == {"a": {1: 1.0}, "b": {1: 2.0}}
    assert run.recorded == [(1, [{"credit": [1.0]}])]
    assert any("step_00000001.jsonl, line 2" in note for note in run.notes)
    assert any("summary.json could not be read" in note for note in run.notes)


def test_steps_with_tokens_are_preferred(tmp_path):
    for step in (1, 2, 3, 50, 60, 99, 100):
        row = {"credit": [0.0]} if step in (2, 50, 99) else {"response": '"credit": ['}
        write_rows(tmp_path / f"rollouts/step_{step:08d}.jsonl", row)
    assert [step for step, _ in load_run(tmp_path).recorded] == [2, 50, 99]


def test_without_any_tokens_the_text_alone_is_read_and_said(tmp_path):
    for step in (1, 2, 3, 4):
        write_rows(tmp_path / f"rollouts/step_{step:08d}.jsonl", {"response": "a"})
    run = load_run(tmp_path)
    assert [step for step, _ in run.recorded] == [1, 2, 4]
    assert any("without their credit" in note for note in run.notes)


def test_the_ranks_of_a_step_are_read_together(tmp_path):
    for rank in (0, 1):
        write_rows(tmp_path / f"rollouts/step_00000001.rank{rank:03d}.jsonl", {"credit": [rank]})
    assert load_run(tmp_path).recorded == [(1, [{"credit": [0]}, {"credit": [1]}])]


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ("a: 1\ncredit:\n  clip_range: 0.2\n  _target_: rlsd_lightning.credit.rlsd.RLSD\n", "RLSD"),
        ("credit:\n  clip_range: 0.2\nloss:\n  _target_: x.Loss\n", ""),
        (": [not yaml", ""),
    ],
)
def test_the_method_is_the_class_of_the_credit(tmp_path, config, method):
    (tmp_path / "config.yaml").write_text(config)
    assert load_run(tmp_path).method == method


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is not a folder, needs the folder of a run"):
        load_run(tmp_path / "nowhere")
