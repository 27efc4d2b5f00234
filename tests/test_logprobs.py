import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from rlsd_lightning import logit_blocks, logprobs
from rlsd_lightning.logprobs import token_logprobs, token_logprobs_and_entropy

N, V, H = 10, 23, 5


@pytest.fixture(params=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    """Run both with everything in one block and with ragged blocks of 4 rows by 3 columns."""
    if request.param == "many blocks":
        monkeypatch.setattr(logit_blocks, "BLOCK_ROWS", 4)
        monkeypatch.setattr(logit_blocks, "BLOCK_ELEMENTS", {"cpu": 12, "cuda": 12})
        monkeypatch.setattr(logit_blocks, "MIN_BLOCK_COLUMNS", 1)


in_blocks = pytest.mark.usefixtures("_blocks")


def make_inputs(dtype=torch.float64, num_tokens=N, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    hidden = scale * torch.randn(num_tokens, H, generator=generator, dtype=torch.float64)
    weight = torch.randn(V, H, generator=generator, dtype=torch.float64)
    token_ids = torch.randint(V, (num_tokens,), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), token_ids


def naive(hidden, weight, token_ids, temperature):
    wide = torch.promote_types(hidden.dtype, torch.float32)
    full = ((hidden @ weight.T).to(wide) / temperature).log_softmax(-1)
    return full.gather(1, token_ids[:, None]).squeeze(1), -(full.exp() * full).sum(1)


@in_blocks
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(
    ("dtype", "value_tolerance", "gradient_tolerance"),
    [(torch.float64, 1e-12, 1e-12), (torch.float32, 2e-6, 2e-6), (torch.bfloat16, 2e-6, 4e-2)],
)
def test_values_entropy_and_gradients_are_the_naive_ones(
    dtype, value_tolerance, gradient_tolerance, temperature
):
    hidden, weight, token_ids = make_inputs(dtype)
    expected, expected_entropy = naive(hidden, weight, token_ids, temperature)
    found, entropy = token_logprobs_and_entropy(hidden, weight, token_ids, temperature)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found, expected, atol=value_tolerance, rtol=0)
    torch.testing.assert_close(entropy, expected_entropy, atol=value_tolerance, rtol=0)
    incoming = torch.linspace(-1, 1, N, dtype=found.dtype)
    gradients = torch.autograd.grad(found, (hidden, weight), incoming)
    for gradient, wanted in zip(
        gradients, torch.autograd.grad(expected, (hidden, weight), incoming), strict=True
    ):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, wanted, atol=gradient_tolerance, rtol=0)


@in_blocks
def test_gradients_agree_with_finite_differences():
    hidden, weight, token_ids = make_inputs()
    assert torch.autograd.gradcheck(
        lambda h, w: token_logprobs(h, w, token_ids, 0.7), (hidden, weight)
    )


@in_blocks
def test_the_slow_obvious_reference():
    hidden, weight, token_ids = make_inputs()
    hidden, weight = hidden.detach(), weight.detach()
    found, entropy = token_logprobs_and_entropy(hidden, weight, token_ids, 1.5)
    for n in range(N):
        logits = [sum(hidden[n, i] * weight[v, i] for i in range(H)) / 1.5 for v in range(V)]
        total = sum(logit.exp() for logit in logits)
        probabilities = [logit.exp() / total for logit in logits]
        assert float(found[n]) == pytest.approx(float(probabilities[token_ids[n]].log()), abs=1e-12)
        surprise = -sum(p * p.log() for p in probabilities)
        assert float(entropy[n]) == pytest.approx(float(surprise), abs=1e-12)


@in_blocks
@pytest.mark.parametrize("which", [0, 1])
def test_a_frozen_input_gets_no_gradient_and_the_other_the_same(which):
    inputs = make_inputs()
    both = torch.autograd.grad(token_logprobs(*inputs).sum(), inputs[:2])
    frozen = [tensor if i == which else tensor.detach() for i, tensor in enumerate(inputs)]
    loss = token_logprobs(*frozen).sum()
    assert torch.equal(torch.autograd.grad(loss, inputs[which])[0], both[which])


def test_a_frozen_head_is_never_multiplied_into(monkeypatch):
    """Count the products of the backward pass: 1 for hidden alone, 2 with the head."""
    targets = []
    write = logprobs.write_product
    monkeypatch.setattr(
        logprobs,
        "write_product",
        lambda *args, **kw: (targets.append(args[0].shape), write(*args, **kw)),
    )
    hidden, weight, token_ids = make_inputs()
    token_logprobs(hidden, weight.detach(), token_ids).sum().backward()
    assert targets == [(N, H)]
    token_logprobs(hidden, weight, token_ids).sum().backward()
    assert targets == [(N, H), (N, H), (V, H)]


@in_blocks
def test_tokens_without_gradient_leave_no_trace():
    hidden, weight, token_ids = make_inputs()
    incoming = torch.arange(N, dtype=torch.float64) % 3  # every third is 0
    found = torch.autograd.grad(
        token_logprobs(hidden, weight, token_ids), (hidden, weight), incoming
    )
    with torch.no_grad():
        hidden[incoming == 0] = float("nan")
    poisoned = torch.autograd.grad(
        token_logprobs(hidden, weight, token_ids), (hidden, weight), incoming
    )
    torch.testing.assert_close(found, poisoned, atol=0, rtol=0)
    assert not found[0][incoming == 0].any()


@in_blocks
def test_no_gradient_at_all_gives_zeros():
    hidden, weight, token_ids = make_inputs()
    (token_logprobs(hidden, weight, token_ids) * 0).sum().backward()
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))
    assert torch.equal(weight.grad, torch.zeros_like(weight))


@in_blocks
def test_tied_embeddings_collect_both_gradients():
    _, weight, token_ids = make_inputs()
    wanted = torch.autograd.grad(naive(weight[token_ids], weight, token_ids, 1.0)[0].sum(), weight)
    found = torch.autograd.grad(token_logprobs(weight[token_ids], weight, token_ids).sum(), weight)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


@in_blocks
def test_logits_of_any_size_stay_exact():
    # A single block would overflow exp without the running maximum; -1e4 comes first, +1e4 last.
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.linspace(-1, 1, V)[:, None]
    found, entropy = token_logprobs_and_entropy(hidden, weight, torch.tensor([V - 1, V - 1]))
    torch.testing.assert_close(found, torch.tensor([0.0, -2e4]), atol=1e-2, rtol=0)
    torch.testing.assert_close(entropy, torch.zeros(2), atol=1e-6, rtol=0)
    found.sum().backward()
    assert hidden.grad.isfinite().all()


def test_entropy_carries_no_gradient():
    inputs = make_inputs()
    _, entropy = token_logprobs_and_entropy(*inputs)
    assert not entropy.requires_grad


def test_asking_for_entropy_changes_no_log_prob():
    inputs = make_inputs(torch.float32)
    assert torch.equal(token_logprobs(*inputs), token_logprobs_and_entropy(*inputs)[0])


def test_no_tokens_give_no_log_probs_and_zero_gradients():
    hidden, weight, token_ids = make_inputs(num_tokens=0)
    found, entropy = token_logprobs_and_entropy(hidden, weight, token_ids)
    assert found.shape == entropy.shape == (0,)
    found.sum().backward()
    assert hidden.grad.shape == (0, H)
    assert torch.equal(weight.grad, torch.zeros(V, H, dtype=torch.float64))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_it_works_inside_activation_checkpointing(use_reentrant):
    hidden, weight, token_ids = make_inputs()
    plain = torch.autograd.grad(token_logprobs(hidden, weight, token_ids).sum(), (hidden, weight))
    checkpoint(
        token_logprobs, hidden, weight, token_ids, use_reentrant=use_reentrant
    ).sum().backward()
    assert torch.equal(hidden.grad, plain[0])
    assert torch.equal(weight.grad, plain[1])


@in_blocks
@pytest.mark.parametrize("hidden_dtype", [torch.float32, torch.bfloat16])
def test_autocast_multiplies_in_its_dtype_and_gives_gradients_in_theirs(hidden_dtype):
    hidden, weight, token_ids = make_inputs(torch.float32)
    hidden = hidden.detach().to(hidden_dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = token_logprobs(hidden, weight, token_ids)
        expected, _ = naive(hidden.bfloat16(), weight.bfloat16(), token_ids, 1.0)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    gradients = torch.autograd.grad(found.sum(), (hidden, weight))
    assert [gradient.dtype for gradient in gradients] == [hidden_dtype, torch.float32]
    wanted = torch.autograd.grad(expected.sum(), (hidden, weight))
    torch.testing.assert_close(gradients, wanted, atol=4e-2, rtol=0)


def test_float64_is_kept_under_autocast():
    inputs = make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        found = token_logprobs(*inputs)
    assert torch.equal(found, token_logprobs(*inputs))


def test_the_whole_logits_never_exist(monkeypatch):
    """No tensor that the forward or backward pass makes is as large as [N, V], nor half of it."""
    num_tokens, num_words = 256, 4096
    monkeypatch.setattr(logit_blocks, "BLOCK_ELEMENTS", {"cpu": 2**14, "cuda": 2**14})
    monkeypatch.setattr(logit_blocks, "MIN_BLOCK_COLUMNS", 64)
    hidden = torch.randn(num_tokens, 8, requires_grad=True)
    weight = torch.randn(num_words, 8, requires_grad=True)
    sizes = LargestTensor()
    with sizes:
        token_logprobs(hidden, weight, torch.arange(num_tokens)).sum().backward()
    assert sizes.largest == weight.numel()  # its own gradient


class LargestTensor(TorchDispatchMode):
    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(*make_inputs(), temperature)


def test_a_token_outside_the_vocabulary_is_refused():
    hidden, weight, token_ids = make_inputs()
    for bad in (-1, V):
        token_ids[3] = bad
        with pytest.raises(ValueError, match="token_ids"):
            token_logprobs(hidden, weight, token_ids)


def test_shapes_that_do_not_fit_are_refused():
    hidden, weight, token_ids = make_inputs()
    for inputs in (
        (hidden[None], weight, token_ids),
        (hidden, weight.T, token_ids),
        (hidden, weight, token_ids[:-1]),
    ):
        with pytest.raises(ValueError, match="shapes"):
            token_logprobs(*inputs)


def test_two_dtypes_without_autocast_are_refused():
    hidden, weight, token_ids = make_inputs(torch.float32)
    with pytest.raises(ValueError, match="dtype"):
        token_logprobs(hidden.bfloat16(), weight, token_ids)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is measured on Linux only")
def test_the_benchmark_runs_and_finds_a_quarter_of_the_naive_peak():
    script = Path(__file__).parents[1] / "benchmarks" / "logprobs.py"
    command = [sys.executable, str(script), "--quick", "--threads", "1", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]
    assert cells[:2] == ["64", "float32"]
    naive_peak, our_peak = float(cells[2]), float(cells[3])
    # 1,024 x 32,768 logits are 128 MiB in float32; the naive way holds three such tensors in its backward pass.
    assert naive_peak == pytest.approx(3 * 128, rel=0.1)
    assert our_peak < naive_peak / 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gpu_gives_what_the_cpu_gives(dtype):
    hidden, weight, token_ids = make_inputs(dtype)
    there = [
        tensor.detach().cuda().requires_grad_(tensor.requires_grad) for tensor in (hidden, weight)
    ]
    found, entropy = token_logprobs_and_entropy(*there, token_ids.cuda(), 0.7)
    expected, expected_entropy = token_logprobs_and_entropy(hidden, weight, token_ids, 0.7)
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.cpu(), expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(entropy.cpu(), expected_entropy, atol=tolerance, rtol=0)
    gradients = torch.autograd.grad(found.sum(), there)
    wanted = torch.autograd.grad(expected.sum(), (hidden, weight))
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient.cpu(), want, atol=10 * tolerance, rtol=0)
