import json
import pickle

import pytest

from rlsd_lightning.data.sources import BadRowError, JsonLines, kind_of, open_source, open_stream


def write_lines(path, *lines):
    path.write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def test_json_lines_are_read_by_seeking_in_any_order(tmp_path):
    rows = [{"q": "n" * i + "\u00e9\u4e2d", "n": i} for i in range(50)]
    path = write_lines(
        tmp_path / "a.jsonl", *(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    )
    source = open_source(str(path))
    assert len(source) == 50
    assert [source[i] for i in (49, 0, 7, 7)] == [rows[49], rows[0], rows[7], rows[7]]


def test_locations_count_blank_lines_windows_ends_and_a_last_line_without_end(tmp_path):
    path = write_lines(
        tmp_path / "a.jsonl",
        b'\xef\xbb\xbf{"n": 1}\r\n',
        "\n",
        "  \r\n",
        '{"n": 4}\r\n',
        '{"n": 5}',
    )
    source = JsonLines(path)
    assert [source[i]["n"] for i in range(len(source))] == [1, 4, 5]
    assert [source.location(i) for i in range(len(source))] == [
        "a.jsonl:1",
        "a.jsonl:4",
        "a.jsonl:5",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"q": "cut', "is not JSON"),
        (b'{"q": "\xff\xfe"}', "is not JSON"),
        (b"[1, 2]", "is a list, not an object"),
        (b"3", "is a number, not an object"),
        (b"true", "is true or false, not an object"),
    ],
)
def test_a_broken_line_is_a_bad_row_and_the_next_one_is_not(tmp_path, line, reason):
    source = JsonLines(write_lines(tmp_path / "a.jsonl", '{"n": 1}\n', line + b"\n", '{"n": 3}\n'))
    with pytest.raises(BadRowError, match=rf"^a\.jsonl:2: {reason}"):
        source[1]
    assert source[2] == {"n": 3}


def test_a_json_file_is_one_list(tmp_path):
    path = write_lines(tmp_path / "a.json", '[{"n": 0}, {"n": 1}, 7]')
    source = open_source(str(path))
    assert len(source) == 3
    assert (source[1], source.location(1), source.root) == ({"n": 1}, "a.json[1]", tmp_path)
    with pytest.raises(BadRowError, match=r"^a\.json\[2\]: is a number"):
        source[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"n": 1}', "holds an object.*Needed: one list"),
        ('{"n": 1}\n{"n": 2}', r"is not JSON.*must be named \.jsonl"),
    ],
)
def test_a_json_file_that_is_no_list_says_what_to_do(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        open_source(str(write_lines(tmp_path / "a.json", content)))


def test_a_missing_file_lists_near_misses(tmp_path):
    for name in ("train.jsonl", "trial.jsonl", "zebra.png"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"trian\.jsonl does not exist") as caught:
        open_source(str(tmp_path / "trian.jsonl"))
    holds = str(caught.value).split("holds ")[1].split(". Needed")[0]
    assert set(holds.split(", ")) == {"train.jsonl", "trial.jsonl"}


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere either"):
        open_source(str(tmp_path / "nowhere" / "train.parquet"))


def test_a_misspelt_local_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "data" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="data holds train"):
        kind_of("data/trian")
    assert kind_of("someone/trian") == "hub"


@pytest.mark.parametrize("name", ["train.csv", "train.txt", "train"])
def test_an_unknown_kind_of_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"which cannot be read.*Needed: \.jsonl.*Convert it"):
        open_source(str(tmp_path / name))


def test_only_parquet_files_can_be_globbed(tmp_path):
    with pytest.raises(ValueError, match=r"pattern that does not end in \.parquet"):
        open_source(str(tmp_path / "*.jsonl"))


def test_settings_without_effect_are_refused(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", '{"n": 1}\n')
    with pytest.raises(ValueError, match=r"split=train: has no effect on .*a\.jsonl"):
        open_source(str(path), split="train")
    with pytest.raises(ValueError, match=r"revision=v1: has no effect"):
        open_source(str(path), revision="v1")


def test_a_local_text_file_is_not_streamed(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", '{"n": 1}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl cannot be streamed.*ProblemDataset"):
        open_stream(str(path))


def test_bad_row_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(BadRowError("a.jsonl:3", "has no answer")))
    assert (error.location, error.reason) == ("a.jsonl:3", "has no answer")
