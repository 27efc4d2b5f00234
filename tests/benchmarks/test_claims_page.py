import doctest
import importlib
import json

import pytest

from benchmarks.claims import figures, page
from benchmarks.claims.arms import read_arms
from tests.helpers.claims import CLASSES, about, collapse, learner, rows, rows_of, write_results


@pytest.fixture
def page_of(tmp_path):
    def build(results):
        docs = write_results(tmp_path / "docs", results)
        described = json.loads((docs / "claims" / "about.json").read_text())
        return page.build_page(read_arms(docs / "claims" / "results.csv"), described)

    return build


def section(text, title):
    """The part of the page below a heading, up to the next one of its level."""
    level = title.split()[0]
    return text.split(f"\n{title}\n", 1)[1].split(f"\n{level} ", 1)[0]


@pytest.mark.parametrize(
    "name",
    ["about", "arms", "collect", "figures", "page", "statistics", "tables", "verdicts"],
)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(f"benchmarks.claims.{name}")).failed == 0


def test_the_page_is_made_of_the_files_alone(tmp_path):
    docs = write_results(tmp_path / "docs")
    assert page.main(["--docs", str(docs)]) == 0
    first = (docs / "claims.md").read_bytes()
    pictures = {path.name: path.read_bytes() for path in (docs / "claims").glob("*.svg")}
    assert set(pictures) == {
        "main_shapes.svg",
        "main_digits.svg",
        "long_shapes_long.svg",
        "long_digits_long.svg",
    }
    for path in (docs / "claims").glob("*.svg"):
        path.unlink()
    page.main(["--docs", str(docs)])
    assert (docs / "claims.md").read_bytes() == first
    assert {path.name: path.read_bytes() for path in (docs / "claims").glob("*.svg")} == pictures
    assert all(f"claims/{name})".encode() in first for name in pictures)
    assert not any(b"<dc:date>" in picture for picture in pictures.values())


def test_the_page_is_plain_ascii_without_gaps(page_of):
    text = page_of(rows())
    assert text.isascii()
    assert "\n\n\n" not in text
    assert text.endswith("</details>\n")


def test_a_claim_is_met_on_one_task_and_missed_on_the_other(page_of):
    found = section(page_of(rows()), "## Claim 1: at most half of GRPO's steps")
    won, lost = [line for line in found.splitlines() if line.startswith("- ")]
    # shapes_long: GRPO ends at 57.93 %, RLSD's mean is at 47.88 % at step 10 and at 62.81 % at step 20
    assert "`rlsd` is there at step 16.7: 41.8 %" in won
    assert "a ratio of 2.39" in won
    assert "**met**" in won
    assert "does not get there in 40 steps" in lost
    assert "**missed**" in lost


def test_other_numbers_turn_the_verdicts(page_of):
    results = [
        *rows_of("long", "shapes_long", "grpo", learner(2.0)),
        *rows_of("long", "shapes_long", "rlsd", learner(1.0)),
        *rows_of("main", "shapes", "grpo", learner(1.0)),
        *rows_of("main", "shapes", "rlsd", learner(1.5, leakage=0.25)),
        *rows_of("main", "shapes", "opsd", learner(1.0)),
    ]
    text = page_of(results)
    found = text.splitlines()
    assert any(line.startswith("| 1. ") and "| Missed, 1 of 1" in line for line in found)
    assert any(line.startswith("| 2a. ") and "| Missed, 1 of 1" in line for line in found)
    assert any(line.startswith("| 2b. ") and "| Met in 1 of 2" in line for line in found)
    assert "does **not** stay within 1.0 points" in text
    assert "does not fall beyond its interval" in text


def test_a_collapse_is_told_with_its_peak_and_its_leakage(page_of):
    text = page_of(rows())
    assert (
        "`shapes`, `opsd`: mean accuracy is highest at step 10 of 40, in the first half of the training, at "
        "50.0 +- 5.0 %, and then falls by 30.0 +- 0.0 points, to 20.0 +- 5.0 %. Its leakage rises by 80.0 +- 0.0 "
        "points, to 80.0 +- 0.0 %. **Met**."
    ) in text


def test_grpos_own_leakage_counts_as_the_base_rate(page_of):
    results = [
        *rows_of("main", "shapes", "grpo", learner(1.0, leakage=0.25)),
        *rows_of("main", "shapes", "rlsd", learner(1.0, leakage=0.25)),
    ]
    assert (
        "It stays within 1.0 points of the base rate, above which it is by 0.0 points"
        in page_of(results)
    )


def test_the_variant_is_described_by_its_settings_and_judged(page_of):
    found = section(page_of(rows()), "## Claim 3: past the paper")
    assert "`rlsd_plus` differs from `rlsd` in `mean_one=true`." in found
    won, lost = [line for line in found.splitlines() if line.startswith("- ")]
    assert "`rlsd_plus` 35.5 %" in won
    assert won.endswith("**met**.")
    assert lost.endswith("**missed**.")


def test_where_rlsd_does_not_win_is_told(page_of):
    text = page_of(rows())
    found = section(text, "## Where RLSD does not win")
    assert "- `digits_long`: `grpo`. It ends 2.3 points above `rlsd` (difference" in found
    assert "- `digits_long`: to 29.5 % `rlsd` takes" in found
    assert "`shapes`:" not in found


def test_tables_hold_what_was_measured(page_of):
    text = page_of(rows())
    shapes = section(text, "### `shapes`")
    # opsd: 0.2 + 0.3 at step 10, seeds 0.02 apart: s = 0.02, 4.3027 * 0.02 / sqrt(3) = 0.0497
    assert (
        "| `opsd` | 20.0 +- 0.0 | 50.0 +- 5.0 | 40.0 +- 5.0 | 30.0 +- 5.0 | 20.0 +- 5.0 |" in shapes
    )
    assert "2 of 3 by 40" in shapes  # the lowest seed of opsd never reaches the highest threshold
    rates = section(text, "## Learning rates")
    assert "| method | tuning seeds | 0.0002 | 0.0004 | 0.0008 |" in rates
    assert "| `grpo` | 11, 12 |" in rates
    assert rates.count("**") == 4  # one chosen per task, in bold
    ablations = section(text, "## Ablations")
    order = [line.split("`")[1] for line in ablations.splitlines() if line.startswith("| `")]
    assert order == ["grpo", "rlsd", "clip_0.1", "clip_0.5"]
    assert "| `clip_0.5` | `clip_range=0.5` | 2 |" in ablations


def test_a_learning_rate_at_the_edge_or_not_used_is_told(page_of):
    results = [
        *rows_of("long", "shapes_long", "grpo", learner(1.0), lr=2e-4),
        *rows_of("lr", "shapes_long", "grpo@2e-4", learner(0.5), lr=2e-4),
        *rows_of("lr", "shapes_long", "grpo@4e-4", learner(1.0), lr=4e-4),
    ]
    found = section(page_of(results), "## Learning rates")
    assert "- `grpo` is best at 0.0004, the edge of what was tried" in found
    assert "- `grpo` was trained at 0.0002 and not at its best of 0.0004" in found


def test_one_seed_has_no_intervals(page_of):
    results = [
        *rows_of("long", "shapes_long", "grpo", learner(1.0), seeds=(1,)),
        *rows_of("long", "shapes_long", "rlsd", learner(3.0), seeds=(1,)),
        *rows_of("main", "shapes", "opsd", collapse, seeds=(1,)),
    ]
    text = page_of(results)
    assert "+-" not in text.replace("`a +- b`", "")
    assert "(no interval: a single seed)" in text


def test_what_was_not_run_is_said_to_be_not_measured(page_of):
    text = page_of(rows_of("ablation", "shapes", "clip_0.5", learner(1.0)))
    assert text.count("| Not measured: these runs are not among those collected |") == 4
    assert text.count("\nNot run.\n") == 3
    assert "There are no runs of `grpo` and `rlsd` on this task" in text


def test_a_warm_start_of_its_own_for_each_seed_is_not_called_shared(tmp_path):
    docs = write_results(tmp_path / "docs")
    arms = read_arms(docs / "claims" / "results.csv")
    described = about(list(rows()))
    words = "All seeds of a task share one warm start"
    assert words in page.build_page(arms, described)
    described["settings"]["by_seed"].append("model.path")
    assert words not in page.build_page(arms, described)


def test_methods_keep_their_colours_and_labels_keep_their_distance(tmp_path):
    arms = read_arms(write_results(tmp_path / "docs") / "claims" / "results.csv")
    main = [arm for arm in arms if arm.study == "main" and arm.task == "shapes"]
    assert figures.colours(main)[:2] == figures.colours(main[:2])
    assert len(set(figures.colours(main))) == len(CLASSES) + 1
    places = figures.apart([0.5, 0.52, 0.51], 0.1)
    assert sorted(places) == pytest.approx([0.5, 0.6, 0.7])
    assert places[0] < places[2] < places[1]
