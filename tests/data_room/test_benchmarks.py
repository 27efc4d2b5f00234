"""Small files in the published form of each benchmark: parquet with image bytes, folders as saved, JSONL."""

import json
import math
from types import SimpleNamespace

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest

from rlsd_lightning.data.benchmarks import MMMU, MathVision, MathVista, WeMath, ZeroBench
from rlsd_lightning.data.benchmarks.wemath import split_options
from rlsd_lightning.data.images import load_image

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
TEXT, TEXTS = pyarrow.string(), pyarrow.list_(pyarrow.string())


def schema(texts, **others):
    """The columns of a benchmark: texts, and others with their types."""
    return pyarrow.schema([(name, TEXT) for name in texts] + list(others.items()))


MMMU_SCHEMA = schema(
    [
        "id",
        "question",
        "options",
        "explanation",
        "img_type",
        "answer",
        "topic_difficulty",
        "question_type",
        "subfield",
    ],
    **{f"image_{number}": IMAGE for number in range(1, 8)},
)
MATHVISTA_SCHEMA = schema(
    ["pid", "question", "image", "unit", "answer", "question_type", "answer_type", "query"],
    decoded_image=IMAGE,
    choices=TEXTS,
    precision=pyarrow.float64(),
    metadata=pyarrow.struct(
        {"category": TEXT, "context": TEXT, "grade": TEXT, "language": TEXT, "skills": TEXTS}
        | {"source": TEXT, "split": TEXT, "task": TEXT}
    ),
)
MATHVISION_SCHEMA = schema(
    ["id", "question", "image", "answer", "solution", "subject"],
    options=TEXTS,
    decoded_image=IMAGE,
    level=pyarrow.int64(),
)
WEMATH_SCHEMA = schema(
    [
        "ID",
        "split",
        "knowledge concept",
        "question",
        "option",
        "answer",
        "key",
        "knowledge concept description",
    ],
    image_path=IMAGE,
    **{"question number": pyarrow.int64()},
)
ZEROBENCH_SCHEMA = schema(
    ["question_id", "question_text", "question_answer", "image_attribution"],
    question_images_decoded=pyarrow.list_(IMAGE),
    question_images=TEXTS,
)


def write(path, schema, *rows):
    """Write rows as parquet; fields that they lack are null."""
    full = [{name: None for name in schema.names} | row for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(full, schema=schema), path)
    return str(path)


@pytest.fixture
def image(png):
    return {"bytes": png, "path": "1.png"}


@pytest.fixture
def rows(image):
    """A plain row of each benchmark."""
    return SimpleNamespace(
        mmmu={
            "id": "validation_Art_Theory_1",
            "question": "Who painted <image 1>?",
            "options": "['Monet', 'Manet']",
            "explanation": "",
            "image_1": image,
            "img_type": "['Paintings']",
            "answer": "B",
            "topic_difficulty": "Easy",
            "question_type": "multiple-choice",
            "subfield": "Art History",
        },
        mathvista={
            "pid": "8",
            "question": "How heavy is the cube?",
            "image": "images/8.jpg",
            "decoded_image": image,
            "unit": "g",
            "precision": 1.0,
            "answer": "1.2",
            "question_type": "free_form",
            "answer_type": "float",
            "metadata": {
                "category": "math-targeted-vqa",
                "context": "scientific figure",
                "grade": "high school",
                "language": "english",
                "skills": ["arithmetic reasoning", "scientific reasoning"],
                "source": "SciBench",
                "split": "testmini",
                "task": "textbook question answering",
            },
            "query": "Hint: ...\nQuestion: How heavy is the cube? (Unit: g)",
        },
        mathvision={
            "id": "4",
            "question": "Which is next?\n<image1>",
            "options": ["A", "B", "C", "D", "E"],
            "image": "images/4.jpg",
            "decoded_image": image,
            "answer": "D",
            "level": 1,
            "subject": "logic",
        },
        wemath={
            "ID": "2steps_1",
            "split": "testmini",
            "knowledge concept": "Length Units",
            "question": "How long is it?",
            "option": "A. 300, 400;B. 400, 300; C. No correct answer",
            "answer": "C",
            "image_path": image,
            "key": "2steps_multi",
            "question number": 721,
            "knowledge concept description": "Length Units: ...",
        },
        zerobench={
            "question_id": "17_2",
            "question_text": "How many red cups?",
            "question_images_decoded": [image, image],
            "question_answer": "3",
            "question_images": ["images/17_0.png", "images/17_1.png"],
            "image_attribution": "Own",
        },
    )


def mmmu_of(tmp_path, *rows, **settings):
    return MMMU(write(tmp_path / "all.parquet", MMMU_SCHEMA, *rows), **settings)


def test_mmmu_reads_options_and_puts_the_image_where_it_is_marked(tmp_path, rows):
    (problem,) = mmmu_of(tmp_path, rows.mmmu)
    assert problem.id == "validation_Art_Theory_1"
    assert problem.prompt == "Who painted <image>?"
    assert (problem.answer, problem.kind, problem.reference) == ("B", "multiple_choice", None)
    assert load_image(problem.images[0]).size == (8, 4)
    assert problem.extra == {
        "question": "Who painted <image 1>?",
        "options": ["Monet", "Manet"],
        "img_type": "['Paintings']",
        "topic_difficulty": "Easy",
        "question_type": "multiple-choice",
        "subfield": "Art History",
    }


def test_mmmu_images_come_in_the_order_of_their_marks(tmp_path, rows):
    images = {
        f"image_{n}": {"bytes": rows.mmmu["image_1"]["bytes"], "path": str(n)} for n in (1, 2, 3)
    }
    question = {"question": "<image 3> is to <image 1> as <image 2> to what?"}
    (problem,) = mmmu_of(tmp_path, rows.mmmu | images | question)
    assert problem.prompt == "<image> is to <image> as <image> to what?"
    assert [image["path"] for image in problem.images] == ["3", "1", "2"]


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Which is red?", "options": "['<image 1>', '<image 2>']"},
        {"question": "<image 1> <image 2>", "options": "['<image 1>', 'none']"},
        {"question": "In <image 1>, unlike <image 2>, which is red? See <image 1>."},
        {"question": "Which is red in <image 1>?"},
        {"question": "Which is red in <image 1>, <image 2>, <image 3>?"},
    ],
)
def test_mmmu_images_that_are_not_marked_once_each_stand_first(tmp_path, rows, image, change):
    (problem,) = mmmu_of(tmp_path, rows.mmmu | {"image_2": image} | change)
    assert problem.prompt == change["question"]
    assert len(problem.images) == 2


def test_mmmu_answers_in_a_list_are_unpacked_and_other_open_answers_are_not(tmp_path, rows):
    opened = rows.mmmu | {"options": "[]", "question_type": "open"}
    several = opened | {"id": "validation_Math_15", "answer": "['24/7', '3.429']"}
    interval = opened | {"id": "validation_Math_16", "answer": "[0, 1)"}
    numbers = opened | {"id": "validation_Math_17", "answer": "[0, 1]"}
    problems = list(mmmu_of(tmp_path, several, interval, numbers))
    assert problems[0].extra["answers"] == ["24/7", "3.429"]
    assert problems[0].answer == "['24/7', '3.429']"
    assert [p.extra.get("answers") for p in problems[1:]] == [None, None]
    assert {p.kind for p in problems} == {"text"}
    assert not any("options" in p.extra for p in problems)


def test_mmmu_answers_and_options_may_be_real_lists_in_jsonl(tmp_path, rows, png):
    (tmp_path / "1.png").write_bytes(png)
    row = rows.mmmu | {"image_1": "1.png", "options": [], "question_type": "open"}
    row |= {"answer": ["Tampa", "Florida"]}
    (tmp_path / "val.jsonl").write_text(json.dumps(row) + "\n")
    (problem,) = MMMU(str(tmp_path / "val.jsonl"))
    assert problem.extra["answers"] == ["Tampa", "Florida"]
    assert problem.images == (str(tmp_path / "1.png"),)


def test_mmmu_is_read_from_a_folder_per_subject_as_on_the_hub(tmp_path, rows):
    for subject in ("Art_Theory", "Math"):
        for split in ("dev", "validation"):
            row = rows.mmmu | {"id": f"{split}_{subject}_1"}
            write(tmp_path / subject / f"{split}-00000-of-00001.parquet", MMMU_SCHEMA, row)
    chosen = MMMU(str(tmp_path), subjects=["Math", "Art_Theory"])
    assert [p.id for p in chosen] == ["validation_Math_1", "validation_Art_Theory_1"]
    assert [p.id for p in MMMU(str(tmp_path), subjects=["Math"], split="dev")] == ["dev_Math_1"]
    with pytest.raises(ValueError, match=r"has no folder Accounting, Agriculture.*set subjects"):
        MMMU(str(tmp_path))


def test_mmmu_subjects_are_chosen_among_rows_that_lie_together(tmp_path, rows):
    ids = [f"validation_{subject}_1" for subject in ("Art", "Art_Theory", "Math")]
    data = [rows.mmmu | {"id": id_} for id_ in ids]
    assert [p.id for p in mmmu_of(tmp_path, *data, subjects=["Art", "Math"])] == [ids[0], ids[2]]
    assert len(mmmu_of(tmp_path, *data)) == 3
    with pytest.raises(ValueError, match=r"has no row of Music\. Needed"):
        mmmu_of(tmp_path, *data, subjects=["Art", "Music"])
    assert len(mmmu_of(tmp_path, *data, limit=2)) == 2


@pytest.mark.parametrize("subjects", [["Maths"], [], ["Art", "maths"]])
def test_a_subject_that_does_not_exist_is_refused_before_anything_is_read(subjects):
    with pytest.raises(ValueError, match=r"MMMU: subjects is .*must be null for all"):
        MMMU("/nowhere", subjects=subjects)


def test_bad_rows_are_listed_together(tmp_path, rows):
    bad = [
        {"id": "a", "question": " "},
        {"id": "b", "options": "['one', 2]"},
        {"id": "c", "options": "__import__('os').getcwd()"},
        {"id": "d", "options": "[]"},
        {"id": "e", "image_1": {"bytes": b"no image", "path": None}},
        {"id": "f", "answer": None},
    ]
    with pytest.raises(ValueError, match="7 of 8 rows cannot be used") as caught:
        mmmu_of(tmp_path, rows.mmmu, *(rows.mmmu | row for row in bad), rows.mmmu)
    lines = str(caught.value).splitlines()[1:]
    assert all(f"all.parquet[{n}]: " in line for n, line in enumerate(lines[:-1], start=1))
    found = ["'question', which is ' '", "['one', 2]", "__import__", "without options"]
    found += ["image of 8 encoded bytes", "'answer', which is None", "has the id"]
    assert all(words in line for words, line in zip(found, lines, strict=False))
    assert "download the published data set" in lines[-1]


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "validation_Art_1", "prompt": "?"}\n')
    with pytest.raises(
        ValueError, match=r"a\.jsonl:1: .*'question', which is not among id, prompt"
    ):
        MMMU(str(tmp_path / "a.jsonl"))


def test_mathvista_keeps_precision_choices_and_flattens_metadata(tmp_path, rows):
    choice = rows.mathvista | {"pid": "9", "precision": None, "unit": None, "answer": "yes"}
    choice |= {"question_type": "multi_choice", "answer_type": "text", "choices": ["no", "yes"]}
    path = write(tmp_path / "testmini.parquet", MATHVISTA_SCHEMA, rows.mathvista, choice)
    number, chosen = MathVista(path)
    assert (number.id, number.prompt, number.answer) == ("8", "How heavy is the cube?", "1.2")
    assert (number.extra["precision"], type(number.extra["precision"])) == (1.0, float)
    assert number.extra["unit"] == "g"
    assert number.extra["skills"] == ["arithmetic reasoning", "scientific reasoning"]
    assert number.extra["grade"] == "high school"
    assert number.extra["query"].startswith("Hint")
    assert {"choices", "decoded_image", "image", "metadata"}.isdisjoint(number.extra)
    assert chosen.extra["choices"] == ["no", "yes"]
    assert {"precision", "unit"}.isdisjoint(chosen.extra)
    assert [number.kind, chosen.kind] == ["numeric", "multiple_choice"]
    assert load_image(chosen.images[0]).size == (8, 4)


def test_a_precision_that_is_not_a_number_is_none(tmp_path, rows):
    row = rows.mathvista | {"precision": math.nan}
    (problem,) = MathVista(write(tmp_path / "a.parquet", MATHVISTA_SCHEMA, row))
    assert "precision" not in problem.extra


def test_a_choice_question_without_choices_is_a_bad_row(tmp_path, rows):
    row = rows.mathvista | {"question_type": "multi_choice"}
    with pytest.raises(ValueError, match="multi_choice question without choices"):
        MathVista(write(tmp_path / "a.parquet", MATHVISTA_SCHEMA, row))


def test_mathvista_jsonl_names_image_files_beside_it(tmp_path, rows, png):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "8.jpg").write_bytes(png)
    row = rows.mathvista | {"decoded_image": None}
    (tmp_path / "testmini.jsonl").write_text(json.dumps(row))
    (problem,) = MathVista(str(tmp_path / "testmini.jsonl"))
    assert problem.images == (str(tmp_path / "images" / "8.jpg"),)


def test_mathvision_reads_options_level_and_subject(tmp_path, rows):
    free = rows.mathvision | {"id": "5", "options": [], "answer": "7", "solution": "3 + 4"}
    free |= {"question": "What of <image1> and <image2>?", "subject": "algebra"}
    path = write(tmp_path / "test.parquet", MATHVISION_SCHEMA, rows.mathvision, free)
    choice, number = MathVision(path)
    assert choice.prompt == "Which is next?\n<image>"
    assert choice.extra == {
        "question": "Which is next?\n<image1>",
        "options": ["A", "B", "C", "D", "E"],
        "level": 1,
        "subject": "logic",
    }
    assert number.prompt == "What of <image1> and <image2>?"
    assert (number.extra["options"], number.reference) == ([], "3 + 4")
    assert [choice.kind, number.kind] == ["multiple_choice", "math"]
    assert [p.id for p in MathVision(path, subjects=["algebra"])] == ["5"]


def test_mathvision_without_a_level_is_a_bad_row(tmp_path, rows):
    row = rows.mathvision | {"level": None}
    with pytest.raises(ValueError, match="whole number in the published field 'level'"):
        MathVision(write(tmp_path / "a.parquet", MATHVISION_SCHEMA, row))


def test_wemath_rows_are_told_apart_by_id_and_key(tmp_path, rows):
    first = rows.wemath | {"key": "2steps_1"}
    path = write(tmp_path / "testmini.parquet", WEMATH_SCHEMA, first, rows.wemath)
    problems = list(WeMath(path))
    assert [p.id for p in problems] == ["2steps_1/2steps_1", "2steps_1/2steps_multi"]
    assert problems[1].extra == {
        "ID": "2steps_1",
        "key": "2steps_multi",
        "split": "testmini",
        "knowledge concept": "Length Units",
        "question": "How long is it?",
        "option": "A. 300, 400;B. 400, 300; C. No correct answer",
        "options": ["300, 400", "400, 300", "No correct answer"],
        "question number": 721,
        "knowledge concept description": "Length Units: ...",
    }
    assert problems[1].kind == "multiple_choice"
    assert load_image(problems[0].images[0]).size == (8, 4)


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("A. F;    B. D;C. B; E. No", ["F", "D", "B; E. No"]),
        ("A. one; 3;B. two;; C. three;", ["one; 3", "two", "three"]),
        ("A. -B. ;B. C. x", ["-B.", "C. x"]),
        ("none at all", []),
    ],
)
def test_options_are_told_apart_by_their_letters_in_order(option, options):
    assert split_options(option) == options


def test_zerobench_reads_several_images_and_both_splits(tmp_path, rows, image):
    main = rows.zerobench | {"question_id": "17", "question_images_decoded": [image]}
    folder = tmp_path / "hub"
    write(folder / "zerobench-00000-of-00001.parquet", ZEROBENCH_SCHEMA, main)
    write(
        folder / "zerobench_subquestions-00000-of-00001.parquet", ZEROBENCH_SCHEMA, rows.zerobench
    )
    readme = "".join(
        f"  - split: {split}\n    path: {split}-*.parquet\n"
        for split in ("zerobench", "zerobench_subquestions")
    )
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{readme}---\n"
    )
    both = ZeroBench(str(folder))
    assert [p.id for p in both] == ["17", "17_2"]
    assert [len(p.images) for p in both] == [1, 2]
    assert [p.extra["main_question_id"] for p in both] == ["17", "17"]
    assert both[1].extra["image_attribution"] == "Own"
    assert "question_images_decoded" not in both[1].extra
    assert [p.id for p in ZeroBench(str(folder), split="zerobench_subquestions")] == ["17_2"]


def test_a_folder_that_datasets_has_saved_is_read_by_split(tmp_path, rows):
    table = pyarrow.Table.from_pylist([rows.zerobench], schema=ZEROBENCH_SCHEMA)
    saved = datasets.Dataset(table)
    splits = {"zerobench": saved, "zerobench_subquestions": saved}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "dict")
    saved.save_to_disk(tmp_path / "one")
    assert len(ZeroBench(str(tmp_path / "dict"), split="zerobench")) == 1
    assert len(ZeroBench(str(tmp_path / "one"))) == 1
    with pytest.raises(ValueError, match=r"has the id '17_2' of .*dict\[0\]"):
        ZeroBench(str(tmp_path / "dict"))
    with pytest.raises(ValueError, match="split is test, but there are zerobench, zerobench_sub"):
        ZeroBench(str(tmp_path / "dict"), split="test")


def test_the_gated_set_says_what_to_do(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="accepted its terms") as caught:
        ZeroBench()
    message = str(caught.value)
    assert "https://huggingface.co/datasets/jonathan-roberts1/zerobench" in message
    assert "HF_TOKEN" in message


def test_settings_that_have_no_effect_are_refused(tmp_path, rows):
    path = write(tmp_path / "a.parquet", WEMATH_SCHEMA, rows.wemath)
    with pytest.raises(ValueError, match=r"split=testmini: has no effect"):
        WeMath(path, split="testmini")
    with pytest.raises(ValueError, match=r"revision=v2: has no effect"):
        WeMath(path, revision="v2")
    with pytest.raises(ValueError, match="limit is 0"):
        WeMath(path, limit=0)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        WeMath(str(tmp_path / "b.parquet"))


def test_problems_end_where_the_limit_is(tmp_path, rows):
    data = [rows.wemath | {"key": str(n)} for n in range(4)]
    problems = WeMath(write(tmp_path / "a.parquet", WEMATH_SCHEMA, *data), limit=2)
    assert [p.extra["key"] for p in problems] == ["0", "1"]
    assert problems[-1].extra["key"] == "1"
    with pytest.raises(IndexError):
        problems[2]


def test_a_file_without_rows_is_refused(tmp_path):
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(ValueError, match=r"a\.jsonl has no rows"):
        WeMath(str(tmp_path / "a.jsonl"))


def test_a_bad_row_of_a_subject_is_told_with_its_subject(tmp_path, rows):
    for subject in ("Art", "Math"):
        row = rows.mmmu | {"id": f"validation_{subject}_1", "answer": None}
        write(tmp_path / subject / "validation-00000-of-00001.parquet", MMMU_SCHEMA, row)
    with pytest.raises(ValueError, match=r"Math: validation-00000-of-00001\.parquet\[0\]: needs"):
        MMMU(str(tmp_path), subjects=["Art", "Math"])


def test_a_folder_with_the_hubs_data_folder_is_read_by_file_names(tmp_path, rows):
    for split in ("test", "testmini"):
        row = rows.mathvision | {"id": split}
        write(tmp_path / "data" / f"{split}-00000-of-00001.parquet", MATHVISION_SCHEMA, row)
    assert [p.id for p in MathVision(str(tmp_path))] == ["test"]
    assert [p.id for p in MathVision(str(tmp_path), split="testmini")] == ["testmini"]
