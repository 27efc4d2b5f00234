"""What attacks were paid by a verifier, beside what it pays for the gold answers, and how that is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rlsd_lightning.attacks.attack import Attack
from rlsd_lightning.types import Problem, Verdict
from rlsd_lightning.verification import gold_response

Judge = Callable[[Sequence[Problem], Sequence[str]], list[Verdict]]
"""One verdict per response, in order."""
_HEADINGS = ("attack", "what it tries", "kind", "tried on", "mean reward", "in full, %", "paid on")
_KINDS = ("nothing", "several", "stuffed", "rule", "guess")
_SHOWN_CHARS = 100
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One attack on one problem."""

    problem: Problem
    response: str
    verdict: Verdict
    in_full: bool
    """Judged correct, or paid as much as the gold answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a verifier paid."""

    gold: tuple[Verdict, ...]
    """On the gold answers."""
    trials: dict[Attack, tuple[Trial, ...]]
    """By attack; those that suit none of the problems are left out."""

    def numbers(self) -> dict[str, float]:
        """Return the shares and means by name."""
        found = {"audit/gold_in_full": _share([verdict.correct for verdict in self.gold])}
        for attack, trials in self.trials.items():
            name = attack.name.replace(" ", "_")
            found[f"audit/{name}/reward_mean"] = _mean_reward(trials)
            found[f"audit/{name}/in_full"] = _share([trial.in_full for trial in trials])
        return found

    def paid_wrongly(self) -> dict[Attack, Trial]:
        """Return the attacks that were paid in full and should not be, each with one example.

        A guess may be right by chance. Of several answers one may count: only if each of them counts is that a fault.
        """
        found = {}
        for attack, trials in self.trials.items():
            suspect = [trial for trial in trials if trial.in_full]
            if attack.kind == "rule":
                suspect = [t for t in suspect if all(other.in_full for other in self._rules_on(t))]
            if suspect and attack.kind != "guess":
                found[attack] = suspect[0]
        return found

    def _rules_on(self, trial: Trial) -> Iterator[Trial]:
        """Yield what asks on the same problem which of several answers counts."""
        for attack, trials in self.trials.items():
            if attack.kind == "rule":
                yield from (other for other in trials if other.problem is trial.problem)

    def as_text(self) -> str:
        """Return the table and what it comes to, for a terminal."""
        rows = sorted(self.trials.items(), key=_order)
        lines = [_HEADINGS, *(_cells(attack, trials) for attack, trials in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join([*table, "", self._about_gold(), *self._about_wrongly_paid()])

    def _about_gold(self) -> str:
        num_right = sum(verdict.correct for verdict in self.gold)
        line = f"Gold answers judged correct: {num_right} of {len(self.gold)}."
        refused = next((verdict for verdict in self.gold if not verdict.correct), None)
        return line if refused is None else f"{line} The first that is not: {refused.reason}"

    def _about_wrongly_paid(self) -> Iterator[str]:
        wrongly = self.paid_wrongly()
        if not wrongly:
            yield f"None of the {len(self.trials)} attacks was paid in full where it should not be."
            return
        count = "1 attack was" if len(wrongly) == 1 else f"{len(wrongly)} attacks were"
        yield f"{count} paid in full and should not be (guesses aside, which chance pays):"
        for attack, trial in wrongly.items():
            yield f"  {attack.name}: {trial.problem.place}, {_short(trial.response)}"
            yield f"    {trial.verdict.reason or 'the verifier gave no reason'}"


def try_attacks(attacks: Sequence[Attack], problems: Sequence[Problem], judge: Judge) -> Findings:
    """Return what a verifier pays for attacks on problems, and for their gold answers.

    Args:
        attacks: which to try.
        problems: what to try them on.
        judge: the verifier, and where it judges.
    """
    made = [
        (attack, index, response)
        for attack in attacks
        for index, problem in enumerate(problems)
        if (response := attack.respond(problem)) is not None
    ]
    gold = judge(problems, [gold_response(problem) for problem in problems])
    verdicts = judge([problems[index] for _, index, _ in made], [response for *_, response in made])
    trials: dict[Attack, list[Trial]] = {}
    for (attack, index, response), verdict in zip(made, verdicts, strict=True):
        enough = gold[index].reward if gold[index].correct else 1.0
        in_full = verdict.valid and (verdict.correct or verdict.reward >= enough - _EPSILON)
        trial = Trial(problem=problems[index], response=response, verdict=verdict, in_full=in_full)
        trials.setdefault(attack, []).append(trial)
    return Findings(
        gold=tuple(gold), trials={attack: tuple(found) for attack, found in trials.items()}
    )


def _order(row: tuple[Attack, tuple[Trial, ...]]) -> tuple[float, ...]:
    """Place attacks by kind, the best paid first."""
    attack, trials = row
    return _KINDS.index(attack.kind), -_share([t.in_full for t in trials]), -_mean_reward(trials)


def _cells(attack: Attack, trials: Sequence[Trial]) -> tuple[str, ...]:
    best = max(trials, key=lambda trial: (trial.in_full, _reward(trial)))
    judged = sum(trial.verdict.valid for trial in trials)
    return (
        attack.name,
        attack.tries,
        attack.kind,
        f"{judged}" if judged == len(trials) else f"{judged} of {len(trials)}",
        f"{_mean_reward(trials):.3f}",
        f"{100 * _share([trial.in_full for trial in trials]):.1f}",
        best.problem.id if best.in_full or round(_reward(best), 3) > 0 else "",
    )


def _reward(trial: Trial) -> float:
    return trial.verdict.reward if trial.verdict.valid else 0.0


def _mean_reward(trials: Sequence[Trial]) -> float:
    """Return the mean over those that were judged; 0 if none was."""
    judged = [trial.verdict.reward for trial in trials if trial.verdict.valid]
    return sum(judged) / len(judged) if judged else 0.0


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _short(response: str) -> str:
    rest = f" and {len(response) - _SHOWN_CHARS} more" if len(response) > _SHOWN_CHARS else ""
    return ascii(response[:_SHOWN_CHARS]) + rest
