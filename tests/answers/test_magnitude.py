import pytest

from rlsd_lightning.answers.magnitude import MAX_BITS, bits_bound


@pytest.mark.parametrize(
    "latex",
    [
        *(
            "9^{9^{9}}",
            "9^9^9",
            "9**9**9",
            "10^{10^{100}}",
            "((9^{999})^{999})^{999}",
            r"\frac{10^{9999}}{3}^{9999}",
        ),
        *(
            "|10^{9999}|^{9999}",
            r"\left|10^{9999}\right|^{9999}",
            "10^{-10^{10}}",
            "9^{9!}",
            "x^{10^{9}}",
            "2+9^{9^9}",
        ),
        *("99999999!", "((9!)!)!", "1,000,000,000!", r"1\,000\,000\,000!", "(99999999)_{5}"),
        *(r"\binom{10^{9}}{5\cdot 10^{8}}", r"{99999999 \choose 5}", r"\dbinom{9999999}{3}"),
        *(r"\sum_{n=1}^{10^{9}} n", r"\prod_{n=1}^{99999999} n", "e^{e^{e^{e^{e}}}}"),
    ],
)
def test_numbers_beyond_measure_are_seen(latex):
    assert bits_bound(latex) > MAX_BITS


@pytest.mark.parametrize(
    "latex",
    [
        *(
            "",
            "5",
            "2^{2024}",
            "10^{9999}",
            "3^{1000}-2^{1000}",
            "100!",
            "3!!",
            r"\binom{52}{5}",
            r"\binom{1000}{500}",
        ),
        *(
            r"6.02\times10^{23}",
            r"\left(1+\frac{0.05}{12}\right)^{12\cdot 30}",
            "x^2+3x+1",
            "(x+1)^{10}",
            "e^{e^{x}}",
        ),
        *(
            r"e^{-\frac{(x-100)^2}{2\cdot 15^2}}",
            r"\sqrt[97]{2}",
            r"\int_0^1 x^2\,dx",
            r"\prod_{k=1}^{10} k",
            "1" * 500,
        ),
        *("^", "!", "^^", "{^}", "_", "\\", "((((", "))))", r"\frac", r"\binom", "\u00b2", r"\1"),
    ],
)
def test_everyday_mathematics_is_let_through(latex):
    assert bits_bound(latex) <= MAX_BITS


@pytest.mark.parametrize(
    ("latex", "bits"),
    [
        ("2^{100}", 100),
        ("3^{200}", 317),
        ("(10^{20})^{30}", 1994),
        ("100!", 525),
        (r"\binom{100}{50}", 97),
    ],
)
def test_the_bound_is_above_the_true_length(latex, bits):
    # 3^200 has 200 * log2(3) = 317 bits, 10^600 has 600 * log2(10) = 1994, log2(100!) = 525, log2(C(100, 50)) = 96.3
    assert bits <= bits_bound(latex) < 4 * bits + 200
