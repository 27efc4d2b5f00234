"""Several runs in one page: found, named by what differs, laid over each other."""

import csv
import json
import re
import shutil
import sys
import time

import pytest

from rlsd_lightning.__main__ import main
from rlsd_lightning.command_line import usage
from rlsd_lightning.report.compare import compare_command, write_comparison
from rlsd_lightning.report.compared import tones
from rlsd_lightning.report.find_runs import find_runs
from rlsd_lightning.report.results import steps_to, thresholds
from rlsd_lightning.report.settings import ABSENT, differences, read_settings, run_names

RLSD, GRPO = "rlsd_lightning.credit.rlsd.RLSDCredit", "rlsd_lightning.credit.grpo.GRPOCredit"


def make_run(folder, settings=None, accuracy=(0.2, 0.4, 0.6), rewards=(0.1, 0.2), **metrics):
    """A run whose held-out accuracy is measured before, between and after two steps."""
    folder.mkdir(parents=True)
    config = {"paths": {"run": str(folder)}, "out": f"{folder}/rollouts"} | (settings or {})
    (folder / "config.yaml").write_text(json.dumps(config))
    first, *rest = accuracy or [None]
    summary = {"finished": True, "seconds": 75.0, "started": 1769860800.0}
    if accuracy:
        summary["warm_start"] = {"val/shapes/accuracy": first}
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = [{"step": s, "rollout/reward_mean": r} for s, r in enumerate(rewards, start=1)]
    rows += [{"step": s, "val/shapes/accuracy": a} for s, a in enumerate(rest, start=1)]
    rows += [
        {"step": step, name.replace("__", "/"): value}
        for name, values in metrics.items()
        for step, value in enumerate(values, start=1)
    ]
    write_metrics(folder, rows)
    return folder


def write_metrics(folder, rows):
    path = folder / "metrics" / "version_0" / "metrics.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)


def credit(target, **others):
    return {"credit": {"_target_": target, **others}}


def sweep(folder, seeds=(1, 2)):
    """RLSD and GRPO with two seeds each, as a sweep lays them out."""
    for name, target, gain in (("rlsd", RLSD, 0.2), ("grpo", GRPO, 0.1)):
        for seed in seeds:
            make_run(
                folder / f"credit={name},seed={seed}" / "version_0",
                credit(target) | {"seed": seed},
                accuracy=(0.2, 0.2 + gain, 0.2 + 2 * gain + 0.01 * seed),
            )
    return folder


def page_of(*folders):
    return write_comparison(folders, folders[0].parent / "compare.html").read_text()


def table(text, section):
    """The cells of a section's first table, line by line."""
    body = re.search(rf'id="{section}".*?<table>(.*?)</table>', text, re.DOTALL)[1]
    return [
        [
            re.sub(r"<[^>]+>", "", cell).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    ]


def charts(text):
    """By title: the series behind a chart."""
    found = re.findall(
        r'data-chart="([^"]*)">\s*<figcaption><b>([^<]*)</b>(?: <span class="note">([^<]*)<)?', text
    )
    return {title: json.loads(data.replace("&#34;", '"'))["series"] for data, title, _ in found}


def test_runs_are_named_by_the_settings_that_tell_them_apart(tmp_path):
    one = make_run(tmp_path / "a", credit(RLSD, clip_range=0.2) | {"optim": {"lr": 1e-3}})
    two = make_run(tmp_path / "b", credit(GRPO) | {"optim": {"lr": 1e-3}})
    three = make_run(tmp_path / "c", credit(GRPO) | {"optim": {"lr": 2e-3}})
    text = page_of(one, two, three)
    assert [line[0] for line in table(text, "results")[1:]] == [
        "credit=RLSDCredit, lr=0.001",
        "credit=GRPOCredit, lr=0.001",
        "credit=GRPOCredit, lr=0.002",
    ]


def test_only_what_differs_is_listed_and_a_runs_own_folder_is_no_difference(tmp_path):
    one = make_run(tmp_path / "a", credit(RLSD, clip_range=0.2) | {"seed": 1, "same": [1, 2]})
    two = make_run(tmp_path / "b", credit(GRPO) | {"seed": 1, "same": [1, 2]})
    assert table(page_of(one, two), "settings")[1:] == [
        ["credit", "RLSDCredit", "GRPOCredit"],
        ["credit.clip_range", "0.2", "-"],
    ]


def test_a_component_that_some_runs_lack_is_one_line_unless_the_others_differ_in_it():
    decay = {"callbacks.d._target_": "a.b.Decay", "callbacks.d.peak": 0.5, "callbacks.d.steps": 9}
    found = differences([decay, decay | {"callbacks.d.steps": 8}, {}])
    assert [(one.key, one.words) for one in found] == [
        ("callbacks.d", ["Decay", "Decay", "-"]),
        ("callbacks.d.steps", ["9", "8", "-"]),
    ]
    assert found[0].values[2] is ABSENT
    assert run_names(found, 3)[0] == ["d=Decay, steps=9", "d=Decay, steps=8", "no d, no steps"]


def test_components_come_first_then_numbers_callbacks_the_seed_and_paths():
    changed = {
        "data.path": "x/{}",
        "seed": "{}",
        "callbacks.a.n": "{}",
        "optim.lr": "{}",
        "credit._target_": "a.b.{}",
    }
    found = differences([{k: v.format(i) for k, v in changed.items()} for i in "12"])
    assert [one.key for one in found] == [
        "credit",
        "optim.lr",
        "callbacks.a.n",
        "seed",
        "data.path",
    ]


def test_an_empty_config_has_no_settings():
    assert read_settings("") == {}


def test_equal_settings_are_told_apart_by_their_folders(tmp_path):
    runs = [make_run(tmp_path / name / "version_0", credit(RLSD)) for name in "ab"]
    text = page_of(*runs)
    assert [line[0] for line in table(text, "results")[1:]] == [
        "all runs (a/version_0)",
        "all runs (b/version_0)",
    ]
    assert "Nothing: all runs have the same settings." in text


def test_folders_of_equal_names_are_told_apart_by_their_whole_path(tmp_path):
    runs = [make_run(tmp_path / place / "a" / "version_0") for place in "xy"]
    names = [line[0] for line in table(page_of(*runs), "results")[1:]]
    assert names == [f"all runs (a/version_0) ({run})" for run in runs]


def test_a_mean_over_runs_of_which_not_all_reached_a_level_says_how_many(tmp_path):
    make_run(tmp_path / "s/a", credit(RLSD) | {"seed": 1}, accuracy=(0.2, 0.3, 0.6))
    make_run(tmp_path / "s/b", credit(RLSD) | {"seed": 2}, accuracy=(0.2, 0.3, 0.4))
    make_run(tmp_path / "s/c", credit(GRPO) | {"seed": 1}, accuracy=(0.2, 0.3, 0.3))
    head, mean = table(page_of(tmp_path / "s"), "results")[:2]
    # levels 30, 40 and 50 %
    reached = dict(zip(head, mean, strict=True))
    assert reached["run"] == "credit=RLSDCredit: mean of 2"
    assert [reached[f"steps to {level}%"] for level in (30, 40, 50)] == ["1", "2", "1 of 2 reached"]


def test_the_table_has_final_and_best_accuracy_steps_to_levels_and_time(tmp_path):
    one = make_run(tmp_path / "a", credit(RLSD), accuracy=(0.2, 0.6, 0.5), time__step_s=(1.0, 2.0))
    two = make_run(tmp_path / "b", credit(GRPO), accuracy=(0.3, 0.3, 0.4), time__step_s=(1.0, 1.0))
    # from 20 % to 60 %: levels 30, 40 and 50 %
    levels = ["steps to 30%", "steps to 40%", "steps to 50%"]
    head, rlsd, grpo = table(page_of(one, two), "results")
    assert head == ["run", "steps", "at first", "final", "best", *levels, "time", "s/step"]
    assert rlsd[1:] == ["2", "20.0%", "50.0%", "60.0%", "1", "1", "1", "1 min 15 s", "1.50"]
    reached = ["0", "2", "not reached"]
    assert grpo[1:] == ["2", "30.0%", "40.0%", "40.0%", *reached, "1 min 15 s", "1.00"]


def test_runs_that_differ_in_the_seed_only_are_averaged(tmp_path):
    text = page_of(sweep(tmp_path / "sweep"))
    lines = {line[0]: line[1:] for line in table(text, "results")[1:]}
    assert list(lines) == [
        "credit=GRPOCredit: mean of 2",
        "credit=GRPOCredit, seed=1",
        "credit=GRPOCredit, seed=2",
        "credit=RLSDCredit: mean of 2",
        "credit=RLSDCredit, seed=1",
        "credit=RLSDCredit, seed=2",
    ]
    # 0.2 + 0.2 + 0.01 and + 0.02; 0.2 + 0.4 + 0.01 and + 0.02
    assert lines["credit=GRPOCredit: mean of 2"][2] == "41.5%"
    assert lines["credit=RLSDCredit: mean of 2"][2] == "61.5%"
    assert lines["credit=GRPOCredit: mean of 2"][6] == "0 of 2 reached"
    grpo, rlsd = charts(text)["Accuracy"]
    assert grpo == {"x": [0, 1, 2], "y": [0.2, 0.3, 0.415], "dots": True}
    assert rlsd["y"] == [0.2, 0.4, 0.615]
    assert table(text, "settings")[1:] == [["credit", "GRPOCredit", "RLSDCredit"]]


def test_runs_of_one_method_with_several_seeds_keep_a_curve_each(tmp_path):
    runs = [make_run(tmp_path / str(seed), {"seed": seed}) for seed in (1, 2)]
    text = page_of(*runs)
    assert len(charts(text)["Accuracy"]) == 2
    assert [line[0] for line in table(text, "results")[1:]] == ["seed=1", "seed=2"]


def test_each_metric_has_one_chart_of_all_runs_that_logged_it(tmp_path):
    values = (0.5, 0.25)
    both = {"loss__entropy": values, "rollout__completion_tokens_mean": (9, 8), "mine__x": values}
    one = make_run(tmp_path / "a", {"seed": 1}, credit__lambda=values, only__here=values, **both)
    two = make_run(tmp_path / "b", {"seed": 2}, **both)
    found = charts(page_of(one, two))
    assert list(found) == ["Accuracy", "Reward", "Entropy", "Length", "Lambda", "mine/x"]
    assert [len(series) for series in found.values()] == [2, 2, 2, 2, 1, 2]


def test_runs_without_evaluations_are_compared_by_what_they_have(tmp_path):
    runs = [make_run(tmp_path / str(seed), {"seed": seed}, accuracy=()) for seed in (1, 2)]
    text = page_of(*runs)
    assert "Accuracy" not in charts(text)
    assert table(text, "results")[0] == ["run", "steps", "time"]


def test_runs_are_found_at_any_depth_once_and_in_natural_order(tmp_path):
    for place in ("b/version_10", "b/version_2", "credit=x,seed=1/version_0"):
        make_run(tmp_path / place)
    (tmp_path / "b/version_2/checkpoints").mkdir()
    (tmp_path / "b/version_2/checkpoints/config.yaml").touch()
    (tmp_path / "link").symlink_to(tmp_path / "b" / "version_10")

    def found(*folders):
        return [str(path.relative_to(tmp_path)) for path in find_runs(folders)]

    in_order = ["b/version_2", "b/version_10", "credit=x,seed=1/version_0"]
    assert found(tmp_path) == in_order
    assert found(tmp_path / "link", tmp_path) == ["link", in_order[0], in_order[2]]


def test_a_folder_that_is_no_run_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"empty holds no run, needs a run's folder .* sweep"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(ValueError, match="gone is not there, needs a run's folder"):
        find_runs([tmp_path / "gone"])
    with pytest.raises(ValueError, match="file is no folder"):
        find_runs([tmp_path / "file"])


def test_one_run_is_too_few_and_a_silent_one_does_not_count(tmp_path):
    one = make_run(tmp_path / "one")
    with pytest.raises(ValueError, match="got 1 run with metrics, needs 2 or more"):
        page_of(one)
    two = make_run(tmp_path / "two")
    shutil.rmtree(two / "metrics")
    with pytest.raises(ValueError, match=r"needs 2 or more\. .*two has no metrics yet"):
        page_of(one, two)
    text = page_of(one, two, make_run(tmp_path / "three", {"seed": 2}))
    assert f"Left out, as it has no metrics yet: {two}" in text


def test_runs_without_a_common_metric_are_told(tmp_path):
    one = make_run(tmp_path / "one", accuracy=(), rewards=(), a__x=(1,))
    two = make_run(tmp_path / "two", accuracy=(), rewards=(), b__y=(1,))
    with pytest.raises(ValueError, match=r"no metric is common .* has a/x; .* has b/y"):
        page_of(one, two)


def test_levels_lie_between_the_lowest_start_and_the_best():
    assert thresholds([[(0, 0.1), (9, 0.5)], [(0, 0.2), (9, 0.3)], []]) == [0.2, 0.3, 0.4]
    assert thresholds([[(0, 0.5), (9, 0.5)]]) == thresholds([[]]) == []
    assert steps_to([(0, 0.1), (20, 0.3), (40, 0.2)], 0.2) == 20


def test_more_groups_than_colours_are_dashed():
    given = tones([str(i) for i in range(30)])
    assert (given["7"], given["8"], given["16"], given["29"]) == (
        "8",
        "1 dashed",
        "1 dotted",
        "6 dotted",
    )


def test_the_page_is_self_contained_quick_and_text_is_never_markup(finished_run, tmp_path):
    attack = '</td><script>alert(1)</script>"'
    runs = [make_run(tmp_path / str(i), {"name": f"{attack}{i}"}) for i in (1, 2)]
    start = time.process_time()
    text = page_of(finished_run, *runs)
    assert time.process_time() - start < 3
    assert len(re.findall("<script", text)) == 1
    assert text.count("alert(1)") >= 2
    assert not re.search(r"https?:|@import|url\(|<link", text)


def test_the_command_takes_folders_with_an_equals_sign_and_an_output(tmp_path):
    folders = [str(path) for path in sorted(sweep(tmp_path / "sweep").iterdir())]
    assert "credit=grpo,seed=1" in folders[0]
    output = tmp_path / "new" / "page.html"
    assert compare_command([*folders, f"output={output}"]) == output
    assert output.exists()


def test_the_command_writes_compare_html_here_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep(tmp_path / "sweep")
    assert compare_command(["sweep"]) == tmp_path / "compare.html"
    assert (tmp_path / "compare.html").exists()


def test_the_command_line_compares_and_tells_a_fault_without_a_traceback(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    sweep(tmp_path / "sweep")
    monkeypatch.setattr(sys, "argv", ["rlsd", "compare", "sweep", "output=page.html"])
    main()
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"
    monkeypatch.setattr(sys, "argv", ["rlsd", "compare", "nowhere"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("compare: nowhere is not there, needs a run's folder")
    assert "Traceback" not in err


def test_the_short_help_lists_it():
    assert "compare RUN RUN ... [output=compare.html]" in usage()
    assert "compare " in usage()
