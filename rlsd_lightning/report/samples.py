"""Chooses the completions that the page shows, a few dozen of many thousands.

Problems at which the evidence moved the most credit come first, right and wrong completions side by side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlsd_lightning.report.images import Picture, load_picture
from rlsd_lightning.report.tokens import Row, Scales, Token, measure, token

PROBLEMS_PER_STEP = 3
COMPLETIONS_PER_PROBLEM = 4
HEAD_TOKENS, TAIL_TOKENS = 300, 500
"""What is shown of a completion that is longer than both together."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One completion on the page."""

    row: Row
    times: int
    """How many completions of the group say exactly this."""
    tokens: list[Token | None]
    """None stands where the middle is left out; empty if no tokens were recorded."""
    left_out: int
    numbers: str
    """A list each of policy and teacher log-probs, gains, weights, credits; JSON for the page's script."""
    note: str = ""
    """What else the page says in the completion's first line."""


@dataclass(frozen=True, slots=True)
class Card:
    """One problem on the page."""

    row: Row
    """Any row of the group: question, answer and reference are the same in all."""
    verdicts: list[str]
    """"right", "wrong" or "unjudged" for each completion of the group."""
    pictures: list[Picture]
    shown: list[Shown]


@dataclass(frozen=True, slots=True)
class StepSamples:
    """What the page shows of one step."""

    step: int
    rows: list[Row]
    cards: list[Card]


def choose(
    recorded: Sequence[tuple[int, list[Row]]], rollouts_dir: Path
) -> tuple[list[StepSamples], Scales]:
    """Choose problems and completions of each recorded step.

    Args:
        recorded: (step, its rows).
        rollouts_dir: what the rows' relative image paths start from.
    """
    picked = [(step, rows, _pick_problems(rows)) for step, rows in recorded]
    groups = [[distinct(group) for group in groups] for _, _, groups in picked]
    scales = measure([row for step in groups for group in step for row, _ in group])
    samples = [
        StepSamples(step, rows, [_card(group, scales, rollouts_dir) for group in chosen])
        for step, rows, chosen in picked
    ]
    return samples, scales


def verdict(row: Row) -> str:
    """Say a row's verdict in one word.

    Example:
        >>> verdict({"valid": True, "correct": False}), verdict({"valid": False, "correct": False})
        ('wrong', 'unjudged')
    """
    if not row["valid"]:
        return "unjudged"
    return "right" if row["correct"] else "wrong"


def influence(row: Row) -> float:
    """How much credit the evidence moved within a completion: the sum over tokens of |A_t - A|.

    Example:
        >>> influence({"advantage": 1.0, "credit": [1.5, 0.75, None]})
        0.75
    """
    return sum(
        abs(value - row["advantage"]) for value in row.get("credit") or () if value is not None
    )


def distinct(group: Sequence[Row]) -> list[tuple[Row, int]]:
    """Choose completions of one problem: right and wrong in turn, the most influenced first, each text once.

    Returns:
        (row, how many rows of the group have its text), the right ones first.
    """
    by_text: dict[str, list[Row]] = {}
    for row in group:
        by_text.setdefault(row["response"], []).append(row)
    unique = sorted(
        ((rows[0], len(rows)) for rows in by_text.values()), key=lambda pair: -influence(pair[0])
    )
    kinds = [
        [pair for pair in unique if verdict(pair[0]) == kind]
        for kind in ("right", "wrong", "unjudged")
    ]
    in_turn = [kind[i] for i in range(len(unique)) for kind in kinds if i < len(kind)]
    chosen = in_turn[:COMPLETIONS_PER_PROBLEM]
    return [pair for kind in kinds for pair in kind if pair in chosen]


def _pick_problems(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["problem_id"], []).append(row)
    return sorted(groups.values(), key=_worth, reverse=True)[:PROBLEMS_PER_STEP]


def _worth(group: Sequence[Row]) -> tuple[bool, float]:
    """Groups with right and wrong completions first, then those whose credit was moved most per completion."""
    mixed = len({verdict(row) for row in group} & {"right", "wrong"}) == 2
    return mixed, sum(map(influence, group)) / len(group)


def _card(group: Sequence[Row], scales: Scales, rollouts_dir: Path) -> Card:
    row = group[0]
    return Card(
        row=row,
        verdicts=sorted(map(verdict, group), key=("right", "wrong", "unjudged").index),
        pictures=[load_picture(rollouts_dir, name) for name in row["images"]],
        shown=[prepare(one, times, scales) for one, times in distinct(group)],
    )


def prepare(row: Row, times: int, scales: Scales, note: str = "") -> Shown:
    """Make a completion ready for the template; of a long one the middle is left out.

    Args:
        row: with or without its tokens.
        times: how many completions of the group say exactly this.
        scales: of the page's colours.
        note: what else its first line says.
    """
    if not row.get("tokens"):
        return Shown(row, times, [], 0, "", note)
    count = len(row["tokens"])
    left_out = max(0, count - HEAD_TOKENS - TAIL_TOKENS)
    places = (
        range(count) if not left_out else [*range(HEAD_TOKENS), *range(count - TAIL_TOKENS, count)]
    )
    tokens: list[Token | None] = [token(row, index, scales) for index in places]
    if left_out:
        tokens.insert(HEAD_TOKENS, None)
    columns = [
        [_brief(row[name][index]) for index in places]
        for name in ("policy_logprobs", "teacher_logprobs", "gain", "weight", "credit")
    ]
    return Shown(row, times, tokens, left_out, json.dumps(columns, separators=(",", ":")), note)


def _brief(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
