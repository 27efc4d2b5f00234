"""How verifiers word a verdict: right or wrong, or not judged."""

from __future__ import annotations

from rlsd_lightning.types import Verdict


def right_or_wrong(correct: bool, got: str | None, wanted: str) -> Verdict:
    """Reward 1 for a right answer and 0 for a wrong one.

    Args:
        correct: whether the answer is right.
        got: the answer that was found in the response; None where none was found.
        wanted: what it was compared with.

    Example:
        >>> right_or_wrong(False, "4", "5").reason
        "wrong: got '4', wanted '5'"
        >>> right_or_wrong(False, None, "5").reason
        "no answer found, wanted '5'"
    """
    if got is None:
        reason = f"no answer found, wanted {quoted(wanted)}"
    else:
        reason = f"{'right' if correct else 'wrong'}: got {quoted(got)}, wanted {quoted(wanted)}"
    return Verdict(reward=float(correct), correct=correct, reason=reason)


def not_judged(reason: str) -> Verdict:
    """Say that nothing can be said: the reward of such a verdict counts nowhere.

    Example:
        >>> not_judged("the gold answer is empty").valid
        False
    """
    return Verdict(reward=0.0, correct=False, valid=False, reason=f"not judged: {reason}")


def quoted(text: str, limit: int = 80) -> str:
    """Return text as one quoted ASCII line of bounded length.

    Args:
        text: anything, model text included.
        limit: how many characters of it to show.

    Example:
        >>> quoted("a" * 10, limit=4)
        "'aaaa' and 6 more"
    """
    rest = f" and {len(text) - limit} more" if len(text) > limit else ""
    return ascii(text[:limit]) + rest
