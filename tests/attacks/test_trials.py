"""What the audit counts, and how it tells it; a verifier with known holes shows every one of them."""

from rlsd_lightning.attacks import ATTACKS, Attack
from rlsd_lightning.attacks.trials import try_attacks
from rlsd_lightning.types import Problem, Verdict

PROBLEMS = [Problem(id=f"q{n}", prompt="?", answer=str(n), location=f"t.jsonl:{n}") for n in (3, 4)]


def attack(name, response, kind="nothing"):
    return Attack(name=name, tries=f"tries {name}", kind=kind, respond=response)


def judge(problems, responses):
    """Pays what contains the answer; half for a 'half', nothing valid for 'odd'."""
    return [
        Verdict(0.5, False)
        if "half" in response
        else Verdict(
            float(problem.answer in response),
            problem.answer in response,
            valid="odd" not in response,
            reason=f"looked for {problem.answer}",
        )
        for problem, response in zip(problems, responses, strict=True)
    ]


def test_shares_and_means_are_over_what_was_judged():
    attacks = [
        attack("three", lambda problem: "3"),
        attack("half", lambda problem: "half"),
        attack("odd", lambda problem: "3 odd" if problem.answer == "3" else "3"),
        attack("never", lambda problem: None),
    ]
    findings = try_attacks(attacks, PROBLEMS, judge)
    assert findings.numbers() == {
        "audit/gold_in_full": 1.0,
        "audit/three/reward_mean": 0.5,
        "audit/three/in_full": 0.5,
        "audit/half/reward_mean": 0.5,
        "audit/half/in_full": 0.0,
        "audit/odd/reward_mean": 0.0,
        "audit/odd/in_full": 0.0,
    }
    table = findings.as_text().splitlines()
    assert table[1].split() == ["three", "tries", "three", "nothing", "2", "0.500", "50.0", "q3"]
    assert table[2].split() == ["half", "tries", "half", "nothing", "2", "0.500", "0.0", "q3"]
    assert table[3].split() == ["odd", "tries", "odd", "nothing", "1", "of", "2", "0.000", "0.0"]
    assert table[5] == "Gold answers judged correct: 2 of 2."
    assert table[6].startswith("1 attack was paid in full and should not be")
    assert table[7] == "  three: problem 'q3' (t.jsonl:3), '3'"
    assert table[8] == "    looked for 3"


def test_a_guess_may_be_right_and_one_of_two_rules_may_hold():
    first = attack("first", lambda problem: f"{problem.answer}", "rule")
    last = attack("last", lambda problem: "x", "rule")
    guess = attack("guess", lambda problem: "3", "guess")
    findings = try_attacks([first, last, guess], PROBLEMS, judge)
    assert findings.paid_wrongly() == {}
    assert findings.as_text().endswith(
        "None of the 3 attacks was paid in full where it should not be."
    )
    both = attack("last", lambda problem: f"{problem.answer}!", "rule")
    assert list(try_attacks([first, both], PROBLEMS, judge).paid_wrongly()) == [first, both]


def test_full_pay_is_what_the_gold_answer_gets():
    def pay_little(problems, responses):
        return [
            Verdict(0.25, problem.answer in r)
            for problem, r in zip(problems, responses, strict=True)
        ]

    attacks = [attack("empty", lambda problem: "")]
    assert list(try_attacks(attacks, PROBLEMS, pay_little).paid_wrongly()) == attacks


def test_gold_answers_that_are_refused_are_told():
    def refuse(problems, responses):
        return [Verdict(0.0, False, reason="no")] * len(problems)

    text = try_attacks([attack("empty", lambda problem: "")], PROBLEMS, refuse).as_text()
    assert "Gold answers judged correct: 0 of 2. The first that is not: no" in text


def test_a_verifier_that_looks_for_the_answer_anywhere_is_found_out():
    wrongly = {found.name for found in try_attacks(ATTACKS, PROBLEMS, judge).paid_wrongly()}
    assert {
        "all numbers",
        "many boxes",
        "many answers",
        "one of three",
        "right or wrong",
        "only in the thought",
        "only behind the answer",
        "negated",
        "in long text",
        "right then wrong",
        "wrong then right",
    } <= wrongly
    assert not wrongly & {"empty", "always 1", "placeholder"}
