r"""The one step that may stand in front of a benchmark's own rules: take the answer out of tags or a box.

No official parser knows <answer> tags. RLSD's prompt asks for them, so its responses must be taken out of them before the
official rules read them; what a number was measured with is part of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlsd_lightning.answers.extraction import extract_answer


def answer_tag_or_box(response: str) -> str:
    r"""Return what stands in the first <answer> tag, else in the last balanced \boxed{}, else everything; stripped.

    As `extract_answer` in RLSD's released reward code (arXiv:2604.03128) does.

    Example:
        >>> answer_tag_or_box(r"<answer> B </answer> or \boxed{C}")
        'B'
        >>> answer_tag_or_box(" the whole text ")
        'the whole text'
    """
    found = extract_answer(response, which="first")
    return response.strip() if found is None else found


def after_think(response: str) -> str:
    """Return what stands after the last </think>, stripped; everything where there is none.

    As Qwen3-VL's own evaluation (QwenLM/Qwen3-VL 96588727) reads its thinking models.

    Example:
        >>> after_think("<think>A or B?</think> B")
        'B'
    """
    return response.rpartition("</think>")[2].strip()


EXTRACTIONS: dict[str, Callable[[str], str]] = {
    "none": lambda response: response,
    "answer_tag_or_box": answer_tag_or_box,
    "after_think": after_think,
}


def check_extractions(owner: str, extract: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the extraction steps, the headline's first.

    Args:
        owner: the evaluator whose argument this is, for the message.
        extract: one name or several different ones.

    Raises:
        ValueError: a name that does not exist or comes twice, or none at all.
    """
    names = (extract,) if isinstance(extract, str) else tuple(extract)
    if not names or len(set(names)) < len(names) or not set(names) <= set(EXTRACTIONS):
        raise ValueError(
            f"{owner}: extract is {extract!r}, but it must be one of {', '.join(EXTRACTIONS)}, or a list of different ones "
            f"(the first gives the headline). Set one of them."
        )
    return names
