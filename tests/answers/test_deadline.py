import threading
import time

import pytest

from rlsd_lightning.answers.deadline import DeadlinePassed, within


def work_for_ever():
    while True:
        pass


def work_that_swallows_what_it_can():
    while True:
        try:
            work_for_ever()
        except Exception:
            continue


def work_that_swallows_everything_twice():
    for _ in range(2):
        try:
            work_for_ever()
        except BaseException:
            continue
    work_for_ever()


def test_work_in_time_gives_its_result_and_its_exceptions():
    assert within(5, lambda: "done") == "done"
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)


@pytest.mark.parametrize(
    "work", [work_for_ever, work_that_swallows_what_it_can, work_that_swallows_everything_twice]
)
def test_endless_work_is_ended(work):
    start = time.perf_counter()
    with pytest.raises(TimeoutError, match=r"took longer than 0\.1 s"):
        within(0.1, work)
    assert time.perf_counter() - start < 5


def test_it_works_off_the_main_thread_and_hits_no_other():
    outcomes = []

    def judge(work):
        try:
            outcomes.append(within(0.1, work))
        except TimeoutError:
            outcomes.append("ended")

    threads = [
        threading.Thread(target=judge, args=(work,)) for work in (work_for_ever, lambda: "done")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(outcomes) == ["done", "ended"]


def test_nothing_is_left_behind():
    before = threading.active_count()
    for seconds in (0.001, 5):
        for _ in range(200):
            try:
                within(seconds, lambda: sum(range(1_000)))
            except TimeoutError:
                continue
    time.sleep(0.3)  # a late interruption would come now
    assert threading.active_count() <= before + 1


def test_no_except_exception_stops_it():
    assert not issubclass(DeadlinePassed, Exception)
