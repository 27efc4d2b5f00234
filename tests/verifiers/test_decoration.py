import pytest

from rlsd_lightning.verifiers.decoration import undecorated


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (" 5 ", "5"),
        ("5.", "5"),
        ("$5$", "5"),
        ("$$5$$", "5"),
        (r"\(5\)", "5"),
        (r"\[ 5 \].", "5"),
        ("**5**", "5"),
        ('"yes"', "yes"),
        (r"$\text{B}$.", "B"),
        (r"\boxed{\textbf{5}}", "5"),
        (r"5\,", "5"),
        ("", ""),
        (".", ""),
        (r"\boxed{}", ""),
        ("1, 2, ...", "1, 2, ..."),
    ],
)
def test_what_surrounds_the_whole_goes(text, bare):
    assert undecorated(text) == bare


@pytest.mark.parametrize(
    "text",
    ["$5$ or $6$", r"\text{a} and \text{b}", r"\(a\) and \(b\)", "2**3**4", "$5", "(5)", "$"],
)
def test_what_surrounds_only_a_part_stays(text):
    assert undecorated(text) == text


def test_long_text_is_left_alone():
    text = "\\text{" * 1_000 + "a" + "}" * 1_000
    assert undecorated(text) == text
