"""English words without their endings, so that "connected" and "connections" count as one word.

M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the changes that NLTK makes by default, as the
ROUGE of RLSD's released code stems with it: short words in -ies and -ied keep their e, -y becomes -i only behind a
consonant, -alli goes before -bli, three more endings, and a few words of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

_AS_THEY_ARE = (
    "sky",
    "news",
    "inning",
    "outing",
    "canning",
    "howe",
    "proceed",
    "exceed",
    "succeed",
)
_IRREGULAR = dict(zip(_AS_THEY_ARE, _AS_THEY_ARE, strict=True)) | {
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "innings": "inning",
    "outings": "outing",
    "cannings": "canning",
}
_STEP_2 = (
    "ational:ate tional:tion enci:ence anci:ance izer:ize bli:ble alli:al entli:ent eli:e ousli:ous ization:ize "
    "ation:ate ator:ate alism:al iveness:ive fulness:ful ousness:ous aliti:al iviti:ive biliti:ble fulli:ful"
)
_STEP_3 = "icate:ic ative: alize:al iciti:ic ical:ic ful: ness:"
_STEP_4 = (
    "al: ance: ence: er: ic: able: ible: ant: ement: ment: ent: ou: ism: ate: iti: ous: ive: ize:"
)


@functools.lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return a word's stem, which need not be a word itself.

    Args:
        word: in lower case.

    Example:
        >>> [stem(word) for word in ("connected", "connections", "happy", "hopping", "relational", "sky", "died")]
        ['connect', 'connect', 'happi', 'hop', 'relat', 'sky', 'die']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _y_to_i, _step_2, _step_3, _step_4, _final_e, _double_l):
        word = step(word)
    return word


def _shape(word: str) -> str:
    """Return c for each consonant and v for each vowel; y is a vowel behind a consonant."""
    shape = ""
    for letter in word:
        is_vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if is_vowel else "c"
    return shape


def _measure(word: str) -> int:
    """Return Porter's m: how often a run of vowels is followed by a consonant."""
    return _shape(word).count("vc")


def _ends_short(word: str) -> bool:
    """Whether a word ends like "hop": consonant, vowel, consonant other than w, x, y; or is like "up"."""
    shape = _shape(word)
    return shape == "vc" or (shape.endswith("cvc") and word[-1] not in "wxy")


def _ends_double(word: str) -> bool:
    return len(word) >= 2 and word[-1] == word[-2] and _shape(word).endswith("c")


def _replaced(word: str, rules: Iterable[str], allows: Callable[[str], bool]) -> str:
    """Return a word after the first rule whose ending it has, if what stands before the ending allows it.

    Args:
        word: to be changed.
        rules: each an ending and what takes its place, with a colon between.
        allows: asked of the part before the ending.
    """
    for rule in rules:
        ending, _, instead = rule.partition(":")
        if word.endswith(ending):
            rest = word[: -len(ending)]
            return rest + instead if allows(rest) else word
    return word


def _plural(word: str) -> str:
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    return _replaced(word, ("sses:ss", "ies:i", "ss:ss", "s:"), lambda rest: True)


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        rest = word.removesuffix(ending)
        if rest != word and "v" in _shape(rest):
            return _mended(rest)
    return word


def _mended(rest: str) -> str:
    """Return what -ed or -ing was taken from as it may have been before: hopp to hop, fil to file."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _ends_double(rest):
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _ends_short(rest) else rest


def _y_to_i(word: str) -> str:
    is_behind_consonant = len(word) > 2 and _shape(word[:-1]).endswith("c")
    return word[:-1] + "i" if word.endswith("y") and is_behind_consonant else word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, _STEP_2.split(), lambda rest: _measure(rest) > 0)


def _step_3(word: str) -> str:
    return _replaced(word, _STEP_3.split(), lambda rest: _measure(rest) > 0)


def _step_4(word: str) -> str:
    if word.endswith("ion"):
        return word[:-3] if word[:-3].endswith(("s", "t")) and _measure(word[:-3]) > 1 else word
    return _replaced(word, _STEP_4.split(), lambda rest: _measure(rest) > 1)


def _final_e(word: str) -> str:
    rest = word.removesuffix("e")
    if rest == word:
        return word
    measure = _measure(rest)
    return rest if measure > 1 or (measure == 1 and not _ends_short(rest)) else word


def _double_l(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
