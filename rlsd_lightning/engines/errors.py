"""What goes wrong in a rollout engine, in one kind of error."""

from __future__ import annotations


class EngineError(RuntimeError):
    """A rollout engine could not do what it was asked for: the message says what, and what to do about it.

    Args:
        message: what happened, what was needed, what to do.
        problem_id: of the problem whose prompt it was, where it was one.
    """

    def __init__(self, message: str, problem_id: str | None = None) -> None:
        super().__init__(message)
        self.problem_id = problem_id
