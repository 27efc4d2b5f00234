"""The teacher follows once per optimizer step, after it."""

import pytest

from rlsd_lightning.callbacks.teacher_sync import TeacherSync
from tests.helpers.toy_training import ToyLoader, ToyModule, fit


class RecordingTeacher:
    def __init__(self):
        self.calls = []

    def after_step(self, policy, step):
        self.calls.append((step, policy.weights.tolist()))


@pytest.mark.parametrize("num_micro_batches", [1, 3])
def test_the_teacher_sees_the_weights_after_every_step_once(tmp_path, num_micro_batches):
    """After step s the weights are (s, 2 s): the step is complete, whatever its number of micro-batches."""
    teacher = RecordingTeacher()
    module = ToyModule(teacher=teacher)
    fit(module, ToyLoader(4, num_micro_batches), [TeacherSync()], tmp_path)
    assert teacher.calls == [(step, [step, 2 * step]) for step in range(1, 5)]


def test_a_resumed_run_goes_on_counting(tmp_path):
    fit(
        ToyModule(teacher=RecordingTeacher()), ToyLoader(2, 2), [TeacherSync()], tmp_path
    ).save_checkpoint(tmp_path / "last.ckpt")
    teacher = RecordingTeacher()
    fit(
        ToyModule(teacher=teacher),
        ToyLoader(4, 2),
        [TeacherSync()],
        tmp_path,
        tmp_path / "last.ckpt",
    )
    assert teacher.calls == [(3, [3, 6]), (4, [4, 8])]
