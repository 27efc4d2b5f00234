import pytest

from rlsd_lightning.verifiers.rouge import rouge_1, rouge_2, rouge_l, rouge_words


def test_words_are_stemmed_runs_of_ascii_letters_and_digits():
    text = "Isn't the x-ray's CONNECTION 42 \u00e9t\u00e9 running?"
    assert " ".join(rouge_words(text)) == "isn t the x ray s connect 42 t run"


@pytest.mark.parametrize(
    ("got", "wanted", "scores"),
    [
        # facts of the package rouge-score 0.1.2 with stemming
        ("running isn't the running Connections cat", "x-ray cat cats the", (1 / 3, 0.0, 1 / 6)),
        ("the the cat", "the cat", (4 / 5, 2 / 3, 4 / 5)),
        ("cat", "cat", (1.0, 0.0, 1.0)),
        ("", "cat", (0.0, 0.0, 0.0)),
        ("dog", "cat", (0.0, 0.0, 0.0)),
    ],
)
def test_scores(got, wanted, scores):
    words = rouge_words(got), rouge_words(wanted)
    found = tuple(rouge(*words) for rouge in (rouge_1, rouge_2, rouge_l))
    assert found == pytest.approx(scores, abs=1e-9)
