import json
import logging

import pytest

from rlsd_lightning.data import ProblemDataset, StreamingProblems


def write_rows(folder, rows, name="train.jsonl"):
    path = folder / name
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return str(path)


def row(number, **change):
    return {"problem": f"{number}+1?", "answer": number + 1, "reference": "Count on.", **change}


BAD = [row(0), row(1, answer=None), '{"cut', row(3, images="gone.png"), row(4)]


def test_problems_come_in_the_order_of_the_file(tmp_path):
    problems = ProblemDataset(write_rows(tmp_path, [row(i, id=f"p{i}") for i in range(20)]))
    assert [problems[i].id for i in range(len(problems))] == [f"p{i}" for i in range(20)]
    assert problems[3].location == "train.jsonl:4"
    assert problems.skipped == []


def test_bad_rows_are_reported_together_with_file_and_line(tmp_path):
    with pytest.raises(ValueError, match=r"train\.jsonl: 3 of 5 rows cannot be used") as caught:
        ProblemDataset(write_rows(tmp_path, BAD))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines[1:4]] == [f"  train.jsonl:{n}" for n in (2, 3, 4)]
    assert "has no answer" in lines[1]
    assert "is not JSON" in lines[2]
    assert "gone.png, which does not exist" in lines[3]
    assert "set on_bad_row=skip" in lines[4]


def test_ten_bad_rows_are_listed_and_the_others_counted(tmp_path):
    path = write_rows(tmp_path, [row(i, answer=None) for i in range(13)])
    with pytest.raises(ValueError, match="13 of 13 rows") as caught:
        ProblemDataset(path)
    lines = str(caught.value).splitlines()
    assert lines[10].startswith("  train.jsonl:10:")
    assert lines[11] == "  ... and 3 more"


def test_skipped_rows_are_counted_and_the_others_keep_their_order(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        problems = ProblemDataset(write_rows(tmp_path, BAD), on_bad_row="skip")
    assert [problems[i].location for i in range(len(problems))] == [
        "train.jsonl:1",
        "train.jsonl:5",
    ]
    assert [location for location, _ in problems.skipped] == [f"train.jsonl:{n}" for n in (2, 3, 4)]
    assert "left out 3 of 5 rows" in caplog.text


def test_the_second_row_with_an_id_is_bad(tmp_path):
    path = write_rows(tmp_path, [row(0, id="a"), row(1, id="b"), row(2, id="a")])
    with pytest.raises(ValueError, match=r"train.jsonl:3: has the id 'a' of train.jsonl:1"):
        ProblemDataset(path)


def test_a_data_set_without_usable_rows_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no usable row among 0.*Fill it"):
        ProblemDataset(write_rows(tmp_path, []))
    with pytest.raises(ValueError, match=r"no usable row among 1.*train.jsonl:1: has no answer"):
        ProblemDataset(write_rows(tmp_path, [row(1, answer="")]), on_bad_row="skip")


def test_broken_images_are_found_unless_it_is_switched_off(tmp_path, png):
    (tmp_path / "good.png").write_bytes(png)
    (tmp_path / "cut.png").write_bytes(png[:-20])
    path = write_rows(tmp_path, [row(0, images="good.png"), row(1, images="cut.png")])
    with pytest.raises(
        ValueError, match=r"1 of 2 rows.*\n  train.jsonl:2: .*cut.png cannot be read"
    ):
        ProblemDataset(path)
    assert len(ProblemDataset(path, check_images=False)) == 2


def test_image_root_replaces_the_data_sets_folder(tmp_path, png):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png)
    path = write_rows(tmp_path, [row(0, images="a.png")])
    problems = ProblemDataset(path, image_root=str(tmp_path / "pictures"))
    assert problems[0].images == (str(tmp_path / "pictures" / "a.png"),)
    with pytest.raises(ValueError, match="which does not exist"):
        ProblemDataset(path)


def test_a_needed_reference_that_is_missing_names_the_setting(tmp_path):
    path = write_rows(tmp_path, [row(0), row(1, reference="")])
    with pytest.raises(
        ValueError,
        match=r"train.jsonl:2: has no reference \(column 'reference'\), which require_reference",
    ):
        ProblemDataset(path, require_reference=True)
    assert ProblemDataset(path)[1].reference is None


def test_limit_looks_at_the_first_rows_only(tmp_path):
    path = write_rows(tmp_path, BAD)
    assert len(ProblemDataset(path, limit=1)) == 1
    with pytest.raises(ValueError, match="1 of 2 rows"):
        ProblemDataset(path, limit=2)
    assert len(ProblemDataset(path, limit=100, on_bad_row="skip")) == 2


def test_a_mapped_column_that_no_row_has_is_an_error(tmp_path):
    path = write_rows(tmp_path, [row(0, image=None, trace="Count."), row(1, image="x")])
    with pytest.raises(ValueError, match=r"columns.reference is 'tracee', .*Did you mean trace\?"):
        ProblemDataset(path, columns={"reference": "tracee"})


def test_a_default_column_that_is_absent_warns_of_a_near_name(tmp_path, caplog):
    path = write_rows(tmp_path, [row(0, image="not mapped")])
    with caplog.at_level(logging.WARNING):
        ProblemDataset(path)
    assert "no row has the column 'images'" in caplog.text
    assert "Set columns.images=image" in caplog.text
    caplog.clear()
    ProblemDataset(path, columns={"images": None})
    assert caplog.text == ""


@pytest.mark.parametrize("settings", [{"on_bad_row": "ignore"}, {"limit": 0}])
def test_meaningless_settings_are_refused(tmp_path, settings):
    with pytest.raises(ValueError, match=rf"data set: {next(iter(settings))} is"):
        ProblemDataset(write_rows(tmp_path, [row(0)]), **settings)


def test_parquet_rows_equal_their_json_lines_twins(tmp_path, image_table, png):
    image_table.to_parquet(tmp_path / "train.parquet")
    (tmp_path / "a.png").write_bytes(png)
    rows = [row(0), row(1, images=["a.png"])]
    columns = {"images": "images"}
    from_parquet = ProblemDataset(str(tmp_path / "train.parquet"), columns=columns)
    from_lines = ProblemDataset(write_rows(tmp_path, rows), columns=columns)
    assert [p.answer for p in (from_parquet[0], from_parquet[1])] == ["1", "2"]
    assert from_parquet[1].images == ({"bytes": png, "path": None},)
    assert from_parquet[2].images == ()
    assert from_parquet[1].extra == from_lines[1].extra == {}
    assert from_parquet[2].location == "train.parquet[2]"


@pytest.fixture
def stream_path(tmp_path, image_table):
    bad = image_table.select([0]).map(lambda _: {"answer": None})
    bad.to_parquet(tmp_path / "bad.parquet")
    image_table.to_parquet(tmp_path / "good.parquet")
    return str(tmp_path / "*.parquet")


def test_a_stream_counts_bad_rows_and_resumes_after_any_problem(stream_path):
    stream = StreamingProblems(stream_path, on_bad_row="skip")
    pairs = list(stream.iterate())
    assert [(following, problem.prompt) for following, problem in pairs] == [
        (2, "a"),
        (3, "b"),
        (4, "c"),
    ]
    assert stream.num_skipped == 1
    assert stream.skipped[0][0] == "bad.parquet[0]"
    for place, (following, _) in enumerate(pairs):
        assert [p for _, p in stream.iterate(following)] == [p for _, p in pairs[place + 1 :]]


def test_a_stream_stops_at_a_bad_row_unless_told_otherwise(stream_path):
    with pytest.raises(
        ValueError, match=r"a row cannot be used:\n  bad.parquet\[0\]: has no answer"
    ):
        next(StreamingProblems(stream_path).iterate())


def test_a_stream_is_limited_by_rows_from_its_beginning(stream_path):
    stream = StreamingProblems(stream_path, on_bad_row="skip", limit=3)
    assert [p.prompt for _, p in stream.iterate()] == ["a", "b"]
    assert [p.prompt for _, p in stream.iterate(2)] == ["b"]
