import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import check_gold, verify_batch
from rlsd_lightning.verifier_pool import VerifierPool
from tests.helpers.misbehaving import BrokenToLoad, Misbehaving, QuickToSay

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="looks at processes and files through /proc"
)

TIMEOUT_S = 2.0
MEMORY_MB = 128
PATIENCE_S = 20.0
ROOT = Path(__file__).parents[1]


def new_pool(**settings):
    settings = {"workers": 2, "timeout_s": TIMEOUT_S, "memory_mb": MEMORY_MB} | settings
    return VerifierPool(**{"max_bad_fraction": 1.0} | settings)


@pytest.fixture(scope="module")
def pool():
    with new_pool() as started:
        started.start(Misbehaving())
        yield started


@pytest.fixture(autouse=True)
def _counted_afresh(pool):
    pool.read_metrics()


def problem(number=0, answer="4", **extra):
    return Problem(
        id=f"q{number}", prompt="", answer=answer, location=f"t.jsonl:{number}", extra=extra
    )


def judge(pool, responses, asked=None):
    asked = asked or [problem(number) for number in range(len(responses))]
    return pool.verify_batch(Misbehaving(), asked, responses)


def metrics(pool):
    return {name.removeprefix("verify/"): float(m) for name, m in pool.read_metrics().items()}


def processes():
    """Every process's parent and state, by its id."""
    found = {}
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(path.name)] = int(fields[1]), fields[0]
    return found


def children(pid):
    return {child for child, (parent, _) in processes().items() if parent == pid}


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it has ended since it was looked for
            os.kill(pid, signal.SIGKILL)


def alive(pid):
    return processes().get(pid, (0, "Z"))[1] != "Z"


def zombies(pid):
    return {
        child for child, (parent, state) in processes().items() if (parent, state) == (pid, "Z")
    }


def server_of(pool):
    return pool._processes._server.pid


def eventually(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def open_files():
    return sorted(
        os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()
    )


def num_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


ORDINARY = ["4", "5", "", "\ud800 \x00 \U0001f600", "4 ", "x" * 300_000, "4"]
HOSTILE = ["hang", "crash", "fill_memory", "leave 0", "hang_stubbornly"]


def test_verdicts_are_those_of_the_same_process(pool):
    asked = [problem(number) for number in range(len(ORDINARY))]
    assert judge(pool, ORDINARY, asked) == verify_batch(Misbehaving(), asked, ORDINARY)


def test_nothing_asked_is_nothing_answered(pool):
    assert judge(pool, [], []) == []


def test_problems_and_responses_pair_up(pool):
    with pytest.raises(ValueError, match="got 1 problems and 2 responses"):
        judge(pool, ["4", "5"], [problem()])


@pytest.fixture(scope="module")
def hostile_batch():
    """Ordinary responses before, between and after hostile ones."""
    return [*ORDINARY, *(text for bad in HOSTILE for text in (bad, f"after {bad}")), *ORDINARY]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_hostile_responses_cost_themselves_a_reward_and_nobody_else_a_verdict(
    workers, hostile_batch
):
    asked = [problem(number) for number in range(len(hostile_batch))]
    with new_pool(workers=workers) as pool:
        verdicts = judge(pool, hostile_batch, asked)
        measured = metrics(pool)
    reasons = {
        "hang": "judging it took longer than 2 s",
        "hang_stubbornly": "judging it took longer than 2 s",
        "crash": "judging it ended its process (signal 11)",
        "leave 0": "judging it ended its process (exit code 0)",
        "fill_memory": "judging it took more than 128 MB of memory",
    }
    wanted = [
        Verdict(0.0, False, valid=True, reason=reasons[response])
        if response in reasons
        else verify_batch(Misbehaving(), [one], [response])[0]
        for one, response in zip(asked, hostile_batch, strict=True)
    ]
    assert verdicts == wanted
    assert measured == {
        "timeouts": 2,
        "crashes": 2,
        "out_of_memory": 1,
        "bad_fraction": pytest.approx(5 / 24),  # of 7 + 10 + 7 responses
        "duplicate_fraction": 0,
    }


def test_equal_responses_to_a_problem_are_judged_once(pool, tmp_path):
    asked = [problem(0), problem(0), problem(1), problem(0)]
    response = f"count_in {tmp_path / 'judged'}"
    verdicts = judge(pool, [response] * 4, asked)
    assert verdicts == [Verdict(1.0, True, reason="noted")] * 4
    assert (tmp_path / "judged").read_text() == "judged\n" * 2
    assert metrics(pool)["duplicate_fraction"] == 0.5


@pytest.fixture(scope="module")
def quick_pool():
    with new_pool() as started:
        started.start(QuickToSay())
        yield started


def test_what_is_said_at_once_never_goes_to_a_worker(quick_pool):
    before = children(server_of(quick_pool))
    for pid in before:
        os.kill(pid, signal.SIGSTOP)  # whoever asked it would wait
    asked = [problem(number) for number in range(3)] * 700
    verdicts = quick_pool.verify_batch(QuickToSay(), asked, ["4", "5", "so\n4"] * 700)
    for pid in before:
        os.kill(pid, signal.SIGCONT)
    assert [verdict.reward for verdict in verdicts[:3]] == [1, 0, 1]
    assert verdicts == verdicts[:3] * 700
    assert metrics(quick_pool)["duplicate_fraction"] == pytest.approx(1 - 3 / 2100)


def test_at_once_or_by_a_worker_verdicts_and_counts_are_the_same(quick_pool, tmp_path):
    asked = [problem(0), problem(1), problem(0), problem(1), problem(0), problem(0)]
    note = f"count_in {tmp_path / 'judged'}"
    responses = ["4", "crash", f"a\n{note}", note, f"b\n{note}", "5"]
    verdicts = quick_pool.verify_batch(QuickToSay(), asked, responses)
    assert [verdict.reward for verdict in verdicts] == [1, 0, 1, 1, 1, 0]
    assert (tmp_path / "judged").read_text() == "judged\n" * 2  # once per problem
    assert metrics(quick_pool) == {
        "timeouts": 0,
        "crashes": 1,
        "out_of_memory": 0,
        "bad_fraction": pytest.approx(1 / 6),
        "duplicate_fraction": pytest.approx(1 / 6),
    }


def test_an_error_at_once_waits_for_those_before_it(quick_pool):
    asked = [problem(number) for number in range(3)]
    with pytest.raises(ValueError, match=r"problem 'q1' \(t.jsonl:1\): a"):
        quick_pool.verify_batch(QuickToSay(), asked, ["4", "grumble a", "complain_late b"])
    with pytest.raises(ValueError, match=r"problem 'q0' \(t.jsonl:0\): b"):
        quick_pool.verify_batch(QuickToSay(), asked, ["complain_late b", "grumble a", "4"])


def test_problems_that_differ_in_their_extra_alone_are_two_problems(pool, tmp_path):
    asked = [problem(0, extra=1), problem(0, extra=2), problem(0, extra=1)]
    judge(pool, [f"count_in {tmp_path / 'judged'}"] * 3, asked)
    assert (tmp_path / "judged").read_text() == "judged\n" * 2


def test_a_batch_may_grow_while_it_is_judged(pool, tmp_path):
    wanted = judge(pool, [*ORDINARY, "crash", *ORDINARY])
    counts = metrics(pool)
    asked = [problem(number) for number in range(2 * len(ORDINARY) + 1)]
    rows = list(zip(asked, [*ORDINARY, "crash", *ORDINARY], strict=True))
    with pool.batch(Misbehaving()) as batch:
        for one, response in rows[:-1]:
            batch.add([one], [response])
            if response == "crash":
                time.sleep(0.2)
        note = tmp_path / "judged"
        batch.add([problem(99)], [f"count_in {note}"])
        eventually(note.exists)  # nobody has asked for the verdicts yet
        batch.add(*([one] for one in rows[-1]))
        verdicts = batch.verdicts()
    assert verdicts[:-2] + verdicts[-1:] == wanted
    assert metrics(pool)["crashes"] == counts["crashes"] == 1


def test_a_batch_that_is_left_early_leaves_nothing_behind(pool):
    files = num_open_files()

    def leave_early():
        with pool.batch(Misbehaving()) as batch:
            batch.add([problem(0), problem(1), problem(2)], ["hang", "hang_stubbornly", "4"])
            time.sleep(0.1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave_early()
    assert judge(pool, ["4"])[0].correct
    assert num_open_files() == files
    assert [thread.name for thread in threading.enumerate() if "verifier" in thread.name] == []


@pytest.fixture(scope="module")
def hasty_pool():
    with new_pool(timeout_s=600, batch_timeout_s=1.5) as started:
        started.start(Misbehaving())
        yield started


def test_what_a_batch_has_no_time_for_is_not_judged(hasty_pool):
    """Two responses hang the time away in two processes, so that nobody comes to the last four."""
    start = time.monotonic()
    verdicts = judge(hasty_pool, ["4", "5", "hang", "hang_stubbornly", *"4444"])
    assert time.monotonic() - start < PATIENCE_S
    late = "not judged: judging it was not done when the 1.5 s for the whole batch were over"
    assert [v.reward for v in verdicts] == [1, *[0] * 7]
    assert [v.valid for v in verdicts] == [True, True, *[False] * 6]
    assert {v.reason for v in verdicts[2:]} == {late}
    assert metrics(hasty_pool)["timeouts"] == 6
    assert [v.reward for v in judge(hasty_pool, ["5", "4"])] == [0, 1]
    assert metrics(hasty_pool)["timeouts"] == 0


def test_the_time_of_a_batch_begins_when_all_of_it_is_there(hasty_pool):
    with hasty_pool.batch(Misbehaving()) as batch:
        batch.add([problem(0), problem(1)], ["show_pid 1", "show_pid 2"])
        time.sleep(2.0)
        batch.add([problem(2)], ["4"])
        assert [verdict.valid for verdict in batch.verdicts()] == [True, True, True]


def test_gold_answers_too_have_only_the_time_that_is_left():
    with new_pool(timeout_s=3.0, batch_timeout_s=3.5) as pool:
        pool.start(Misbehaving())
        start = time.monotonic()
        [verdict] = judge(pool, ["hang"], [problem(0, "hang ")])
        assert time.monotonic() - start < 5.5
        assert not verdict.valid


def test_gold_answers_are_judged_whatever_they_do(pool, caplog):
    asked = [
        problem(0, "4"),
        problem(1, "hang"),
        problem(2, "complain no options"),
        problem(3, "crash"),
        problem(4, "complain no unit"),
        problem(5, "4"),
    ]
    judged = pool.judge_gold(Misbehaving(), asked)
    assert [type(one) for one in judged] == [
        Verdict,
        Verdict,
        ValueError,
        Verdict,
        ValueError,
        Verdict,
    ]
    assert [judged[i].reward for i in (0, 1, 3, 5)] == [1, 0, 0, 1]
    assert [judged[i].valid for i in (0, 1, 3, 5)] == [True, False, False, True]
    assert judged[1].reason == "not judged: judging it took longer than 2 s"
    assert "problem 'q4' (t.jsonl:4): no unit" in str(judged[4])
    assert set(metrics(pool).values()) == {0}
    assert caplog.text == ""
    with pytest.raises(RuntimeError, match=r"'q0'.*ZeroDivisionError"):
        pool.judge_gold(Misbehaving(), [problem(0, "break_down 1 / 0")])


def test_a_hanging_gold_answer_is_listed_before_training(pool):
    asked = [problem(0, "4"), problem(1, "hang"), problem(2, "leave 0")]
    with pytest.raises(ValueError, match="Misbehaving cannot judge 2 of the first 3") as error:
        check_gold(Misbehaving(), asked, limit=64, judge=pool.judge_gold)
    assert "\n  problem 'q1' (t.jsonl:1): not judged: judging it took longer" in str(error.value)
    assert "\n  problem 'q2' (t.jsonl:2): not judged: judging it ended its" in str(error.value)


def test_problems_of_two_data_sets_with_one_id_are_two_problems(pool):
    verdicts = judge(pool, ["4", "4"], [problem(0, "4"), problem(0, "5")])
    assert [verdict.reward for verdict in verdicts] == [1, 0]


def test_duplicates_of_a_hostile_response_are_counted_each(pool):
    judge(pool, ["crash", "crash", "4"], [problem()] * 3)
    assert metrics(pool)["crashes"] == 2
    assert metrics(pool)["crashes"] == 0


def test_where_the_gold_answer_is_in_trouble_too_nothing_is_judged(pool):
    asked = [problem(0, "crash"), problem(1), problem(2, "leave 1")]
    verdicts = judge(pool, ["crash", "crash", "7"], asked)
    assert [verdict.valid for verdict in verdicts] == [False, True, True]
    assert verdicts[0].reason == (
        "not judged: judging it ended its process (signal 11), and the problem's gold answer cannot be judged either"
    )
    assert verdicts[1].reward == 0
    assert metrics(pool)["crashes"] == 2


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ("complain options are missing", ValueError),
        ("break_down 1 / 0", RuntimeError),
        ("quit_python", RuntimeError),
        ("odd_numbers", RuntimeError),
    ],
)
def test_a_verifiers_own_fault_stops_the_run_and_names_the_problem(pool, response, error):
    with pytest.raises(error, match=r"Misbehaving.*problem 'q1' \(t.jsonl:1\)") as caught:
        judge(pool, ["4", response, "4"])
    assert "In the worker process:\nTraceback" in caught.value.__notes__[0]


def test_errors_are_worded_as_in_the_same_process(pool):
    asked = [problem()]
    for response in ("complain options are missing", "break_down 1 / 0"):
        with pytest.raises((ValueError, RuntimeError)) as here:
            verify_batch(Misbehaving(), asked, [response])
        with pytest.raises(type(here.value), match=re.escape(str(here.value))):
            judge(pool, [response], asked)


def test_of_several_errors_the_first_in_order_is_raised(pool):
    responses = ["4"] * 5 + ["hang", "complain a", "complain b", "complain c"]
    with pytest.raises(ValueError, match=r"'q6'.*: a"):
        judge(pool, responses)
    with pytest.raises(ValueError, match=r"'q1'.*: a"):
        judge(pool, ["4", "complain_late a", "complain b", "complain_late c"])


def test_an_error_waits_for_nothing_that_comes_after_it():
    with new_pool(timeout_s=600) as pool:
        for _ in range(3):
            with pytest.raises(ValueError, match="now"):
                judge(pool, ["complain now", "hang", "hang", "hang"])
            assert [v.reward for v in judge(pool, ["5", "4", "5", "4"])] == [0, 1, 0, 1]


@pytest.mark.parametrize("act", ["fail_first", "raise_first"])
def test_what_goes_well_in_a_fresh_process_counts(pool, act, tmp_path):
    verdicts = judge(pool, ["4", f"{act} {tmp_path / 'tried'}", "5"])
    assert verdicts[1] == Verdict(1.0, True, reason="the second time")
    assert metrics(pool)["crashes"] == 0


def test_workers_killed_from_outside_cost_no_verdict(pool):
    asked = [problem(number) for number in range(40)]
    wanted = judge(pool, ["4"] * 40, asked)
    kill(children(server_of(pool)))  # while idle
    assert judge(pool, ["4"] * 40, asked) == wanted

    def kill_one():
        time.sleep(0.2)
        kill([min(children(server_of(pool)))])

    killer = threading.Thread(target=kill_one)
    killer.start()
    verdicts = judge(pool, [f"show_pid {number}" for number in range(40)])  # at least 1 s of work
    killer.join()
    assert all(verdict.reason.isdigit() for verdict in verdicts)
    assert len({verdict.reason for verdict in verdicts}) == 3  # two, and one's successor


def test_a_worker_killed_before_it_is_ready_is_replaced(pool):
    judge(pool, ["4"])
    processes = pool._processes
    processes._retire(processes._workers.values())
    while all(worker.ending for worker in processes._workers.values()):
        processes._step()
    kill(children(server_of(pool)))  # at least one of them has just been forked
    assert [v.reward for v in judge(pool, ["4", "5"])] == [1, 0]


def test_workers_that_never_get_ready_end_the_run(monkeypatch):
    with new_pool() as starved:
        starved.start(Misbehaving())
        processes = starved._processes
        monkeypatch.setattr(processes, "_hear", lambda worker, line: True)  # deaf to "ready"
        processes._retire(processes._workers.values())

        def kill_all_that_come():
            for _ in range(20):
                processes._step()
                kill(children(server_of(starved)))

        with pytest.raises(RuntimeError, match=r"3 worker processes in a row.*signal 9.*memory_mb"):
            kill_all_that_come()


def test_a_worker_is_replaced_after_many_tasks():
    asked = [problem(number) for number in range(501)]
    with new_pool(workers=1) as alone:
        alone.start(Misbehaving())
        first = children(server_of(alone))
        judge(alone, ["4"] * 499, asked[:499])
        assert children(server_of(alone)) == first
        assert all(verdict.correct for verdict in judge(alone, ["4"] * 2, asked[499:]))
        assert len(children(server_of(alone))) == 1
        assert not first & children(server_of(alone))


def test_no_descriptors_zombies_or_processes_are_left_behind(pool):
    judge(pool, ["4", "5", "crash"])
    files = num_open_files()
    for round_ in range(8):
        judge(pool, [f"crash {round_}", f"leave {round_}", "4", f"crash again {round_}"])
    eventually(lambda: not zombies(server_of(pool)))
    eventually(lambda: judge(pool, ["4"]) and len(children(server_of(pool))) == 2)
    assert num_open_files() == files
    assert not zombies(os.getpid())


def test_what_a_response_started_ends_with_its_worker(pool, tmp_path):
    hung, crashed = tmp_path / "hung", tmp_path / "crashed"
    judge(pool, [f"hang_with_child {hung}", f"crash_leaving_child {crashed}"])
    started = [int(pid) for path in (hung, crashed) for pid in path.read_text().split()]
    assert len(started) == 3  # a crash is tried twice
    eventually(lambda: not any(alive(pid) for pid in started))


def test_memory_is_limited_in_the_worker_and_untouched_here(pool):
    def resident_mb():
        return (
            int(Path("/proc/self/statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 2**20
        )

    before = resident_mb()
    verdicts = judge(pool, [f"fill_memory {number}" for number in range(4)])
    assert {verdict.reason for verdict in verdicts} == {
        "judging it took more than 128 MB of memory"
    }
    assert resident_mb() - before < 16


def test_too_long_an_answer_of_a_worker_is_not_listened_to(pool):
    [verdict] = judge(pool, ["say_much 3000000"])
    assert verdict.reason.startswith("judging it ended its process")


def test_what_is_no_answer_ends_its_worker():
    with new_pool(timeout_s=600) as pool:
        verdicts = judge(pool, ["forge not JSON", "4", 'forge {"status": "ready"}\nand more'])
    assert verdicts[0] == Verdict(0.0, False, reason="judging it ended its process (signal 9)")
    assert verdicts[1].correct
    assert verdicts[2] == verdicts[0]


def test_workers_print_nowhere(capfd):
    with new_pool(workers=1) as pool:  # started here, so that it inherits what is captured
        [verdict] = judge(pool, ["shout"])
    assert verdict.correct
    assert capfd.readouterr() == ("", "")


def test_signals_for_the_whole_job_do_not_end_the_pool(pool):
    server = server_of(pool)
    for pid in (server, *children(server)):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(pid, number)
    before = children(server)
    assert judge(pool, ["4"])[0].correct
    assert (server_of(pool), children(server)) == (server, before)


def test_the_server_has_one_thread_and_no_device(pool):
    folder = Path(f"/proc/{server_of(pool)}")
    assert len(list((folder / "task").iterdir())) == 1
    assert b"\0CUDA_VISIBLE_DEVICES=\0" in (folder / "environ").read_bytes()


def test_any_thread_may_ask_and_several_may_at_once(pool):
    verdicts = {}

    def ask(name):
        asked = [problem(name, str(name))] * 20
        verdicts[name] = judge(pool, [str(number % 7) for number in range(20)], asked)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in range(4):
        assert [v.correct for v in verdicts[name]] == [number % 7 == name for number in range(20)]


def test_another_verifier_takes_over():
    with new_pool(workers=1) as pool:
        for name in ("first", "second"):
            [verdict] = pool.verify_batch(Misbehaving(name), [problem()], ["4"])
            assert verdict.reason == f"{name}: 4"


def test_a_closed_pool_leaves_nothing_and_can_be_used_again():
    files, before = open_files(), children(os.getpid())
    pool = new_pool(workers=1)
    pool.close()
    for _ in range(2):
        assert judge(pool, ["4"])[0].correct
        server = server_of(pool)
        workers = children(server)
        assert len(workers) == 1
        pool.close()
        assert not any(alive(pid) for pid in (server, *workers))
        assert children(os.getpid()) == before
    assert open_files() == files


def test_a_server_that_was_killed_takes_its_workers_along_and_is_told():
    with new_pool() as pool:
        pool.start(Misbehaving())
        server = server_of(pool)
        workers = children(server)
        os.kill(server, signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in workers))
        with pytest.raises(RuntimeError, match=r"server process ended by itself \(exit code -9\)"):
            judge(pool, ["4"])
        assert judge(pool, ["4"])[0].correct


def test_when_the_trainer_is_killed_all_processes_end_even_a_hung_one(tmp_path):
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from rlsd_lightning.types import Problem
from rlsd_lightning.verifier_pool import VerifierPool
from tests.helpers.misbehaving import Misbehaving
pool = VerifierPool(workers=2, timeout_s=600)
pool.start(Misbehaving())
if os.fork() == 0:  # a child of the trainer, as data loaders have them: it holds the trainer's ends open
    import time
    time.sleep(600)
print(pool._processes._server.pid, flush=True)
asked = [Problem(id=str(i), prompt="") for i in range(2)]
pool.verify_batch(Misbehaving(), asked, ["hang_stubbornly", {f"hang_with_child {tmp_path / 'child'}"!r}])
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as trainer:
        server = int(trainer.stdout.readline())
        eventually(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        workers = children(server)
        loader = children(trainer.pid) - {server}
        everyone = [server, *workers, int((tmp_path / "child").read_text())]
        assert len(workers) == 2
        assert all(alive(pid) for pid in everyone)
        trainer.kill()
        try:
            eventually(lambda: not any(alive(pid) for pid in everyone))
        finally:
            kill(loader)


def test_too_many_bad_responses_warn(caplog):
    with new_pool(workers=1, max_bad_fraction=0.25) as pool:
        judge(pool, ["4", "4", "4", "crash"])
        assert caplog.text == ""
        judge(pool, ["4", "4", "leave 1", "crash"])
    assert "judging 2 of 4 responses timed out, ran out of memory or crashed" in caplog.text
    assert "max_bad_fraction=0.25" in caplog.text
    assert "problem 'q2' (t.jsonl:2): ended its process (exit code 1)" in caplog.text


def test_too_many_bad_responses_stop_the_run_at_once():
    with new_pool(timeout_s=600, max_bad_fraction=0.25, on_bad="stop") as pool:
        with pytest.raises(RuntimeError, match="judging 4 of 12 responses"):
            judge(pool, ["hang"] * 8 + ["crash"] * 4, [problem()] * 8 + [problem(1)] * 4)
        assert [v.reward for v in judge(pool, ["5", "4", "5", "4"])] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"timeout_s": float("inf")}, "timeout_s is inf"),
        ({"memory_mb": 0}, "memory_mb is 0"),
        (
            {"batch_timeout_s": 0},
            "batch_timeout_s is 0, needs a number of seconds above 0, or null",
        ),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction is 1.5"),
        ({"on_bad": "ignore"}, "on_bad is 'ignore', needs one of warn, stop"),
    ],
)
def test_settings_without_sense_are_refused(settings, fault):
    with pytest.raises(ValueError, match=fault):
        new_pool(**settings)


def test_a_verifier_that_cannot_be_sent_is_refused(pool):
    class Local(Misbehaving):
        pass

    for verifier in (Local(), BrokenToLoad()):
        name = type(verifier).__name__
        with (
            new_pool(workers=1) as refusing,
            pytest.raises(ValueError, match=f"{name} cannot be handed to worker processes"),
        ):
            refusing.start(verifier)


def test_a_problem_that_cannot_be_sent_is_named(pool):
    with pytest.raises(ValueError, match=r"problem 'q0' .*cannot be sent to a worker process"):
        judge(pool, ["4"], [problem(check=lambda text: True)])
    assert judge(pool, ["4"])[0].correct
