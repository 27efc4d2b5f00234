"""A folder of parts: every element once, read back by any cut, and never half of a checkpoint."""

import json

import pytest
import torch

from rlsd_lightning.checkpoints import fill, newest_in, open_checkpoint
from rlsd_lightning.shards import (
    INDEX,
    TRAINER,
    Part,
    ShardReader,
    take_name,
    write_index,
    write_parts,
)

WHOLE = torch.arange(12.0).view(4, 3)


def part(values, start, key="weights/w", shape=(4, 3), **options):
    return Part(
        key=key,
        shape=shape,
        start=start,
        stop=start + len(values),
        read=lambda: values,
        write=values.copy_,
        **options,
    )


def save(folder, *cuts, **options):
    """Write WHOLE as the ranks would that hold these intervals of it."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = WHOLE.flatten()
    tables = [
        write_parts(folder, rank, [part(flat[a:b], a)], **options)
        for rank, (a, b) in enumerate(cuts)
    ]
    torch.save({"global_step": 7}, folder / TRAINER)
    write_index(folder, tables)
    return folder


CUTS = {
    "one_rank": [(0, 12)],
    "two_ranks": [(0, 6), (6, 12)],
    "in_the_middle_of_rows": [(0, 5), (5, 10), (10, 12)],
    "a_rank_with_nothing": [(0, 12), (12, 12)],
    "ranks_in_another_order": [(6, 12), (0, 6)],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("wanted", [(0, 12), (0, 7), (3, 4), (4, 11), (12, 12)])
def test_any_interval_is_read_however_it_was_cut(tmp_path, cut, wanted):
    reader = ShardReader(save(tmp_path / "x", *CUTS[cut]))
    assert torch.equal(reader.read("weights/w", *wanted), WHOLE.flatten()[slice(*wanted)])
    assert reader.shape("weights/w") == (4, 3)


def test_files_are_of_bounded_size_and_hold_every_tensor_once(tmp_path):
    parts = [part(torch.full((10,), i), 0, f"weights/{i}", (10,)) for i in range(7)]
    tmp_path.joinpath("x").mkdir()
    table = write_parts(tmp_path / "x", 0, parts, max_file_bytes=160)  # two of 80 bytes each
    write_index(tmp_path / "x", [table])
    assert len(list((tmp_path / "x").glob("*.safetensors"))) == 4
    reader = ShardReader(tmp_path / "x")
    assert [int(reader.read(f"weights/{i}")[0]) for i in range(7)] == list(range(7))


def test_parts_that_another_rank_saves_are_not_written_twice(tmp_path):
    table = write_parts(tmp_path, 0, [part(WHOLE.flatten(), 0, is_saved=False)])
    assert table == {}


@pytest.mark.parametrize("cuts", [[(0, 6)], [(0, 6), (5, 12)], [(0, 6), (7, 12)], [(1, 12)]])
def test_parts_that_do_not_cover_a_tensor_once_are_refused(tmp_path, cuts):
    with pytest.raises(RuntimeError, match="does not cover its 12 elements once"):
        save(tmp_path / "x", *cuts)
    assert not (tmp_path / "x" / INDEX).exists()


def test_parts_of_a_run_are_filled_from_any_cut(tmp_path):
    reader = open_checkpoint(save(tmp_path / "x", (0, 5), (5, 12)))
    mine = torch.zeros(4)
    fill(reader, [part(mine, 3)])
    assert mine.tolist() == [3.0, 4.0, 5.0, 6.0]
    assert reader.trainer_state() == {"global_step": 7}


def test_a_checkpoint_of_another_model_is_refused_before_anything_changes(tmp_path):
    reader = open_checkpoint(save(tmp_path / "x", (0, 12)))
    mine = torch.zeros(12)
    with pytest.raises(
        ValueError, match="'weights/w' with shape \\[4, 3\\]; this run's has \\[6, 2\\]"
    ):
        fill(reader, [part(mine, 0), part(mine, 0, shape=(6, 2))])
    with pytest.raises(ValueError, match="does not hold 'weights/other'"):
        fill(reader, [part(mine, 0), part(mine, 0, key="weights/other")])
    assert mine.tolist() == [0.0] * 12


def test_a_missing_part_is_named_when_the_checkpoint_is_opened(tmp_path):
    folder = save(tmp_path / "x", (0, 6), (6, 12))
    (folder / "rank00001-0.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks rank00001-0\.safetensors, one of its 2 parts"
    ):
        open_checkpoint(folder)


def test_a_part_that_was_cut_off_is_named_when_the_checkpoint_is_opened(tmp_path):
    folder = save(tmp_path / "x", (0, 6), (6, 12))
    path = folder / "rank00000-0.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="were written"):
        open_checkpoint(folder)


def test_a_folder_without_its_index_is_no_checkpoint(tmp_path):
    folder = save(tmp_path / "x.ckpt", (0, 12))
    assert newest_in(tmp_path) == folder
    (folder / INDEX).unlink()
    assert newest_in(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="is not a checkpoint"):
        open_checkpoint(folder)


def test_a_new_checkpoint_takes_the_name_of_the_old_one(tmp_path):
    old, new = (
        save(tmp_path / "last.ckpt", (0, 12)),
        save(tmp_path / "last.ckpt.partial", (0, 6), (6, 12)),
    )
    take_name(new, old)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt"]
    assert len(json.loads((old / INDEX).read_text())["files"]) == 2


def test_a_crash_between_the_two_names_leaves_the_old_one_to_be_found(tmp_path):
    save(tmp_path / "last.ckpt", (0, 12)).rename(tmp_path / "last.ckpt.replaced")
    save(tmp_path / "last.ckpt.partial", (0, 12))
    assert newest_in(tmp_path) == tmp_path / "last.ckpt.replaced"


def test_a_file_can_take_the_name_of_a_folder_and_the_other_way_round(tmp_path):
    folder = save(tmp_path / "last.ckpt", (0, 12))
    partial = tmp_path / "last.ckpt.partial"
    partial.write_text("file")
    take_name(partial, folder)
    assert folder.read_text() == "file"
    take_name(save(tmp_path / "last.ckpt.partial", (0, 12)), folder)
    assert newest_in(tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
