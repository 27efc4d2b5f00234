"""Ranks notice that another one is gone: real sockets, several ranks in one process."""

import os
import signal
import socket
import threading
import time

import pytest

from rlsd_lightning.peer_watch import Line, PeerWatch, accept, call, open_hub
from tests.helpers.ranks import without_garbage

SOON_S = 0.6
"""After this much silence a rank is missing, in these tests."""


def lay_lines(num_ranks):
    """Return each rank's lines, rank zero first."""
    calls = {}
    with open_hub() as hub:
        port = hub.getsockname()[1]

        def dial(rank):
            calls[rank] = [call("127.0.0.1", port, "secret", rank)]

        threads = [threading.Thread(target=dial, args=(rank,)) for rank in range(1, num_ranks)]
        for thread in threads:
            thread.start()
        hub_lines = accept(hub, "secret", num_ranks - 1)
        for thread in threads:
            thread.join()
    return [hub_lines, *(calls[rank] for rank in range(1, num_ranks))]


class Ranks:
    """Watches of all ranks and what each was told."""

    def __init__(self, num_ranks, missing_after_s=30.0, asleep=()):
        self.told = {rank: [] for rank in range(num_ranks)}
        self.lines = lay_lines(num_ranks)
        self.watches = [
            PeerWatch(rank, lines, missing_after_s, self.told[rank].append)
            for rank, lines in enumerate(self.lines)
        ]
        for rank, watch in enumerate(self.watches):
            if rank not in asleep:
                watch.start()

    def losses(self, *ranks):
        """Wait until these ranks know of a loss; return (rank, reason) of what each knows."""
        found = [self.watches[rank].wait_for_loss(10.0) for rank in ranks]
        assert None not in found
        return [(loss.rank, loss.reason) for loss in found]


def test_a_line_that_closes_names_its_rank_to_all_others():
    ranks = Ranks(3)
    ranks.lines[1][0].connection.shutdown(socket.SHUT_RDWR)  # as the system does for a dead process
    assert ranks.losses(0, 2) == [(1, "its process has ended")] * 2
    assert ranks.watches[0].wait_for_loss(0).host == socket.gethostname()
    time.sleep(0.1)
    assert [len(ranks.told[rank]) for rank in (0, 2)] == [1, 1]


def test_a_line_that_stays_silent_names_its_rank_to_all_others():
    ranks = Ranks(3, SOON_S, asleep=[2])
    assert ranks.losses(0, 1) == [(2, "nothing was heard of it for 1 s")] * 2


def test_where_rank_zero_is_gone_every_other_rank_says_so():
    ranks = Ranks(3, asleep=[0])
    for line in ranks.lines[0]:
        line.close()
    assert ranks.losses(1, 2) == [(0, "its process has ended")] * 2


def test_where_rank_zero_is_silent_every_other_rank_says_so():
    ranks = Ranks(3, SOON_S, asleep=[0])
    assert [rank for rank, _ in ranks.losses(1, 2)] == [0, 0]


def test_beats_keep_the_watch_quiet_and_so_does_leaving():
    ranks = Ranks(3, SOON_S)
    time.sleep(3 * SOON_S)
    for rank in (1, 0, 2):
        ranks.watches[rank].leave()
        time.sleep(0.1)
    time.sleep(2 * SOON_S)
    assert list(ranks.told.values()) == [[], [], []]


@pytest.mark.parametrize("failing", [0, 2])
def test_a_rank_that_fails_tells_the_others_why(failing):
    ranks = Ranks(3)
    ranks.watches[failing].fail("ValueError: bad row")
    others = {0, 1, 2} - {failing}
    assert ranks.losses(*others) == [(failing, "ValueError: bad row")] * 2
    assert all(ranks.watches[rank].wait_for_loss(0).is_failure for rank in others)
    assert ranks.told[failing] == []


def test_strangers_are_turned_away():
    with open_hub() as hub:
        port = hub.getsockname()[1]
        scanner = socket.create_connection(("127.0.0.1", port))
        scanner.sendall(b"GET / HTTP/1.1\r\n\r\n")
        of_another_run = Line(socket.create_connection(("127.0.0.1", port)))
        of_another_run.send(token="other", rank=1, host="somewhere")
        ours = threading.Thread(target=call, args=("127.0.0.1", port, "secret", 1))
        ours.start()
        (line,) = accept(hub, "secret", 1)
        ours.join()
    assert line.host == socket.gethostname()
    assert of_another_run.receive() is None


def test_ranks_that_do_not_call_are_named():
    with (
        open_hub() as hub,
        pytest.raises(ConnectionError, match=r"ranks \[1, 2\] did not reach rank 0"),
    ):
        accept(hub, "secret", 2, timeout_s=0.1)


def test_a_rank_zero_that_cannot_be_reached_is_named():
    with open_hub() as hub:
        port = hub.getsockname()[1]
    with pytest.raises(ConnectionError, match=f"cannot reach rank 0 at 127.0.0.1, port {port}"):
        call("127.0.0.1", port, "secret", 1)


def test_a_job_that_was_suspended_goes_on_without_alarm():
    """All its processes stood still, so nobody beat; nobody is missing either."""
    with without_garbage():
        child = os.fork()
    if child == 0:
        ranks = Ranks(2, SOON_S)
        time.sleep(4 * SOON_S)
        os._exit(len(ranks.told[0]) + len(ranks.told[1]))
    time.sleep(SOON_S)
    os.kill(child, signal.SIGSTOP)
    time.sleep(4 * SOON_S)
    os.kill(child, signal.SIGCONT)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_rank_that_leaves_is_not_gone_however_slowly_it_says_goodbye():
    """Its thread must not hang up between the two halves of leaving: deciding to, and telling the others."""
    ranks = Ranks(2, missing_after_s=5.0)
    tell = ranks.lines[1][0].send

    def slow_goodbye(**message):
        if "left" in message:
            time.sleep(1.2)  # longer than a watch sleeps
        tell(**message)

    ranks.lines[1][0].send = slow_goodbye
    ranks.watches[1].leave()
    assert ranks.watches[0].wait_for_loss(1.0) is None
    assert ranks.told == {0: [], 1: []}
