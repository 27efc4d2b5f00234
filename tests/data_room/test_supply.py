"""Which problems a step takes, from a data set and from a stream, also after a resume."""

import itertools

import pytest

from rlsd_lightning.data.supply import IndexedSupply, StreamSupply
from rlsd_lightning.types import Problem

PROBLEMS = [Problem(f"p{i}", f"question {i}") for i in range(10)]


def ids(supply, steps):
    return [[problem.id for problem in supply.take(step)] for step in steps]


def indexed(shuffle=True, seed=0, size=3):
    return IndexedSupply(PROBLEMS, size, shuffle, seed)


class Stream:
    """Rows that can be started anywhere; counts how often it was started and how far it was read."""

    def __init__(self, problems):
        self.problems = problems
        self.starts = []
        self.num_read = 0

    def iterate(self, row):
        self.starts.append(row)
        for place in range(row, len(self.problems)):
            self.num_read += 1
            yield place + 1, self.problems[place]


def streamed(problems=PROBLEMS, size=3, accepts=lambda problem: True):
    stream = Stream(problems)
    return StreamSupply(stream.iterate, size, accepts), stream


def test_unshuffled_problems_follow_one_another_round_and_round():
    assert ids(indexed(shuffle=False), [0, 1, 2, 3, 4]) == [
        ["p0", "p1", "p2"],
        ["p3", "p4", "p5"],
        ["p6", "p7", "p8"],
        ["p9", "p0", "p1"],
        ["p2", "p3", "p4"],
    ]


def test_a_shuffled_epoch_takes_every_problem_once_but_the_remainder():
    """Ten problems in steps of three: nine of them, all different."""
    taken = [problem for step in ids(indexed(), range(3)) for problem in step]
    assert len(set(taken)) == 9


def test_every_epoch_is_shuffled_afresh_and_leaves_others_out():
    supply = indexed()
    steps = ids(supply, range(24))
    epochs = [tuple(itertools.chain(*steps[i : i + 3])) for i in range(0, 24, 3)]
    assert len(set(epochs)) == 8
    left_out = [{p.id for p in PROBLEMS} - set(epoch) for epoch in epochs]
    assert len(set.union(*left_out)) > 1


def test_what_a_step_takes_depends_on_its_number_alone():
    """A resumed run needs no state, and steps may be asked for in any order."""
    wanted = ids(indexed(), range(9))
    assert ids(indexed(), reversed(range(9))) == wanted[::-1]
    resumed = indexed()
    resumed.load_state_dict(indexed().state_dict())
    assert ids(resumed, range(5, 9)) == wanted[5:]


def test_another_seed_is_another_order():
    assert ids(indexed(seed=0), range(3)) != ids(indexed(seed=1), range(3))


@pytest.mark.parametrize("shuffle", [True, False])
def test_no_step_holds_a_problem_twice(shuffle):
    """Also where a step goes over the end of the data set."""
    for taken in ids(indexed(shuffle, size=7), range(20)):
        assert len(set(taken)) == 7


def test_a_data_set_smaller_than_a_step_is_refused():
    with pytest.raises(ValueError, match=r"problems_per_step is 11.*data\.train has 10 problems"):
        indexed(size=11)


def test_a_stream_is_taken_in_order_round_and_round():
    supply, stream = streamed()
    assert ids(supply, range(4)) == [
        ["p0", "p1", "p2"],
        ["p3", "p4", "p5"],
        ["p6", "p7", "p8"],
        ["p9", "p0", "p1"],
    ]
    assert stream.starts == [0, 0]


def test_no_more_of_a_stream_is_read_than_a_step_needs():
    supply, stream = streamed()
    supply.take(0)
    assert stream.num_read == 3


def test_a_resumed_stream_goes_on_after_the_last_step():
    """After any number of steps, also in the second round."""
    supply, _ = streamed()
    for done in range(8):
        resumed, stream = streamed()
        resumed.load_state_dict(supply.state_dict())
        assert ids(resumed, range(done, done + 3)) == peek(supply.state_dict(), 3)
        assert stream.num_read <= 10
        supply.take(done)


def peek(state, num_steps):
    """What an endless list of the ten problems would give from that row."""
    row = state["row"]
    names = [PROBLEMS[i % 10].id for i in range(row, row + 3 * num_steps)]
    return [names[i : i + 3] for i in range(0, len(names), 3)]


def test_unusable_rows_are_passed_over_and_a_resume_does_not_see_them_again():
    supply, _ = streamed(accepts=lambda problem: problem.id not in {"p1", "p3", "p4"})
    assert ids(supply, [0, 1]) == [["p0", "p2", "p5"], ["p6", "p7", "p8"]]
    assert supply.state_dict() == {"row": 9}
    assert ids(supply, [2]) == [["p9", "p0", "p2"]]


def test_a_row_that_comes_twice_is_taken_once_in_a_step():
    supply, _ = streamed([PROBLEMS[0], PROBLEMS[0], PROBLEMS[1], PROBLEMS[2]])
    assert ids(supply, [0]) == [["p0", "p1", "p2"]]


@pytest.mark.parametrize("row", [0, 2])
def test_a_stream_with_fewer_usable_problems_than_a_step_takes_is_refused(row):
    """Also when the run starts in the middle of it: everything has been seen before it gives up."""
    supply, stream = streamed(PROBLEMS[:4], accepts=lambda problem: problem.id in {"p0", "p3"})
    supply.load_state_dict({"row": row})
    with pytest.raises(ValueError, match=r"problems_per_step is 3.*only 2 usable problems"):
        supply.take(0)
    assert stream.num_read >= 4


def test_an_empty_stream_is_refused():
    supply, _ = streamed([])
    with pytest.raises(ValueError, match="only 0 usable problems"):
        supply.take(0)


def test_a_stream_that_holds_just_enough_problems_serves_every_step():
    """Resumed at its last row: one problem of this round, the others of the next."""
    supply, _ = streamed(PROBLEMS[:3])
    supply.load_state_dict({"row": 2})
    assert ids(supply, [0, 1]) == [["p2", "p0", "p1"], ["p2", "p0", "p1"]]
