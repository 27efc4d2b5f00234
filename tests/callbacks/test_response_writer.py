from types import SimpleNamespace

from rlsd_lightning.callbacks.response_writer import ResponseWriter
from rlsd_lightning.responses import ResponseFolder, read_responses
from rlsd_lightning.types import Completion, Problem

MODULE = SimpleNamespace(evaluation_name=["held_out", "hard"].__getitem__)


def completion(text):
    return Completion(token_ids=[5], logprobs=[-1.0], text=text, finish_reason="stop")


def write(writer, outputs, dataloader_idx=0, rank=0):
    trainer = SimpleNamespace(global_rank=rank, num_predict_batches=[2, 1])
    writer.on_predict_batch_start(trainer, MODULE, None, 0, dataloader_idx)
    writer.on_predict_batch_end(trainer, MODULE, outputs, None, 0, dataloader_idx)


def test_every_response_has_its_place_in_its_group(tmp_path):
    writer = ResponseWriter(str(tmp_path / "test"))
    write(writer, [(Problem("1", "?"), [completion("a"), completion("b")])])
    write(writer, [(Problem("2", "?"), [completion("c"), completion("d")])])
    found = read_responses(tmp_path / "test" / "held_out.jsonl")
    assert [(r.id, r.sample, r.text) for r in found] == [
        ("1", 0, "a"),
        ("1", 1, "b"),
        ("2", 0, "c"),
        ("2", 1, "d"),
    ]
    assert found[0].seconds == found[1].seconds >= 0


def test_evaluations_and_ranks_have_files_of_their_own(tmp_path):
    writer = ResponseWriter(str(tmp_path))
    write(writer, [(Problem("1", "?"), [completion("a")])])
    write(writer, [(Problem("2", "?"), [completion("b")])], dataloader_idx=1, rank=1)
    assert {path.name for path in tmp_path.iterdir()} == {"held_out.jsonl", "hard.rank1.jsonl"}
    assert set(ResponseFolder(tmp_path).load("hard", 1)) == {"2"}


def test_one_rank_says_how_far_the_test_is(tmp_path, caplog):
    caplog.set_level("INFO")
    for rank in (0, 1):
        write(ResponseWriter(str(tmp_path)), [(Problem("1", "?"), [completion("a")])], rank=rank)
    (line,) = caplog.messages
    assert line.startswith("held_out: batch 1 of 2 in ")


def test_a_batch_of_fill_alone_leaves_nothing_behind(tmp_path):
    write(ResponseWriter(str(tmp_path)), [])
    assert set(ResponseFolder(tmp_path).load("held_out", 1)) == set()
