"""The whole page: one file, nothing from outside, nothing of a model's text taken for markup."""

import base64
import hashlib
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from rlsd_lightning.report import __main__ as command
from rlsd_lightning.report import write_report

VOID = {"meta", "img", "input", "br", "hr", "link"}
ATTACK = '</p><script>alert(1)</script><img src=x onerror="alert(2)">\'"&'


class Page(HTMLParser):
    """Collects tags and visible text, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.pieces = [], [], []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.pieces.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.pieces))

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(finished_run):
    return Page(write_report(finished_run).read_text())


def row(**changes):
    plain = {
        "step": 1,
        "problem_id": "p",
        "location": "train.jsonl:1",
        "kind": "math",
        "prompt": "How many?",
        "images": [],
        "answer": "4",
        "reference": "2+2=4",
        "response": "4",
        "num_tokens": 1,
        "finish_reason": "stop",
        "reward": 1.0,
        "correct": True,
        "valid": True,
        "parts": {},
        "reason": "",
        "advantage": 0.0,
        "lambda": 0.0,
    }
    return plain | changes


def write_rows(run_dir, *rows):
    (run_dir / "rollouts").mkdir(parents=True, exist_ok=True)
    (run_dir / "rollouts" / "step_00000001.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in rows)
    )


def test_the_page_is_quick_to_build_and_small(finished_run):
    start = time.process_time()
    path = write_report(finished_run)
    assert time.process_time() - start < 2
    assert path == finished_run / "report.html"
    assert path.stat().st_size < 1_000_000


def test_the_page_needs_nothing_from_outside(finished_run, page):
    text = (finished_run / "report.html").read_text()
    assert not re.search(r"https?:|@import|url\(", text)
    assert all(attrs["src"].startswith("data:image/") for attrs in page.named("img"))
    assert page.named("img")
    assert not page.named("link")
    assert not [attrs for attrs in page.named("script") if "src" in attrs]


def test_only_the_pages_own_script_may_run(finished_run, page):
    text = (finished_run / "report.html").read_text()
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(attrs["content"] for attrs in page.named("meta") if "http-equiv" in attrs)
    assert (
        policy
        == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def test_the_page_says_what_was_learnt_and_how(page):
    assert "Held-out accuracy rose from 26.4% to 87.1%" in page.text
    assert "shapes-rlsd" in page.text
    assert "credit by RLSDCredit" in page.text
    assert "Started 2026-01-31 12:00 UTC by python -m rlsd_lightning fit credit=rlsd." in page.text
    for fact in ("in 3 min 12 s", "16 problems, 8 each", "4,000", "2 rows skipped"):
        assert fact in page.text


def test_all_curves_are_there_and_their_numbers_are_behind_them(page):
    charts = [json.loads(attrs["data-chart"]) for attrs in page.named("figure")]
    titles = re.findall(
        r"(Accuracy|Reward|Leakage|Length|Entropy|Lambda|Clipped|Mean weight|Gain|No signal|Policy loss|Gradient norm|Learning rate|Seconds per step|Whole step|Tokens per second|teacher/version) ",
        page.text,
    )
    assert len(charts) == len(set(titles)) == 17
    assert all(
        len(series["x"]) == len(series["y"]) for chart in charts for series in chart["series"]
    )
    held_out, training = charts[0]["series"]
    assert held_out["x"] == [0, 20, 40, 60, 80]
    assert (held_out["y"][0], held_out["y"][-1]) == (0.264, 0.871)
    assert len(training["x"]) == 80


def test_samples_show_question_answer_reference_verdict_and_coloured_tokens(finished_run, page):
    for step in (1, 40, 80):
        assert f"Step {step} " in page.text
    row_of_first_step = json.loads(
        (finished_run / "rollouts/step_00000001.jsonl").read_text().splitlines()[0]
    )
    assert "only the teacher reads it" in page.text
    assert re.search(r"extracted \d+, gold answer \d+", page.text)
    assert set(row_of_first_step["tokens"]) & {"<thought>"}
    classes = {name for attrs in page.named("i") for name in (attrs.get("class") or "").split()}
    assert {"cp4", "wp12", "wn12", "clip", "special"} <= classes
    lines = [attrs for attrs in page.named("p") if "data-numbers" in attrs]
    assert len(lines) >= 12
    assert all(
        len({len(column) for column in json.loads(line["data-numbers"])}) == 1 for line in lines
    )


def test_skipped_rows_and_the_configuration_are_listed(page):
    assert "train.jsonl:17" in page.text
    assert "the row has no answer" in page.text
    assert "3 prompts were longer than the limit" in page.text
    assert "clip_range: 0.2" in page.text


def test_text_of_models_and_data_is_never_markup(tmp_path):
    numbers = {
        name: [0.5, None]
        for name in ("policy_logprobs", "teacher_logprobs", "gain", "weight", "credit")
    }
    attacked = dict.fromkeys(
        (
            "problem_id",
            "location",
            "kind",
            "prompt",
            "answer",
            "reference",
            "response",
            "reason",
            "finish_reason",
        ),
        ATTACK,
    )
    parts = {ATTACK: 1.0}
    with_tokens = row(
        **attacked, parts=parts, images=[ATTACK], tokens=[ATTACK, "<|x|>"], advantage=1.0, **numbers
    )
    write_rows(tmp_path, with_tokens, row(**attacked | {"response": "other" + ATTACK}))
    (tmp_path / "config.yaml").write_text(f"credit: {ATTACK}")
    summary = {
        "skipped_rows": [[ATTACK, ATTACK]],
        "command": [ATTACK, ATTACK],
        "started": 1.0,
        "final": {f"val/{ATTACK}/accuracy": 0.5},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    metrics = tmp_path / "metrics/version_0/metrics.csv"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('"odd' + ATTACK.replace('"', '""') + '",step\n1.0,0\n')
    page = Page(write_report(tmp_path).read_text())
    assert len(page.named("script")) == 1
    assert not page.named("img")
    assert page.text.count("alert(1)") >= 12


@pytest.mark.parametrize("kept", ["nothing", "config.yaml", "summary.json", "metrics", "rollouts"])
def test_any_part_alone_makes_a_page_that_says_what_is_missing(finished_run, tmp_path, kept):
    if kept != "nothing":
        (tmp_path / kept).symlink_to(finished_run / kept)
    page = Page(write_report(tmp_path).read_text())
    missing = {"config.yaml", "summary.json", "metrics", "rollouts"} - {kept}
    assert all(
        f"There is no {part}" in page.text or f"under {part}/" in page.text for part in missing
    )
    assert page.text.count("There is no") + page.text.count("There are no") >= len(missing)


def test_a_run_without_evidence_is_shown_too(tmp_path):
    grpo = {
        "policy_logprobs": [-0.5],
        "teacher_logprobs": [None],
        "gain": [None],
        "weight": [1.0],
        "credit": [0.7],
    }
    write_rows(tmp_path, row(tokens=["4"], advantage=0.7, **grpo))
    page = Page(write_report(tmp_path).read_text())
    assert "Here every factor is 1: no evidence was used." in page.text
    assert "The teacher was not asked in the steps shown." in page.text


def test_numbers_that_are_not_finite_are_said_not_drawn(tmp_path):
    metrics = tmp_path / "metrics/version_0/metrics.csv"
    metrics.parent.mkdir(parents=True)
    metrics.write_text("optim/grad_norm,step\n1.0,1\nnan,2\n")
    text = write_report(tmp_path).read_text()
    assert "not finite" in Page(text).text
    assert "nan" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL).lower().replace(
        "finance", ""
    )


def test_an_interrupted_and_resumed_run_says_so(finished_run, tmp_path):
    (tmp_path / "metrics").symlink_to(finished_run / "metrics")
    summary = {"finished": False, "max_steps": 100, "resumed_at_steps": [20, 40]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    text = write_report(tmp_path).read_text()
    page = Page(text)
    assert "Unfinished run" in page.text
    assert "of 100 planned" in page.text
    assert "at step 20, 40" in page.text
    assert text.count('class="mark"') == 2 * text.count("<svg")


def test_alarms_are_listed_near_the_top(finished_run, tmp_path):
    (tmp_path / "metrics").symlink_to(finished_run / "metrics")
    alarm = {"metric": ATTACK, "value": 0.0625, "threshold": 0.05, "action": "lower_lambda"}
    rows = [json.dumps({"step": step} | alarm) for step in range(1, 13)]
    (tmp_path / "alarms.jsonl").write_text("\n".join(rows))
    text = write_report(tmp_path).read_text()
    page = Page(text)
    assert "Alarm at step 10: leakage/" in page.text
    assert "was 0.0625, above 0.05; lambda was lowered." in page.text
    assert "and 2 more, listed in alarms.jsonl." in page.text
    assert text.index("Alarm at step 1") < text.index("How it went")
    assert text.count('class="alarm"') == 12 * text.count("<svg")
    assert "an orange one marks an alarm" in page.text
    assert len(page.named("script")) == 1


def test_a_broken_file_of_alarms_is_said(tmp_path):
    (tmp_path / "alarms.jsonl").write_text('{"step": 1')
    assert "alarms.jsonl could not be read" in Page(write_report(tmp_path).read_text()).text


def test_a_photograph_is_scaled_down(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (700, 1000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    write_rows(tmp_path, row(images=[str(tmp_path / "photo.png")]))
    page = Page(write_report(tmp_path).read_text())
    source = page.named("img")[0]["src"]
    assert source.startswith("data:image/jpeg;base64,")
    assert len(source) < 400_000


def test_building_twice_gives_the_same_page(finished_run):
    assert write_report(finished_run).read_bytes() == write_report(finished_run).read_bytes()


def test_the_command_rebuilds_the_page_and_says_where_it_is(finished_run, monkeypatch, capsys):
    (finished_run / "report.html").unlink(missing_ok=True)
    monkeypatch.setattr("sys.argv", ["report", str(finished_run)])
    command.main()
    assert capsys.readouterr().out.strip() == str(finished_run / "report.html")
    assert (finished_run / "report.html").exists()
