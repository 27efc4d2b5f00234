import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlsd_lightning import logit_blocks
from rlsd_lightning.divergence import token_divergence

N, V, H, TEACHER_H = 7, 23, 5, 3
FORMS = [
    {"kind": kind} | top
    for kind in ("forward_kl", "reverse_kl", "jsd")
    for top in ({}, {"top_k": 4, "top_k_by": "teacher"}, {"top_k": 4, "top_k_by": "student"})
]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(map(str, f.values())))
every_kind = pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])


@pytest.fixture(params=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    """Run both in one block and, forward, 2 rows at a time and, backward, 4 rows by 11 columns."""
    if request.param == "many blocks":
        monkeypatch.setattr(logit_blocks, "BLOCK_ROWS", 4)
        monkeypatch.setattr(logit_blocks, "BLOCK_ELEMENTS", {"cpu": 2 * V, "cuda": 2 * V})
        monkeypatch.setattr(logit_blocks, "MIN_BLOCK_COLUMNS", 1)


in_blocks = pytest.mark.usefixtures("_blocks")


def make_inputs(dtype=torch.float64, num_places=N):
    """A student and a teacher of another width; the student's tensors are leaves."""
    generator = torch.Generator().manual_seed(0)
    shapes = (num_places, H), (V, H), (num_places, TEACHER_H), (V, TEACHER_H)
    student_and_teacher = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes
    ]
    for tensor in student_and_teacher[:2]:
        tensor.requires_grad_()
    return student_and_teacher


def naive(hidden, weight, teacher_hidden, teacher_weight, temperature=1.0, **form):
    """By way of all logits, with autograd."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    student = ((hidden @ weight.T).to(wide) / temperature).log_softmax(-1)
    teacher = ((teacher_hidden @ teacher_weight.T).to(wide) / temperature).log_softmax(-1).detach()
    return divergence_of(student, teacher, **form)


def divergence_of(student, teacher, kind, jsd_weight=0.5, top_k=None, top_k_by="teacher"):
    if top_k is not None:
        ids = (teacher if top_k_by == "teacher" else student).topk(top_k).indices
        student, teacher = bucketed(student, ids), bucketed(teacher, ids)
    if kind == "forward_kl":
        return kl(teacher, student)
    if kind == "reverse_kl":
        return kl(student, teacher)
    mixture = (jsd_weight * teacher.exp() + (1 - jsd_weight) * student.exp()).log()
    return jsd_weight * kl(teacher, mixture) + (1 - jsd_weight) * kl(student, mixture)


def bucketed(scores, ids):
    others = torch.ones_like(scores, dtype=torch.bool).scatter(-1, ids, False)
    rest = (scores.exp() * others).sum(-1, keepdim=True).log()
    return torch.cat([scores.gather(-1, ids), rest], -1)


def kl(left, right):
    return (left.exp() * (left - right)).sum(-1)


@in_blocks
@every_form
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(
    ("dtype", "value_tolerance", "gradient_tolerance"),
    [(torch.float64, 1e-12, 1e-12), (torch.float32, 1e-5, 1e-5), (torch.bfloat16, 1e-5, 6e-2)],
)
def test_values_and_gradients_are_the_naive_ones(
    dtype, value_tolerance, gradient_tolerance, temperature, form
):
    inputs = make_inputs(dtype)
    found = token_divergence(*inputs, temperature=temperature, **form)
    expected = naive(*inputs, temperature=temperature, **form)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found, expected, atol=value_tolerance, rtol=0)
    incoming = torch.linspace(-1, 1, N, dtype=found.dtype)
    gradients = torch.autograd.grad(found, inputs[:2], incoming)
    wanted = torch.autograd.grad(expected, inputs[:2], incoming)
    for gradient, want in zip(gradients, wanted, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, want, atol=gradient_tolerance, rtol=0)


@in_blocks
@every_form
def test_gradients_agree_with_finite_differences(form):
    hidden, weight, *teacher = make_inputs(num_places=3)
    assert torch.autograd.gradcheck(
        lambda h, w: token_divergence(h, w, *teacher, temperature=0.7, jsd_weight=0.3, **form),
        (hidden, weight),
    )


def test_numbers_worked_out_by_hand():
    # S = (1/2, 1/4, 1/4), T = (1/4, 1/4, 1/2); M at b = 1/2 is (3/8, 1/4, 3/8).
    inputs = [torch.tensor([[2.0, 1, 1]]).log(), torch.eye(3), torch.tensor([[1.0, 1, 2]]).log()]
    inputs.append(torch.eye(3))

    def value(**form):
        return float(token_divergence(*inputs, **form))

    # KL(T || S) = 1/4 log(1/2) + 1/2 log 2 = 1/4 log 2, and by symmetry the other one, too
    assert value(kind="forward_kl") == pytest.approx(0.25 * math.log(2), abs=1e-6)
    assert value(kind="reverse_kl") == pytest.approx(0.25 * math.log(2), abs=1e-6)
    # both halves alike: 1/4 log(2/3) + 1/2 log(4/3)
    half = 0.25 * math.log(2 / 3) + 0.5 * math.log(4 / 3)
    assert value(kind="jsd") == pytest.approx(half, abs=1e-6)
    # By the teacher's first: T = (1/2, 1/2), S = (1/4, 3/4).
    top = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert value(kind="forward_kl", top_k=1) == pytest.approx(top, abs=1e-6)
    # By the student's first: T = (1/4, 3/4), S = (1/2, 1/2).
    top = 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    by_student = value(kind="forward_kl", top_k=1, top_k_by="student")
    assert by_student == pytest.approx(top, abs=1e-6)


@in_blocks
@every_form
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_student_that_is_its_teacher_is_at_zero_and_stays_there(dtype, form):
    hidden, weight, *_ = make_inputs(dtype)
    found = token_divergence(hidden, weight, hidden, weight, **form)
    assert found.abs().max() <= 1e-7
    for gradient in torch.autograd.grad(found.sum(), (hidden, weight)):
        assert gradient.abs().max() <= 1e-6


@every_kind
def test_the_divergence_is_positive_elsewhere(kind):
    assert (token_divergence(*make_inputs(), kind=kind) > 1e-3).all()


@every_form
def test_blocks_change_nothing(form, monkeypatch):
    inputs = make_inputs()
    whole = token_divergence(*inputs, **form)
    gradients = torch.autograd.grad(whole.sum(), inputs[:2])
    for rows in (1, 3):
        elements = {"cpu": rows * V, "cuda": rows * V}
        monkeypatch.setattr(logit_blocks, "BLOCK_ELEMENTS", elements)
        monkeypatch.setattr(logit_blocks, "BLOCK_ROWS", rows)
        monkeypatch.setattr(logit_blocks, "MIN_BLOCK_COLUMNS", 1)
        found = token_divergence(*inputs, **form)
        torch.testing.assert_close(found, whole, atol=1e-13, rtol=0)
        torch.testing.assert_close(
            torch.autograd.grad(found.sum(), inputs[:2]), gradients, atol=1e-13, rtol=0
        )


@every_kind
@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("top_k", [V, V + 1, 10**6])
def test_a_bucket_for_every_token_is_the_whole_vocabulary(kind, side, top_k):
    inputs = make_inputs()
    full = token_divergence(*inputs, kind=kind)
    top = token_divergence(*inputs, kind=kind, top_k=top_k, top_k_by=side)
    assert torch.equal(top, full)


@every_kind
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_more_buckets_never_see_less(kind, side):
    """Data-processing inequality: the tail bucket forgets, and never invents a difference."""
    inputs = make_inputs()
    values = [
        token_divergence(*inputs, kind=kind, top_k=top_k, top_k_by=side).detach()
        for top_k in range(1, V + 1)
    ]
    for fewer, more in itertools.pairwise(values):
        assert (fewer <= more + 1e-12).all()
    assert (values[0] < values[-1] - 1e-3).all()


def test_the_mixture_weight_tends_to_the_two_kls():
    inputs = make_inputs()
    small = 1e-7
    forward = token_divergence(*inputs, kind="jsd", jsd_weight=small) / small
    reverse = token_divergence(*inputs, kind="jsd", jsd_weight=1 - small) / small
    for found, kind in ((forward, "forward_kl"), (reverse, "reverse_kl")):
        torch.testing.assert_close(found, token_divergence(*inputs, kind=kind), atol=0, rtol=1e-4)


def test_the_symmetric_mixture_is_symmetric_and_at_most_log_2():
    student, teacher = make_inputs()[:2], make_inputs()[2:]
    there = token_divergence(*student, *teacher, kind="jsd")
    back = token_divergence(*teacher, *student, kind="jsd")
    torch.testing.assert_close(there, back, atol=1e-12, rtol=0)
    far = token_divergence(
        torch.tensor([[1e3]]), torch.arange(3.0)[:, None], torch.tensor([[-1e3]]),
        torch.arange(3.0)[:, None], kind="jsd",
    )  # fmt: skip
    assert float(far) == pytest.approx(math.log(2), abs=1e-6)


@in_blocks
@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(dtype, form):
    """Student and teacher certain of opposite ends: masses underflow to 0, log-probs reach -2e4."""
    head = torch.linspace(-1, 1, V, dtype=dtype)[:, None].requires_grad_()
    hidden = torch.tensor([[1e4], [-1e4], [1e4]], dtype=dtype, requires_grad=True)
    teacher_hidden = torch.tensor([[-1e4], [-1e4], [0.0]], dtype=dtype)
    found = token_divergence(hidden, head, teacher_hidden, head, **form)
    assert found.isfinite().all()
    assert found[1].abs() < 1e-6
    assert found[0] > 0.5
    assert all(
        gradient.isfinite().all() for gradient in torch.autograd.grad(found.sum(), (hidden, head))
    )


def test_a_tail_of_almost_no_mass_still_counts():
    """1 - chosen mass is 0 in float32 on both sides, and yet the tails' logits are known."""
    student = torch.tensor([[0.0, -40.0, -40.0]])
    teacher = torch.tensor([[0.0, -60.0, -60.0]])
    form = {"kind": "reverse_kl", "top_k": 1}
    found = token_divergence(student, torch.eye(3), teacher, torch.eye(3), **form)
    # 2 e^-40 log(e^-40 / e^-60)
    assert float(found) == pytest.approx(2 * math.exp(-40) * 20, rel=1e-4)


@in_blocks
@every_form
def test_places_without_gradient_leave_no_trace(form):
    inputs = make_inputs()
    incoming = torch.arange(N, dtype=torch.float64) % 3  # every third is 0
    found = torch.autograd.grad(token_divergence(*inputs, **form), inputs[:2], incoming)
    with torch.no_grad():
        inputs[0][incoming == 0] = float("nan")
        inputs[2][incoming == 0] = float("nan")
    poisoned = torch.autograd.grad(token_divergence(*inputs, **form), inputs[:2], incoming)
    torch.testing.assert_close(found, poisoned, atol=0, rtol=0)
    assert not found[0][incoming == 0].any()


@in_blocks
@every_form
def test_no_gradient_at_all_gives_zeros(form):
    inputs = make_inputs()
    (token_divergence(*inputs, **form) * 0).sum().backward()
    assert torch.equal(inputs[0].grad, torch.zeros_like(inputs[0]))
    assert torch.equal(inputs[1].grad, torch.zeros_like(inputs[1]))


@every_form
def test_no_places_give_no_values_and_zero_gradients(form):
    inputs = make_inputs(num_places=0)
    found = token_divergence(*inputs, **form)
    assert found.shape == (0,)
    found.sum().backward()
    assert inputs[0].grad.shape == (0, H)
    assert torch.equal(inputs[1].grad, torch.zeros(V, H, dtype=torch.float64))


@in_blocks
@every_form
@pytest.mark.parametrize("which", [0, 1])
def test_a_frozen_input_gets_no_gradient_and_the_other_the_same(form, which):
    inputs = make_inputs()
    both = torch.autograd.grad(token_divergence(*inputs, **form).sum(), inputs[:2])
    frozen = [tensor if i == which else tensor.detach() for i, tensor in enumerate(inputs)]
    (alone,) = torch.autograd.grad(token_divergence(*frozen, **form).sum(), inputs[which])
    assert torch.equal(alone, both[which])


@every_form
def test_the_teacher_learns_nothing(form):
    inputs = make_inputs()
    for tensor in inputs:
        tensor.requires_grad_()
    token_divergence(*inputs, **form).sum().backward()
    assert inputs[2].grad is None
    assert inputs[3].grad is None


@every_form
def test_a_head_that_both_share_gets_the_students_gradient_only(form):
    hidden, weight, *_ = make_inputs()
    teacher_hidden = hidden.detach().flip(0)
    found = token_divergence(hidden, weight, teacher_hidden, weight, **form).sum()
    apart = token_divergence(hidden, weight, teacher_hidden, weight.detach(), **form).sum()
    assert torch.equal(torch.autograd.grad(found, weight)[0], torch.autograd.grad(apart, weight)[0])


@in_blocks
@every_form
@pytest.mark.parametrize("hidden_dtype", [torch.float32, torch.bfloat16])
def test_autocast_multiplies_in_its_dtype_and_gives_gradients_in_theirs(hidden_dtype, form):
    inputs = make_inputs(torch.float32)
    inputs[0] = inputs[0].detach().to(hidden_dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = token_divergence(*inputs, **form)
    expected = naive(*(tensor.bfloat16() for tensor in inputs), **form)
    torch.testing.assert_close(found, expected, atol=4e-6, rtol=0)
    gradients = torch.autograd.grad(found.sum(), inputs[:2])
    assert [gradient.dtype for gradient in gradients] == [hidden_dtype, torch.float32]
    wanted = torch.autograd.grad(expected.sum(), inputs[:2])
    torch.testing.assert_close(gradients, wanted, atol=6e-2, rtol=0)


def test_float64_is_kept_under_autocast():
    inputs = make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        found = token_divergence(*inputs, kind="jsd")
    assert torch.equal(found, token_divergence(*inputs, kind="jsd"))


@in_blocks
@every_form
def test_a_teacher_of_another_dtype_is_served(form):
    inputs = make_inputs(torch.float32)
    low = [tensor.bfloat16() for tensor in inputs[2:]]
    found = token_divergence(*inputs[:2], *low, **form)
    wide = [tensor.float() for tensor in low]
    torch.testing.assert_close(
        found, token_divergence(*inputs[:2], *wide, **form), atol=5e-2, rtol=0
    )
    assert found.dtype == torch.float32
    assert torch.autograd.grad(found.sum(), inputs[0])[0].dtype == torch.float32


@every_form
def test_the_whole_logits_never_exist(form, monkeypatch):
    """No tensor that the forward or backward pass makes is as large as [N, V], nor half of it."""
    num_places, num_tokens = 256, 4096
    monkeypatch.setattr(logit_blocks, "BLOCK_ELEMENTS", {"cpu": 2**15, "cuda": 2**15})
    monkeypatch.setattr(logit_blocks, "MIN_BLOCK_COLUMNS", 64)
    hidden = torch.randn(num_places, 8, requires_grad=True)
    weight = torch.randn(num_tokens, 8, requires_grad=True)
    teacher = torch.randn(num_places, 8), torch.randn(num_tokens, 8)
    sizes = LargestTensor()
    with sizes:
        token_divergence(hidden, weight, *teacher, **form).sum().backward()
    assert sizes.largest == weight.numel()  # its own gradient


class LargestTensor(TorchDispatchMode):
    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "kl"}, "kind"),
        ({"kind": "jsd", "jsd_weight": 0.0}, "jsd_weight"),
        ({"kind": "jsd", "jsd_weight": 1.0}, "jsd_weight"),
        ({"kind": "jsd", "temperature": 0.0}, "temperature"),
        ({"kind": "jsd", "top_k": 0}, "top_k"),
        ({"kind": "jsd", "top_k_by": "both"}, "top_k_by"),
    ],
)
def test_an_option_out_of_its_range_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        token_divergence(*make_inputs(), **options)


def test_two_vocabularies_are_refused():
    hidden, weight, teacher_hidden, teacher_weight = make_inputs()
    with pytest.raises(ValueError, match="23 tokens and the teacher 22"):
        token_divergence(hidden, weight, teacher_hidden, teacher_weight[:-1], kind="forward_kl")


def test_shapes_that_do_not_fit_are_refused():
    hidden, weight, teacher_hidden, teacher_weight = make_inputs()
    for inputs in (
        (hidden[None], weight, teacher_hidden, teacher_weight),
        (hidden, weight.T, teacher_hidden, teacher_weight),
        (hidden, weight, teacher_hidden[:-1], teacher_weight),
        (hidden, weight, teacher_hidden, weight),
    ):
        with pytest.raises(ValueError, match="shapes"):
            token_divergence(*inputs, kind="forward_kl")


@pytest.mark.parametrize("which", [0, 2])
def test_two_dtypes_without_autocast_are_refused(which):
    inputs = make_inputs(torch.float32)
    inputs[which] = inputs[which].bfloat16()
    with pytest.raises(ValueError, match="dtype"):
        token_divergence(*inputs, kind="forward_kl")


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is measured on Linux only")
def test_the_benchmark_runs_and_finds_half_of_the_naive_peak():
    script = Path(__file__).parents[1] / "benchmarks" / "divergence.py"
    options = "--forms jsd --places 1024 --vocabulary 16384 --hidden 32 --repeats 1 --threads 1"
    command = [sys.executable, str(script), *options.split(), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = done.stdout.splitlines()[-1].split()
    assert row[0] == "jsd"
    naive_peak, our_peak = float(row[1]), float(row[2])
    # 1,024 x 16,384 logits are 64 MiB in float32: 9 such tensors against blocks of 32 MiB.
    assert naive_peak > 6 * 64
    assert our_peak < naive_peak / 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gpu_gives_what_the_cpu_gives(dtype, form):
    inputs = make_inputs(dtype)
    there = [tensor.detach().cuda().requires_grad_(tensor.requires_grad) for tensor in inputs]
    found, expected = token_divergence(*there, **form), token_divergence(*inputs, **form)
    tolerance = 1e-4 if dtype == torch.float32 else 6e-2
    torch.testing.assert_close(found.cpu(), expected, atol=tolerance, rtol=0)
    gradients = torch.autograd.grad(found.sum(), there[:2])
    wanted = torch.autograd.grad(expected.sum(), inputs[:2])
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient.cpu(), want, atol=10 * tolerance, rtol=0)
