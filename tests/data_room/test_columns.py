import pytest
from PIL import Image

from rlsd_lightning.data.columns import Columns, parse_columns, row_to_problem
from rlsd_lightning.data.sources import BadRowError

ROW = {"problem": "1+1?", "answer": "2"}


def read(row, columns=None, root=None):
    return row_to_problem(row, parse_columns(columns), "train.jsonl:17", root)


def test_columns_are_mapped_and_the_others_go_to_extra():
    row = {
        "question": "1+1?",
        "label": "2",
        "trace": "One and one.",
        "type": "math",
        "uid": 7,
        "source": "toy",
        "options": {"A": "1", "B": "2"},
    }
    columns = {
        "problem": "question",
        "answer": "label",
        "reference": "trace",
        "kind": "type",
        "id": "uid",
    }
    problem = read(row, columns)
    assert (problem.prompt, problem.answer, problem.reference) == ("1+1?", "2", "One and one.")
    assert (problem.kind, problem.id, problem.location) == ("math", "7", "train.jsonl:17")
    assert problem.extra == {"source": "toy", "options": {"A": "1", "B": "2"}}
    assert problem.images == ()


def test_null_and_absent_columns_are_the_same():
    nulls = {"images": None, "reference": None, "kind": None, "id": None, "tolerance": None}
    assert read({**ROW, **nulls}) == read(ROW)
    assert read(ROW).id == "train.jsonl:17"


def test_a_kind_can_be_the_same_for_every_row():
    problem = read({**ROW, "kind": "other"}, {"kind": {"constant": "math"}})
    assert problem.kind == "math"
    assert problem.extra == {"kind": "other"}
    with pytest.raises(ValueError, match=r"columns\.kind is .*kind: {constant: math}"):
        parse_columns({"kind": {"const": "math"}})


def test_a_blank_reference_is_no_reference():
    assert read({**ROW, "reference": " \n"}).reference is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(2, "2"), (0, "0"), (2.5, "2.5"), (True, "true"), (False, "false"), ("B", "B")],
)
def test_answers_that_are_no_text_are_written_as_the_file_has_them(value, text):
    assert read({**ROW, "answer": value}).answer == text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem": None}, r"has no question \(column 'problem'\)"),
        ({"problem": "  "}, r"has no question"),
        ({"problem": ["1+1?"]}, r"is list, not text \(column 'problem'\)"),
        ({"answer": None}, r"has no answer \(column 'answer'\)"),
        ({"answer": " "}, r"has no answer"),
        ({"answer": ["2", "3"]}, r"has an answer of type list; write it as one text"),
        ({"answer": {"x": 1}}, r"has an answer of type dict"),
        ({"answer": float("nan")}, r"has the answer nan"),
        ({"reference": ["a"]}, r"is list, not text \(column 'reference'\)"),
        ({"kind": 3}, r"is int, not text \(column 'kind'\)"),
        ({"id": 1.5}, r"has an id of type float"),
        ({"id": True}, r"has an id of type bool"),
        ({"images": 3}, r"has an image of type int"),
        ({"images": [""]}, r"has an image of type str"),
        ({"images": [None]}, r"has an image of type NoneType"),
        ({"images": {"bytes": None, "path": None}}, r"has an image of type dict"),
        ({"images": "gone.png"}, r"relative image path gone\.png; set image_root"),
        (
            {"images": "/nowhere/gone.png"},
            r"names the image /nowhere/gone\.png, which does not exist",
        ),
        ({"problem": "<image>?"}, r"has 1 <image> in its question and 0 images"),
        ({"problem": "<image><image>?", "images": [b"1"]}, r"has 2 <image> .* and 1 images"),
        ({"problem": "<image>?", "images": [b"1", b"2"]}, r"has 1 <image> .* and 2 images"),
    ],
)
def test_unusable_rows_say_where_and_why(change, reason):
    with pytest.raises(BadRowError, match=rf"^train\.jsonl:17: .*{reason}"):
        read({**ROW, **change})


def test_a_row_that_lacks_its_column_says_which_it_has():
    with pytest.raises(BadRowError, match=r"column 'answer' is not among problem, label"):
        read({"problem": "1+1?", "label": "2"})


def test_images_of_every_form_are_kept_undecoded_and_paths_made_whole(tmp_path):
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "a.png"
    path.write_bytes(b"not looked into here")
    picture = Image.new("RGB", (2, 2))
    images = [
        "images/a.png",
        str(path),
        {"bytes": None, "path": "images/a.png"},
        b"1",
        {"bytes": b"2", "path": "x.png"},
        picture,
    ]
    problem = read({**ROW, "images": images}, root=tmp_path)
    assert problem.images == (str(path),) * 3 + (b"1", {"bytes": b"2", "path": "x.png"}, picture)


@pytest.mark.parametrize("image", ["a.png", b"1", {"bytes": b"1", "path": None}])
def test_a_single_image_needs_no_list(tmp_path, image):
    (tmp_path / "a.png").touch()
    one = read({**ROW, "images": image}, root=tmp_path)
    assert one == read({**ROW, "images": [image]}, root=tmp_path)
    assert len(one.images) == 1


def test_placeholders_that_match_the_images_stay_in_the_question():
    problem = read({"problem": "<image> or <image>?", "answer": "1", "images": [b"1", b"2"]})
    assert problem.prompt == "<image> or <image>?"


def test_a_misspelt_field_is_refused_with_a_suggestion():
    with pytest.raises(
        ValueError, match=r"columns has the key 'refrence'.*Did you mean reference\?"
    ):
        parse_columns({"refrence": "trace"})
    assert parse_columns(None) == Columns()
