"""Files of responses: read strictly where a user gives them, leniently where a test was interrupted."""

import json

import pytest

from rlsd_lightning.responses import Response, ResponseFolder, read_responses


def response(name, sample=0, text="5"):
    return Response(id=name, sample=sample, text=text)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_of_a_users_own_needs_id_and_response_only(tmp_path):
    path = write(tmp_path / "mine.jsonl", {"id": 7, "response": "B", "model": "mine"})
    assert read_responses(path) == [response("7", text="B")]


def test_line_separators_within_a_response_do_not_end_its_row(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": "1", "response": "a\u2028b\x85c"}\n', encoding="utf-8")
    assert read_responses(path)[0].text == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "line 2 is no JSON object"),
        ('{"id": "2"', "line 2"),
        ('{"response": "5"}', "line 2 has the id None"),
        ('{"id": true, "response": "5"}', "line 2 has the id True"),
        ('{"id": "2", "response": null}', "line 2 has the response None"),
        ('{"id": "2", "response": "5", "sample": -1}', "line 2 has the sample -1"),
        ('{"id": "1", "response": "5"}', "line 2 repeats sample 0 of '1'"),
    ],
)
def test_a_row_that_is_no_response_is_told_with_its_line(tmp_path, line, words):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": "1", "response": "5"}\n' + line + "\n")
    with pytest.raises(ValueError, match=words) as error:
        read_responses(path)
    assert "Needed: one JSON object a line" in str(error.value)


def test_only_the_first_faults_are_listed(tmp_path):
    path = write(tmp_path / "mine.jsonl", *[[]] * 9)
    with pytest.raises(ValueError, match="and 4 more"):
        read_responses(path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a file"):
        read_responses(tmp_path / "none.jsonl")


def test_what_was_written_is_found_again(tmp_path):
    folder = ResponseFolder(tmp_path / "test")
    folder.append("one", [response("1", 1, "b\ud800"), response("1", 0, "a")], rank=0)
    folder.append("one", [response("2", 0), response("2", 1)], rank=1)
    folder.append("other", [response("3", 0), response("3", 1)], rank=0)
    found = folder.load("one", samples_per_problem=2)
    assert [r.text for r in found["1"]] == ["a", "b\ud800"]
    assert set(found) == {"1", "2"}


def test_problems_without_all_their_samples_are_asked_again(tmp_path):
    folder = ResponseFolder(tmp_path)
    folder.append("one", [response("1", 0), response("1", 1), response("2", 1)], rank=0)
    assert set(folder.load("one", samples_per_problem=2)) == {"1"}


def test_a_row_cut_off_in_writing_is_written_again(tmp_path, caplog):
    folder = ResponseFolder(tmp_path)
    folder.append("one", [response("1"), response("2")], rank=0)
    path = folder.path("one", rank=0)
    path.write_bytes(path.read_bytes()[:-9])
    assert set(folder.load("one", samples_per_problem=1)) == {"1"}
    assert "cut off" in caplog.text
    folder.append("one", [response("2"), response("3")], rank=0)
    assert set(folder.load("one", samples_per_problem=1)) == {"1", "2", "3"}


def test_at_the_end_one_file_holds_every_sample_once(tmp_path):
    folder = ResponseFolder(tmp_path)
    folder.append("one", [response("1"), response("2", text="first")], rank=0)
    folder.append("one", [response("2", text="again"), response("3")], rank=1)
    folder.finish("one", samples_per_problem=1)
    found = read_responses(tmp_path / "one.jsonl")
    assert [(r.id, r.text) for r in found] == [("1", "5"), ("2", "first"), ("3", "5")]
    assert [path.name for path in tmp_path.iterdir()] == ["one.jsonl"]


def test_responses_made_with_other_settings_are_never_mixed_in(tmp_path):
    folder = ResponseFolder(tmp_path / "test")
    settings = {"weights": "a", "sampling.top_k": 0}
    folder.check("one", settings, is_writer=False)
    assert not (tmp_path / "test").exists()
    folder.check("one", settings, is_writer=True)
    folder.check("one", settings, is_writer=True)
    with pytest.raises(ValueError, match=r"sampling.top_k was 0 and is 5\. Set paths.output"):
        folder.check("one", settings | {"sampling.top_k": 5}, is_writer=True)
