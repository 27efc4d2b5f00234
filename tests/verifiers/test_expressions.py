import pytest

from rlsd_lightning.verifiers.expressions import Expression, read_expression


@pytest.mark.parametrize(
    ("answer", "latex"),
    [
        # the whole answer
        ("x+y", "x+y"),
        ("$x+y$.", "x+y"),
        (r"\[ x+y \]", "x+y"),
        ("10 cm", "10 cm"),
        ("sin 30", "sin 30"),
        ("ab3", "ab3"),
        ("5 or 6", "5 or 6"),
        ("either 5 or 6", "either 5 or 6"),
        ("I don't know", "I don't know"),
        ("1,000.99$", "1,000.99"),
        (r"\$5", "5"),
        # boxes
        (r"is $\boxed{5}$ miles", "5"),
        (r"\boxed{3}, but that forgets a case; so \boxed{5}", "5"),
        (r"\boxed{3}, \boxed{5}", "3,5"),
        (r"$$\boxed{3} \quad \text{and} \quad \boxed{5}$$", "3,5"),
        (r"\boxed{1} papers and \boxed{2} bins", "1,2"),
        (r"\boxed{3} or maybe \boxed{5}", "3,5"),
        # formulas in a sentence
        (r"Therefore $x \geq 5$ is the solution.", r"x \geq 5"),
        ("The line $x=1$ meets $E$", "x=1"),
        ("It is $E$", "E"),
        ("$5$ or $6$", "5,6"),
        ("$5$ and maybe $6$", "5,6"),
        ("first $5$. Then $6$.", "6"),
        # numbers in a sentence
        ("The largest $n$ is 34.", "34"),
        ("so there are 12 of them", "12"),
        ("the probability is 2/3", "2/3"),
        ("it costs 1,000.99 euros", "1,000.99"),
        ("Answer: 34", "34"),
        # nothing
        ("", ""),
        ("$$", ""),
        (r"\boxed{}", ""),
        ("...", ""),
    ],
)
def test_what_an_answer_comes_down_to(answer, latex):
    assert read_expression(answer).latex == latex


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "28%",
            "28 %",
            "28 percent",
            "28 pct",
            r"$28\%$",
            r"$28$\%",
            r"$28$ percent",
            r"$\boxed{28}$ pct",
        ),
        *(r"$\boxed{28 percent}", "It rose by 28%.", r"The answer is $28\%$. Good."),
    ],
)
def test_percent_is_read_wherever_it_stands(answer):
    assert read_expression(answer) == Expression("28", percent=True)


def test_an_upright_e_is_e():
    assert read_expression(r"1-\frac{1}{\mathrm{e}}").latex == r"1-\frac{1}{e}"


def test_of_a_question_what_follows_it_counts():
    assert read_expression(r"\frac{1}{2}? No, it is 7.").latex == "7"
    assert read_expression("What is 2+3? 5").latex == "5"
    assert read_expression("x=5?").latex == "x=5?"
    assert read_expression(r"\boxed{5} or is it 7? No").latex == "5"
