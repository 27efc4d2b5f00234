"""ROUGE: how many words, pairs of words, or words in their order two texts share.

C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, with words as the package rouge-score has them,
which RLSD's released code uses: runs of ASCII letters and digits in lower case, stemmed if longer than three letters. So a
text in another script has no words. Each is an F1: the harmonic mean of the shares in either text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rlsd_lightning.answers.edits import common_length
from rlsd_lightning.verifiers.stemming import stem

_WORD = re.compile(r"[a-z0-9]+")


def rouge_words(text: str) -> list[str]:
    """Return the words of a text as ROUGE counts them.

    Example:
        >>> rouge_words("The cats' toys, connected.")
        ['the', 'cat', 'toy', 'connect']
    """
    return [stem(word) if len(word) > 3 else word for word in _WORD.findall(text.lower())]


def rouge_1(got: Sequence[str], wanted: Sequence[str]) -> float:
    """Return ROUGE-1, the F1 of words.

    Args:
        got: the answer's words.
        wanted: the gold answer's words.

    Example:
        >>> rouge_1("the red cat".split(), "a red cat".split())
        0.6666666666666666
    """
    return _shared_runs(got, wanted, 1)


def rouge_2(got: Sequence[str], wanted: Sequence[str]) -> float:
    """Return ROUGE-2, the F1 of pairs of neighbouring words.

    Args:
        got: the answer's words.
        wanted: the gold answer's words.

    Example:
        >>> rouge_2("the red cat".split(), "a red cat".split())
        0.5
    """
    return _shared_runs(got, wanted, 2)


def rouge_l(got: Sequence[str], wanted: Sequence[str]) -> float:
    """Return ROUGE-L, the F1 of the longest run of words, gaps allowed, that stands in both.

    Args:
        got: the answer's words.
        wanted: the gold answer's words.

    Example:
        >>> rouge_l("cat red the".split(), "the red fat cat".split())
        0.2857142857142857
    """
    return _f1(common_length(got, wanted), len(got), len(wanted))


def _shared_runs(got: Sequence[str], wanted: Sequence[str], length: int) -> float:
    runs = [
        Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))
        for words in (got, wanted)
    ]
    return _f1((runs[0] & runs[1]).total(), runs[0].total(), runs[1].total())


def _f1(shared: int, of_got: int, of_wanted: int) -> float:
    return 2 * shared / (of_got + of_wanted) if shared else 0.0
