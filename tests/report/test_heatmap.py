"""The page of one step's credit: under 5 MB whatever the step, nothing of a model's text taken for markup."""

import base64
import hashlib
import io
import re

import numpy as np
import pytest
from PIL import Image

from rlsd_lightning.report import write_report
from rlsd_lightning.report.heatmap import (
    MAX_BYTES,
    Group,
    StepCredit,
    follows_verdict,
    heatmap_steps,
    influence,
    write_heatmap,
)
from rlsd_lightning.report.heatmap_png import draw_heatmap, place_tokens, tint
from rlsd_lightning.report.images import as_picture
from rlsd_lightning.report.samples import Card, prepare
from rlsd_lightning.report.tokens import Scales

ATTACK = '</p><script>alert(1)</script><img src=x onerror="alert(2)">\'"&'


def row(tokens, credit, advantage=1.0, **changes):
    nothing = [None] * len(tokens)
    plain = {
        "step": 1,
        "problem_id": "p",
        "location": "train.jsonl:1",
        "kind": "math",
        "prompt": "How many?",
        "images": [],
        "answer": "4",
        "reference": "2+2=4",
        "response": "".join(tokens),
        "num_tokens": len(tokens),
        "finish_reason": "stop",
        "reward": 1.0,
        "correct": advantage > 0,
        "valid": True,
        "parts": {},
        "reason": "",
        "advantage": advantage,
        "lambda": 0.5,
        "tokens": tokens,
        "policy_logprobs": nothing,
        "teacher_logprobs": nothing,
        "gain": nothing,
        "weight": [x and x / advantage for x in credit] if advantage else nothing,
        "credit": credit,
        "clipped": [False] * len(credit),
    }
    return plain | changes


def group(*rows, pictures=()):
    verdicts = ["right" if one["correct"] else "wrong" for one in rows]
    return Group(rows=[(one, 1) for one in rows], verdicts=verdicts, pictures=list(pictures))


def step_of(*groups, step=1, **changes):
    counts = {
        "num_problems": len(groups),
        "num_completions": sum(len(one.rows) for one in groups),
    }
    return StepCredit(step=step, groups=list(groups), **(counts | changes))


def noise(side, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return as_picture(f"noise {seed}", Image.fromarray(pixels))


def test_influence_is_the_unevenness_then_the_amount():
    # mean 0.5: 0.5 + 0.5 + 1.0
    assert influence([1.0, 0.0, -0.5, 1.5]) == (3.0, 3.0)
    assert influence([0.7] * 9)[0] == 0.0


def test_credit_follows_the_verdict_if_no_token_is_pushed_the_other_way():
    assert follows_verdict([row(["a", "b"], [0.5, None]), row(["a"], [-0.5], advantage=-1.0)])
    assert not follows_verdict([row(["a", "b"], [0.5, -0.1])])
    assert not follows_verdict([row(["a"], [0.1], advantage=0.0)])


def test_a_huge_step_makes_a_page_under_the_limit_that_says_what_is_missing(tmp_path):
    tokens = ['"&<word>'] * 4096
    groups = [
        group(
            *(
                row(tokens, [0.5 + 0.001 * i] * 4096, prompt="<why> " * 20_000, reason=ATTACK * 999)
                for i in range(16)
            ),
            pictures=[noise(900, 10 * number + n) for n in range(2)],
        )
        for number in range(2)
    ]
    many = step_of(*groups * 8, num_problems=300, num_completions=2400)
    path = write_heatmap(many, tmp_path)
    text = path.read_text()
    assert 1_000_000 < path.stat().st_size < MAX_BYTES
    assert re.search(r"Shown are \d+ of 2,400 completions and [1-9] of 300 problems", text)
    assert "the first 300 and the last 500 tokens are shown" in text
    assert "more characters]" in text
    assert path.with_suffix(".png").stat().st_size < 1_000_000


def test_long_texts_are_cut_and_only_the_first_images_are_shown(tmp_path):
    colours = [as_picture(str(i), Image.new("RGB", (4, 4), (i, 0, 0))) for i in range(6)]
    one = group(row(["a"], [1.0], prompt="z" * 5000), pictures=colours)
    text = write_heatmap(step_of(one), tmp_path).read_text()
    assert "z" * 4000 + " [1,000 more characters]" in text
    assert "z" * 4001 not in text
    assert text.count("<img") == 4
    assert "the first 4 are shown" in text


def test_a_problem_too_large_for_the_page_loses_its_least_influential_completions(tmp_path):
    rows = [row([f"{i:x}" + "y" * 4000] * 100, [0.5] * 100) for i in range(16)]  # 400 kB each
    path = write_heatmap(step_of(group(*rows)), tmp_path)
    text = path.read_text()
    assert path.stat().st_size < MAX_BYTES
    assert "Shown are 8 of 16 completions and 1 of 1 problems" in text
    assert re.findall(r'advantage="1.0"><i[^>]*>(.)y', text) == list("01234567")


def test_a_problem_too_large_for_any_page_is_left_out_and_the_page_says_so(tmp_path):
    monster = row(["word"] * 9, [0.5] * 9, location="x" * MAX_BYTES)
    path = write_heatmap(step_of(group(monster)), tmp_path)
    assert path.stat().st_size < 200_000
    assert "no problem of this step fits into a page" in path.read_text()
    assert not path.with_suffix(".png").exists()


def test_text_of_models_and_data_is_never_markup(tmp_path):
    names = ("prompt", "answer", "reference", "response", "reason", "location", "kind")
    attacked = row([ATTACK, "<|x|>"], [0.5, 0.5], **dict.fromkeys(names, ATTACK))
    text = write_heatmap(step_of(group(attacked)), tmp_path).read_text()
    assert re.findall(r"<script[^>]*>", text) == ['<script src="steps.js">', "<script>"]
    assert "<img" not in text
    assert text.count("alert(1)") >= 6


def test_only_the_pages_own_script_and_the_list_of_steps_may_run(tmp_path):
    text = write_heatmap(step_of(group(row(["a"], [1.0]))), tmp_path).read_text()
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' file: 'sha256-{digest}'" in text
    assert "default-src 'none'; img-src data:;" in text
    assert not re.search(r"https?:|@import|url\(", text)


def test_pages_find_each_other_by_a_list_that_each_new_one_writes_again(tmp_path):
    for step in (10, 1, 20):
        write_heatmap(step_of(group(row(["a"], [1.0])), step=step), tmp_path)
    assert (tmp_path / "steps.js").read_text() == "window.HEATMAP_STEPS = [1, 10, 20];\n"
    assert heatmap_steps(tmp_path) == [1, 10, 20]
    assert heatmap_steps(tmp_path / "nowhere") == []


def test_a_step_without_completions_has_a_page(tmp_path):
    text = write_heatmap(step_of(), tmp_path).read_text()
    assert "There is nothing to show: no completion was sampled." in text


def test_the_report_shows_the_newest_picture_and_links_to_every_page(tmp_path):
    assert 'id="heatmaps"' not in write_report(tmp_path).read_text()
    for step in (1, 12):
        write_heatmap(step_of(group(row(["a"], [1.0])), step=step), tmp_path / "heatmaps")
    text = write_report(tmp_path).read_text()
    links = re.findall(r'<a href="(heatmaps/[^"]+)"', text)
    assert links == [
        "heatmaps/step_00000001.html",
        "heatmaps/step_00000012.html",
        "heatmaps/step_00000012.html",
    ]
    newest = (tmp_path / "heatmaps" / "step_00000012.png").read_bytes()
    assert base64.b64encode(newest).decode() in text


def test_the_picture_colours_tokens_by_credit():
    scales = Scales(credit=1.0, weight=0.0, gain=0.0)
    one = prepare(row(["WWWW", "WWWW", "WWWW"], [1.0, -1.0, 0.0]), 1, scales)
    card = Card(row=one.row, verdicts=["right"], pictures=[], shown=[one])
    picture = Image.open(io.BytesIO(draw_heatmap(card, scales, "title"))).convert("RGB")
    # the completion starts at 336 from the left; 145 down is the upper edge of its line, above the letters
    colours = [picture.getpixel((x, 138)) for x in range(336, 700)]
    assert list(dict.fromkeys(colours)) == [(116, 158, 209), (226, 127, 120), (255, 255, 255)]


def test_the_picture_shows_right_and_wrong_in_turn_marks_what_the_evidence_favours_and_stays_small():
    scales = Scales(credit=1.2, weight=0.2, gain=0.0)
    right = prepare(row(["WWWW", "WWWW"], [1.2, 1.0]), 1, scales)
    long = prepare(row(["a\n"] * 900, [1.0] * 900), 1, scales)
    wrong = prepare(row(["WWWW"], [-1.2], advantage=-1.2), 1, scales)
    card = Card(row=right.row, verdicts=["right"], pictures=[], shown=[right, long, wrong])
    picture = Image.open(io.BytesIO(draw_heatmap(card, scales, "title"))).convert("RGB")
    assert picture.height < 900
    column = [picture.getpixel((337, y)) for y in range(106, picture.height)]
    tones = [c for c in dict.fromkeys(column) if c in (tint(12), tint(-12), tint(10))]
    assert tones == [tint(12), tint(-12), tint(10)]  # the long one comes last
    # the line starts 30 below the completion's head at 106, its lower edge 29 below that
    below = {x: picture.getpixel((x, 106 + 30 + 28)) for x in (340, 440)}
    assert below[340] == (28, 30, 33)
    assert below[440] != (28, 30, 33)


class OnePixelFont:
    """Every character is a pixel wide."""

    def getlength(self, text):
        return len(text)


@pytest.mark.parametrize("width", [1, 7, 30, 1000])
def test_tokens_set_into_lines_are_still_the_whole_text(width):
    pieces = ["<thought>", "a\nb", "", " ", "word" * 20, "\n", "end"]
    placed = list(place_tokens(pieces, width, OnePixelFont()))
    for index, piece in enumerate(pieces):
        assert "".join(text for i, _, _, text in placed if i == index) == piece.replace("\n", "")
    assert all(x + len(text) <= width for _, x, _, text in placed)


def test_a_word_that_does_not_fit_moves_to_the_next_line_and_a_line_end_starts_one():
    placed = list(place_tokens(["abc", "de", "f\ng"], 4, OnePixelFont()))
    assert placed == [(0, 0.0, 0, "abc"), (1, 0.0, 1, "de"), (2, 2.0, 1, "f"), (2, 0.0, 2, "g")]
