import datasets
import pytest

from rlsd_lightning.data.sources import open_source, open_stream


@pytest.fixture
def parquet_folder(tmp_path, image_table):
    for name in ("train-0", "train-1", "test-0"):
        image_table.to_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def problems(source):
    return [source[i]["problem"] for i in range(len(source))]


def test_a_parquet_file_is_read_by_index_without_decoding_images(parquet_folder, png):
    source = open_source(str(parquet_folder / "train-0.parquet"))
    assert problems(source) == ["a", "b", "c"]
    assert source[0]["images"] == [{"bytes": png, "path": None}] * 2
    assert source.location(2) == "train-0.parquet[2]"
    assert source.root == parquet_folder


def test_a_glob_names_the_file_of_each_row(parquet_folder):
    source = open_source(str(parquet_folder / "train-*.parquet"))
    assert problems(source) == ["a", "b", "c", "a", "b", "c"]
    assert [source.location(i) for i in (2, 3)] == ["train-0.parquet[2]", "train-1.parquet[0]"]


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path, image_table):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        image_table.to_parquet(tmp_path / folder / "train.parquet")
    source = open_source(str(tmp_path / "*" / "train.parquet"))
    assert [source.location(i) for i in (0, 3)] == [
        f"{tmp_path}/one/train.parquet[0]",
        f"{tmp_path}/two/train.parquet[0]",
    ]


def test_a_glob_without_files_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file matches"):
        open_source(str(tmp_path / "*.parquet"))


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ValueError, match=r"a\.parquet is not a parquet file"):
        open_source(str(tmp_path / "a.parquet"))


def test_a_folder_with_several_splits_is_not_mixed(parquet_folder):
    with pytest.raises(ValueError, match=r"split is not set, but there are train, test"):
        open_source(str(parquet_folder))
    source = open_source(str(parquet_folder), split="test")
    assert len(source) == 3
    assert source.location(1) == f"{parquet_folder}/test[1]"


def test_the_only_split_of_a_folder_needs_no_name(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"problem": "a"}\n{"problem": "b"}\n')
    source = open_source(str(tmp_path))
    assert problems(source) == ["a", "b"]
    assert source.location(1) == f"{tmp_path}/train[1]"


def test_an_unknown_split_lists_those_there_are(parquet_folder):
    with pytest.raises(ValueError, match=r"split=vax could not be loaded.*'train', 'test'"):
        open_source(str(parquet_folder), split="vax")


def test_a_saved_data_set_is_read(tmp_path, image_table):
    datasets.DatasetDict(train=image_table, val=image_table.select([1])).save_to_disk(
        tmp_path / "s"
    )
    assert problems(open_source(str(tmp_path / "s"), split="val")) == ["b"]
    with pytest.raises(ValueError, match=r"split is vax, but there are train, val"):
        open_source(str(tmp_path / "s"), split="vax")
    with pytest.raises(ValueError, match=r"split is not set, but there are train, val"):
        open_source(str(tmp_path / "s"))


def test_a_stream_starts_where_it_is_told_and_equals_the_table(parquet_folder):
    path = str(parquet_folder / "train-*.parquet")
    source, stream = open_source(path), open_stream(path)
    whole = [(source.location(i), source[i]) for i in range(6)]
    assert list(stream.iterate(0)) == whole
    assert list(stream.iterate(4)) == whole[4:]
    assert list(stream.iterate(6)) == []


def test_folders_and_saved_data_sets_are_streamed_too(tmp_path, image_table):
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "train.jsonl").write_text('{"problem": "a"}\n{"problem": "b"}\n')
    rows = list(open_stream(str(tmp_path / "lines")).iterate(1))
    assert rows == [(f"{tmp_path}/lines/train[1]", {"problem": "b"})]
    image_table.save_to_disk(tmp_path / "saved")
    rows = list(open_stream(str(tmp_path / "saved")).iterate(2))
    assert rows == [(f"{tmp_path}/saved[2]", {"problem": "c", "answer": 3, "images": []})]
