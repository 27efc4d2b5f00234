"""The benchmarks' groups: what evaluators=paper composes to, and the turns that the prompt presets write."""

import json

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from rlsd_lightning.config import instantiate, validate
from rlsd_lightning.prompts import PromptTemplate
from rlsd_lightning.types import Problem, Sampling

NAMES = ["mmmu", "mathvista", "mathvision", "wemath", "zerobench"]
PRESETS = ["official", "vlmevalkit", "thought_answer"]

CHOICE = Problem(
    id="validation_Art_1",
    prompt="Who painted <image>?",
    images=("1.png",),
    kind="multiple_choice",
    extra={
        "question": "Who painted <image 1>?",
        "options": ["Monet", "Manet"],
        "question_type": "multiple-choice",
    },
)
OPEN = Problem(
    id="validation_Math_1",
    prompt="How long is it?",
    images=("1.png",),
    kind="text",
    extra={"question": "How long is it?", "question_type": "open"},
)
VISTA = Problem(
    id="8",
    prompt="How heavy is it?",
    images=("1.png",),
    kind="numeric",
    extra={"query": "Hint: Please answer.\nQuestion: How heavy is it? (Unit: g)"},
)
VISION = Problem(
    id="4",
    prompt="<image>\nHow many?",
    images=("1.png",),
    kind="multiple_choice",
    extra={"question": "<image1>\nHow many?", "options": ["1", "2", "3", "4", "5"]},
)
LETTERS = Problem(
    id="5",
    prompt="<image>\nWhich?",
    images=("1.png",),
    kind="multiple_choice",
    extra={"question": "<image1>\nWhich?", "options": ["A", "B", "C", "D", "E"]},
)
STEP = Problem(
    id="2steps_1/2steps_1",
    prompt="How long is it?",
    images=("1.png",),
    kind="multiple_choice",
    extra={"option": "A. 1;B. 2", "options": ["1", "2"]},
)
ZERO = Problem(id="17", prompt="How many cups?", images=("1.png", "2.png"), kind="text")

BOXED = (
    'Please solve the problem step by step and put your answer in one "\\boxed{}". If it is a multiple choice '
    'question, only one letter is allowed in the "\\boxed{}".\n'
)
THOUGHT = (
    "First think step by step inside <thought></thought>, then write only the final answer inside "
    "<answer></answer>."
)
CHOOSE = "Choose the option that answers the question. Answer with its letter."
TURNS = [
    (
        "official",
        "mmmu",
        CHOICE,
        "Who painted <image 1>?\n(A) Monet\n(B) Manet\n\n"
        "Answer with the option's letter from the given choices directly.",
    ),
    (
        "official",
        "mmmu",
        OPEN,
        "How long is it?\nAnswer the question using a single word or phrase.",
    ),
    (
        "official",
        "mathvista",
        VISTA,
        VISTA.extra["query"],
    ),
    (
        "official",
        "mathvision",
        VISION,
        BOXED + "<image1>\nHow many?\n(A) 1\n(B) 2\n(C) 3\n(D) 4\n(E) 5\n",
    ),
    (
        "official",
        "mathvision",
        LETTERS,
        BOXED + "<image1>\nWhich?\n",
    ),
    (
        "official",
        "wemath",
        STEP,
        "Now, we require you to solve a multiple-choice math question. Please briefly "
        "describe your thought process and provide the final answer(option).\nQuestion: How long is it?\n"
        "Option: A. 1;B. 2\nRegarding the format, please answer following the template below, and be sure to include "
        "two <> symbols:\n<Thought process>: <<your thought process>> <Answer>: <<your option>>",
    ),
    (
        "official",
        "zerobench",
        ZERO,
        "How many cups?\n\n\n"
        "Let's think step by step and give the final answer in curly braces, like this: {final answer}",
    ),
    (
        "vlmevalkit",
        "mmmu",
        CHOICE,
        "Question: Who painted <image>?\nOptions:\nA. Monet\nB. Manet\n"
        "Please select the correct answer from the options above. \n",
    ),
    (
        "vlmevalkit",
        "mmmu",
        OPEN,
        "Question: How long is it?\n",
    ),
    (
        "vlmevalkit",
        "mathvista",
        VISTA,
        VISTA.extra["query"],
    ),
    (
        "vlmevalkit",
        "mathvision",
        VISION,
        "<image1>\nHow many?\n(A) 1\n(B) 2\n(C) 3\n(D) 4\n(E) 5\n",
    ),
    (
        "vlmevalkit",
        "wemath",
        STEP,
        "Question: How long is it?\nOptions:\nA. 1\nB. 2\n",
    ),
    (
        "vlmevalkit",
        "zerobench",
        ZERO,
        "How many cups? \n\n\n"
        "Let's think step by step and give the final answer in curly braces,  like this: {final answer}",
    ),
    (
        "thought_answer",
        "mmmu",
        CHOICE,
        f"{CHOOSE}\n\nWho painted <image>?\n\nOptions:\nA. Monet\nB. Manet\n\n{THOUGHT}",
    ),
    (
        "thought_answer",
        "mmmu",
        OPEN,
        f"Answer the question.\n\nHow long is it?\n\n{THOUGHT}",
    ),
    (
        "thought_answer",
        "mathvista",
        VISTA,
        f"{VISTA.extra['query']}\n\n{THOUGHT}",
    ),
    (
        "thought_answer",
        "mathvision",
        LETTERS,
        f"{CHOOSE}\n\n<image>\nWhich?\n\n{THOUGHT}",
    ),
    (
        "thought_answer",
        "wemath",
        STEP,
        f"{CHOOSE}\n\nHow long is it?\n\nOptions:\nA. 1\nB. 2\n\n{THOUGHT}",
    ),
    (
        "thought_answer",
        "zerobench",
        ZERO,
        f"Answer the question.\n\nHow many cups?\n\n{THOUGHT}",
    ),
]


def composed(*overrides):
    with initialize_config_module("rlsd_lightning.conf", version_base="1.3"):
        return compose("config", list(overrides))


@pytest.fixture(scope="module")
def presets():
    """The templates of each preset, by name and benchmark."""
    return {
        preset: OmegaConf.to_container(composed(f"benchmark_prompts={preset}").benchmark_prompts)
        for preset in PRESETS
    }


def shown(source, problem):
    """The user's turn, with <image> for the places of images."""
    template = PromptTemplate(source, "{{ student }}{{ reference }}")
    return template.student_text(problem).replace("\ufdd0", "<image>")


@pytest.mark.parametrize(
    ("preset", "name", "problem", "turn"),
    TURNS,
    ids=[f"{preset}-{name}-{problem.id}" for preset, name, problem, _ in TURNS],
)
def test_a_preset_writes_the_turn_that_it_is_named_after(preset, name, problem, turn, presets):
    assert shown(presets[preset][name], problem) == turn


def test_every_preset_has_every_benchmark_and_every_turn_is_tested(presets):
    assert [list(prompts) for prompts in presets.values()] == [NAMES] * 3
    assert {(preset, name) for preset, name, *_ in TURNS} == {
        (preset, name) for preset in PRESETS for name in NAMES
    }


@pytest.mark.parametrize("problem", [CHOICE, OPEN], ids=lambda problem: problem.id)
def test_thought_answer_asks_as_the_students_prompt_of_that_name_does(problem, presets):
    student = composed("prompt=thought_answer", "experiment=none").prompt.student
    assert shown(presets["thought_answer"]["mmmu"], problem) == shown(student, problem)


def test_an_option_text_that_cannot_be_taken_apart_is_shown_as_it_is(presets):
    problem = Problem(id="1", prompt="?", kind="multiple_choice", extra={"option": "A) 1 B) 2"})
    turn = shown(presets["thought_answer"]["wemath"], problem)
    assert turn == f"{CHOOSE}\n\n?\n\nOptions:\nA) 1 B) 2\n\n{THOUGHT}"


def test_the_papers_benchmarks_compose_resolve_and_validate():
    cfg = composed("evaluators=paper", "experiment=none", "model.path=some/model", "command=test")
    validate(cfg, "test")
    del cfg.data  # whose training set `test` does not read
    tree = OmegaConf.to_container(cfg, resolve=True)
    assert list(tree["evaluators"]) == NAMES
    for name, evaluation in tree["evaluators"].items():
        assert evaluation["prompt"] == tree["benchmark_prompts"][name]
        assert evaluation["sampling"] == tree["benchmark_sampling"]
        assert evaluation["metric"]["samples_per_problem"] == evaluation["samples_per_problem"]
    assert tree["evaluators"]["zerobench"]["samples_per_problem"] == 5


def test_a_part_of_the_benchmarks_can_be_chosen():
    cfg = composed("evaluators=paper", "~evaluators.zerobench", "~evaluators.wemath")
    assert list(cfg.evaluators) == ["mmmu", "mathvista", "mathvision"]
    validate(cfg, "test")
    assert list(composed("evaluators=[mmmu,wemath]").evaluators) == ["mmmu", "wemath"]


def test_a_benchmark_without_a_prompt_of_its_own_gets_the_runs():
    cfg = composed("evaluators=mmmu", "benchmark_prompts.mmmu=null")
    validate(cfg, "test")
    assert cfg.evaluators.mmmu.prompt is None


@pytest.mark.parametrize(
    ("preset", "sampling"),
    [
        ("greedy", Sampling(max_completion_tokens=4096, temperature=0.0)),
        (
            "paper",
            Sampling(
                max_completion_tokens=4096,
                temperature=0.7,
                top_p=0.8,
                top_k=20,
                presence_penalty=1.5,
            ),
        ),
        (
            "qwen3_vl_instruct",
            Sampling(
                max_completion_tokens=32768,
                temperature=0.7,
                top_p=0.8,
                top_k=20,
                presence_penalty=1.5,
            ),
        ),
        (
            "qwen3_vl_thinking",
            Sampling(max_completion_tokens=40960, temperature=1.0, top_p=0.95, top_k=20),
        ),
        ("zerobench", Sampling(max_completion_tokens=4096, temperature=0.7, top_p=0.95)),
    ],
)
def test_a_sampling_preset_is_what_its_source_says(preset, sampling):
    cfg = composed("experiment=none", f"benchmark_sampling={preset}")
    assert instantiate(cfg.benchmark_sampling) == sampling


def test_an_evaluation_is_built_from_a_local_copy_and_scores(tmp_path, images):
    images["low"].save(tmp_path / "1.png")
    row = {"question_id": "17", "question_text": "How many?", "question_answer": "3"}
    path = tmp_path / "zerobench.jsonl"
    path.write_text(json.dumps(row | {"question_images": ["1.png"]}))
    cfg = composed("evaluators=zerobench", f"evaluators.zerobench.problems.path={path}")
    evaluation = instantiate(cfg.evaluators.zerobench)
    problem = evaluation.problems[0]
    evaluation.metric.update([problem] * 5, ["<answer>3</answer>"] * 4 + ["{4}"])
    found = evaluation.metric.compute()
    assert found["pass@1"] == 0.8
    assert found["none/pass@1"] == 0
    assert shown(evaluation.prompt, problem).startswith("Answer the question.\n\nHow many?")


def test_a_misspelt_scorer_is_told_before_anything_is_downloaded():
    with pytest.raises(ValueError, match="scorer is 'oficial'"):
        instantiate(
            composed("evaluators=mmmu", "evaluators.mmmu.metric.scorer=oficial").evaluators.mmmu
        )
