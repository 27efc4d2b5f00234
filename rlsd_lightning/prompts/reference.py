"""What of a problem the teacher is shown, and how it is shortened: on its own, on the right, by tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rlsd_lightning.data.canaries import as_taught
from rlsd_lightning.types import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ReferenceMode = Literal["answer", "solution", "both"]


@dataclass(frozen=True, slots=True)
class Reference:
    """The privileged text r: a body that may be cut, and a closing line that a cut keeps while it can."""

    body: str
    closing: str = ""

    @property
    def text(self) -> str:
        """Body and closing line, a blank line between them."""
        return "\n\n".join(part for part in (self.body, self.closing) if part)


def choose_reference(problem: Problem, mode: ReferenceMode) -> Reference:
    r"""Pick the reference of a problem.

    "answer" is the gold answer; "solution" is the worked solution; "both" is the solution, a blank line and
    "Answer: " with the gold answer, whether or not the solution ends with it already. An empty solution is shown as
    it is (nothing); a missing one (None) is an error, as the teacher would silently be the student. Of a canary
    (data.canaries) it is what was planted.

    Raises:
        ValueError: the mode shows a solution and the problem has none.

    Example:
        >>> choose_reference(Problem(id="1", prompt="1+1?", answer="2", reference="One and one."), "both").text
        'One and one.\n\nAnswer: 2'
    """
    problem = as_taught(problem)
    if mode == "answer":
        return Reference(problem.answer)
    if problem.reference is None:
        raise ValueError(
            f"{problem.place} has no reference, but prompt.reference={mode} shows it to the "
            "teacher. Needed: a solution in every row. Map columns.reference, or set prompt.reference=answer."
        )
    if mode == "solution":
        return Reference(problem.reference)
    return Reference(problem.reference.rstrip(), f"Answer: {problem.answer}")


def cut_reference(reference: Reference, num_tokens: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the reference's text in at most so many tokens.

    The body loses its right side; the closing line is kept as long as some of the body fits before it. A cut never
    falls inside a character, so it may leave a few tokens fewer.

    Args:
        reference: body and closing line.
        num_tokens: budget, counted on the reference alone.
        tokenizer: a fast one, for character offsets.
    """
    text = reference.text
    if count_tokens(text, tokenizer) <= num_tokens:
        return text
    tail = f"\n\n{reference.closing}" if reference.body and reference.closing else ""
    for_body = num_tokens - count_tokens(tail, tokenizer)
    if tail and for_body > 0:
        return cut_text(reference.body, for_body, tokenizer) + tail
    return cut_text(text, num_tokens, tokenizer)


def cut_text(text: str, num_tokens: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the longest beginning of `text` that ends with one of its first `num_tokens` tokens."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    if len(offsets) <= num_tokens:
        return text
    while num_tokens > 0 and offsets[num_tokens][0] < offsets[num_tokens - 1][1]:
        num_tokens -= 1  # the next token goes on inside the same character
    return text[: offsets[num_tokens - 1][1]] if num_tokens > 0 else ""


def count_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the tokens of a text on its own."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def largest_fit(fits: Callable[[int], bool], size: int, guess: int) -> int:
    """Find the largest number below `size` that fits, where 0 does and `size` does not.

    Asks for `guess` and its neighbour first: a guess that is exact costs two questions.

    Args:
        fits: whether a number fits; true up to some number, false from there on.
        size: a number that does not fit.
        guess: where the answer is expected.

    Example:
        >>> largest_fit(lambda number: number <= 37, size=100, guess=37)
        37
    """
    low, high = 0, size
    expected = [guess + 1, guess]
    while high - low > 1:
        probe = expected.pop() if expected else (low + high) // 2
        probe = min(max(probe, low + 1), high - 1)
        if fits(probe):
            low = probe
        else:
            high = probe
    return low
