import csv
import json

import pytest

from benchmarks.claims import collect
from benchmarks.claims.about import compare_settings, run_settings
from benchmarks.claims.arms import read_arms

CONFIG = """
seed: {seed}
paths: {{data: /big/data, runs: {runs}, run: {run}, output: null}}
model: {{path: /big/data/shapes/warm}}
credit: {{_target_: rlsd_lightning.credit.rlsd.RLSDCredit, clip_range: {clip_range}}}
optim: {{lr: 0.0004}}
trainer: {{max_steps: 4, default_root_dir: {runs}}}
callbacks: {{recorder: {{dirpath: {run}/rollouts}}}}
exp_manager: {{name: anything{seed}}}
"""
METRICS = """\
step,loss/entropy,credit/clipped_fraction,val/held_out/accuracy,val/held_out/leakage,val/held_out/num_responses
0,,,0.25,0,512
1,1.0,0.5,,,
2,3.0,0.25,,,
2,,,0.5,0.125,512
3,5.0,0.5,,,
4,6.0,0.5,,,
4,,,0.75,0.25,512
"""


@pytest.fixture
def make_run(tmp_path):
    def make(arm="main/shapes/rlsd", seed=1, metrics=METRICS, clip_range=0.2, folder=None):
        runs = tmp_path / "runs"
        run = runs / arm / (folder or f"seed={seed}") / "version_0"
        (run / "metrics" / "version_0").mkdir(parents=True)
        text = CONFIG.format(seed=seed, runs=runs, run=run, clip_range=clip_range)
        (run / "config.yaml").write_text(text)
        (run / "metrics" / "version_0" / "metrics.csv").write_text(metrics)
        (run / "summary.json").write_text('{"seconds": 30.0}')
        (run / "finished").touch()
        return run

    return make


def run_collect(tmp_path):
    return collect.main([str(tmp_path / "runs"), "--docs", str(tmp_path / "docs")])


def test_each_evaluation_is_a_row_with_the_training_since_the_one_before(make_run, tmp_path):
    make_run()
    assert run_collect(tmp_path) == 0
    with (tmp_path / "docs" / "claims" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = ("step", "accuracy", "leakage", "entropy", "clipped_fraction", "reward")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("0", "0.25", "0", "", "", ""),
        ("2", "0.5", "0.125", "2", "0.375", ""),  # (1 + 3) / 2, (0.5 + 0.25) / 2
        ("4", "0.75", "0.25", "5.5", "0.5", ""),  # (5 + 6) / 2
    ]
    assert {(row["study"], row["task"], row["label"], row["lr"], row["seed"]) for row in rows} == {
        ("main", "shapes", "rlsd", "0.0004", "1")
    }


def test_runs_come_back_as_arms_in_the_order_of_the_page(make_run, tmp_path):
    for seed in (10, 9):
        make_run(seed=seed)
    make_run("main/shapes/grpo")
    make_run("long/shapes_long/rlsd@8e-4")
    assert run_collect(tmp_path) == 0
    arms = read_arms(tmp_path / "docs" / "claims" / "results.csv")
    assert [(arm.study, arm.label, arm.seeds) for arm in arms] == [
        ("main", "grpo", (1,)),
        ("main", "rlsd", (9, 10)),
        ("long", "rlsd@8e-4", (1,)),
    ]
    assert arms[1].steps == (0, 2, 4)
    assert arms[1].accuracy == [[0.25, 0.5, 0.75]] * 2
    assert arms[1].training["entropy"] == [[None, 2.0, 5.5]] * 2


def test_about_tells_settings_apart_and_no_place_of_this_machine(make_run, tmp_path):
    make_run(seed=1)
    make_run(seed=2)
    make_run("ablation/shapes/clip_0.5", clip_range=0.5)
    assert run_collect(tmp_path) == 0
    text = (tmp_path / "docs" / "claims" / "about.json").read_text()
    assert str(tmp_path) not in text
    assert "/big" not in text
    about = json.loads(text)
    assert (about["num_runs"], about["run_seconds"]) == (3, 90)
    assert about["settings"]["by_seed"] == ["seed"]
    assert about["settings"]["by_arm"] == {
        "ablation/shapes/clip_0.5": {"credit.clip_range": 0.5},
        "main/shapes/rlsd": {"credit.clip_range": 0.2},
    }
    assert about["settings"]["shared"] == {
        "model.path": "DATA/shapes/warm",
        "credit._target_": "rlsd_lightning.credit.rlsd.RLSDCredit",
        "optim.lr": 0.0004,
        "trainer.max_steps": 4,
        "callbacks.recorder.dirpath": "RUN/rollouts",
    }
    assert set(about) >= {"date", "commit", "python", "packages", "cpu"}


def test_a_setting_that_some_arms_lack_is_not_shared():
    found = compare_settings({"a": [{"x": 1, "y": None}], "b": [{"x": 1}]})
    assert found == {"shared": {"x": 1}, "by_arm": {"a": {"y": None}, "b": {}}, "by_seed": []}


def test_settings_need_no_paths():
    assert run_settings("seed: 1") == {"seed": 1}


def unfinished(run):
    (run / "finished").unlink()


def without_settings(run):
    (run / "config.yaml").unlink()


def with_broken_settings(run):
    (run / "config.yaml").write_text("seed: [1")


def without_a_seed(run):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("\nseed: 2", ""))


def with_broken_summary(run):
    (run / "summary.json").write_text("{")


def stopped_early(run):
    path = run / "metrics" / "version_0" / "metrics.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unfinished, "did not finish: there is no file finished"),
        (without_settings, "holds 0 runs"),
        (with_broken_settings, "cannot be read"),
        (without_a_seed, "KeyError 'seed'"),
        (with_broken_summary, "JSONDecodeError"),
        (
            stopped_early,
            "val/held_out/accuracy at steps [0, 2], not at each evaluation from 0 to 4",
        ),
    ],
)
def test_a_run_that_cannot_be_used_is_named_and_stops_everything(
    damage, words, make_run, tmp_path, capsys
):
    make_run(seed=1)
    damage(make_run(seed=2))
    assert run_collect(tmp_path) == 1
    error = capsys.readouterr().err
    assert "of 2 runs" in error
    assert "main/shapes/rlsd/seed=2" in error
    assert words in error
    assert not (tmp_path / "docs").exists()


def test_a_folder_that_is_no_study_is_left_out_and_told(make_run, tmp_path, capsys):
    make_run()
    make_run("prepare/shapes/rlsd")
    assert run_collect(tmp_path) == 0
    said = capsys.readouterr().out
    assert "Collected 1 runs" in said
    assert "Left out, as they are no study: prepare." in said


def test_two_runs_of_one_seed_are_refused(make_run, tmp_path, capsys):
    make_run(seed=1)
    make_run(seed=1, folder="again")
    assert run_collect(tmp_path) == 1
    assert "main/shapes/rlsd: has 2 runs of seed 1" in capsys.readouterr().err


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    assert run_collect(tmp_path) == 1
    assert "there is no run" in capsys.readouterr().err


def test_runs_of_a_label_may_differ_in_their_seed_only(make_run, tmp_path):
    make_run(seed=1)
    make_run(seed=2, metrics=METRICS.replace("2,,,0.5,0.125,512\n", ""))
    assert run_collect(tmp_path) == 0
    with pytest.raises(ValueError, match="main/shapes/rlsd have learning rates"):
        read_arms(tmp_path / "docs" / "claims" / "results.csv")
