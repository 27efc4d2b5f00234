"""Which weights read the reference at which step, and that a checkpoint keeps them."""

import copy

import pytest
import torch

from rlsd_lightning.teacher import EmaTeacher, FrozenTeacher, LiveTeacher, SyncedTeacher

TEACHERS = {
    "live": LiveTeacher,
    "frozen": FrozenTeacher,
    "synced": lambda: SyncedTeacher(every_n_steps=2),
    "ema": lambda: EmaTeacher(decay=0.5),
}


@pytest.fixture
def bind(text_policy):
    """Return a function that binds a teacher to the policy, whose weights are then set to the number of steps."""

    def make(name):
        teacher = TEACHERS[name]()
        set_weights(text_policy, 0.0)
        teacher.bind(text_policy)
        return teacher

    return make


def set_weights(policy, value):
    with torch.no_grad():
        for weight in policy.parameters():
            weight.fill_(value)


def value_of(policy):
    """The one value that all weights have."""
    values = {float(value) for weight in policy.parameters() for value in weight.detach().unique()}
    assert len(values) == 1
    return values.pop()


def run(teacher, policy, steps):
    """Train as a run does: after step s all weights are s. Return the teacher's weights in each step."""
    seen = []
    for step in steps:
        seen.append(value_of(teacher.weights(policy)))
        set_weights(policy, float(step))
        teacher.after_step(policy, step)
    return seen


def test_synced_every_20_steps_is_the_schedule_of_the_released_code(text_policy):
    """Steps 1-20 use the initial weights, steps 21-40 those after step 20."""
    set_weights(text_policy, 0.0)
    teacher = SyncedTeacher(every_n_steps=20)
    teacher.bind(text_policy)
    assert run(teacher, text_policy, range(1, 42)) == [0.0] * 20 + [20.0] * 20 + [40.0]
    assert int(teacher.version) == 40


def test_frozen_keeps_the_initial_weights(bind, text_policy):
    teacher = bind("frozen")
    assert run(teacher, text_policy, range(1, 6)) == [0.0] * 5
    assert int(teacher.version) == 0


def test_live_is_the_policy_as_it_is(bind, text_policy):
    teacher = bind("live")
    assert run(teacher, text_policy, range(1, 4)) == [0.0, 1.0, 2.0]
    assert teacher.weights(text_policy) is text_policy
    assert int(teacher.version) == 3
    assert not list(teacher.parameters())


def test_ema_moves_a_share_towards_the_policy(bind, text_policy):
    """Decay 0.5: 0 -> 0.5 -> (0.5 + 2) / 2 = 1.25 -> (1.25 + 3) / 2 = 2.125."""
    assert run(bind("ema"), text_policy, range(1, 5)) == [0.0, 0.5, 1.25, 2.125]


def test_ema_without_memory_copies_the_policy_bit_for_bit(text_policy):
    teacher = EmaTeacher(decay=0.0)
    teacher.bind(text_policy)
    with torch.no_grad():
        for weight in text_policy.parameters():
            weight.mul_(1.1)
    teacher.after_step(text_policy, 1)
    for mine, theirs in zip(
        teacher.weights(text_policy).parameters(), text_policy.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["frozen", "synced", "ema"])
def test_a_copy_has_no_gradient_and_evaluates(bind, text_policy, name):
    text_policy.train()
    copied = bind(name).weights(text_policy)
    assert copied is not text_policy
    assert not any(weight.requires_grad for weight in copied.parameters())
    assert not any(module.training for module in copied.modules())
    assert all(weight.requires_grad for weight in text_policy.parameters())
    assert all(module.training for module in text_policy.modules())


@pytest.mark.parametrize("name", ["frozen", "synced", "ema"])
def test_a_copy_shares_no_memory_with_the_policy_and_keeps_its_ties(bind, text_policy, name):
    copied = bind(name).weights(text_policy)
    mine = {weight.data_ptr() for weight in copied.parameters()}
    assert mine.isdisjoint(weight.data_ptr() for weight in text_policy.parameters())
    assert copied.head_weight is copied.model.get_input_embeddings().weight


def test_only_the_live_teacher_shares_a_vision_tower_that_is_trained(bind, policy):
    shared = {name for name in TEACHERS if bind(name).shares_vision_with(policy)}
    assert shared == {"live"}
    policy.model.model.visual.requires_grad_(False)
    assert all(bind(name).shares_vision_with(policy) for name in TEACHERS)


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_resumed_teacher_goes_on_with_the_weights_and_version_it_had(
    bind, text_policy, name, done
):
    """State after `done` steps, loaded into a fresh teacher of a policy with other weights."""
    teacher = bind(name)
    run(teacher, text_policy, range(1, done + 1))
    state = copy.deepcopy(teacher.state_dict())
    policy = copy.deepcopy(text_policy)
    wanted = run(teacher, text_policy, range(done + 1, 8))

    set_weights(text_policy, -9.0)
    resumed = TEACHERS[name]()
    resumed.bind(text_policy)
    resumed.load_state_dict(state)
    assert int(resumed.version) == int(state["version"])
    assert run(resumed, policy, range(done + 1, 8)) == wanted
    assert int(resumed.version) == int(teacher.version)


def test_a_teacher_that_was_never_bound_says_so(text_policy):
    with pytest.raises(AssertionError, match="bind the teacher"):
        FrozenTeacher().weights(text_policy)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"every_n_steps is 0.*teacher=frozen"):
        SyncedTeacher(every_n_steps=0)
    for decay in (1.0, -0.1):
        with pytest.raises(ValueError, match=rf"teacher\.decay is {decay}.*teacher=frozen"):
            EmaTeacher(decay=decay)
