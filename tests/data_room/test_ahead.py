"""One thing at a time in a thread beside training."""

import threading
import traceback

import pytest

from rlsd_lightning.data.ahead import AbandonedError, Ahead

PATIENCE_S = 20


@pytest.fixture
def ahead():
    made = Ahead()
    yield made
    made.close()


def fails_like_this():
    raise KeyError("lost")


def test_the_caller_goes_on_meanwhile(ahead):
    go_on = threading.Event()
    ahead.begin(lambda: go_on.wait(PATIENCE_S))
    assert ahead.has_begun
    go_on.set()
    assert ahead.take() is True
    assert not ahead.has_begun


def test_one_thread_serves_until_it_is_closed(ahead):
    """A process that is to end with its parent ends with the thread that started it."""
    threads = []
    for _ in range(3):
        ahead.begin(threading.current_thread)
        threads.append(ahead.take())
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    ahead.close()
    assert not threads[0].is_alive()


def test_what_is_raised_there_is_raised_where_it_is_taken_with_its_own_traceback(ahead):
    ahead.begin(fails_like_this)
    ahead.wait()
    with pytest.raises(KeyError, match="lost") as caught:
        ahead.take()
    assert "fails_like_this" in [
        frame.name for frame in traceback.extract_tb(caught.value.__traceback__)
    ]
    ahead.begin(lambda: 1)
    assert ahead.take() == 1


def test_closing_waits_for_what_is_under_way_and_says_so(ahead, caplog):
    began, ended = threading.Event(), threading.Event()

    def work():
        began.set()
        while True:
            try:
                ahead.check_wanted()
            except AbandonedError:
                ended.set()
                raise

    ahead.begin(work)
    assert began.wait(PATIENCE_S)
    ahead.close()
    assert ended.is_set()
    assert [record.message for record in caplog.records] == [
        "Waiting for the engine to leave off the next step's rollouts."
    ]
    ahead.begin(lambda: ahead.check_wanted() or 2)
    assert ahead.take() == 2


def test_an_error_that_nobody_comes_for_is_logged(ahead, caplog):
    ahead.begin(fails_like_this)
    ahead.close()
    assert "fails_like_this" in caplog.text
    assert "lost" in caplog.text


def test_closing_what_never_began_does_nothing(ahead):
    ahead.wait()
    ahead.close()
