import pytest

from rlsd_lightning.verifiers.stemming import stem

STEMS = """
caresses caress
ponies poni
caress caress
cats cat
feed feed
agreed agre
plastered plaster
bled bled
motoring motor
sing sing
conflated conflat
troubled troubl
sized size
hopping hop
tanned tan
falling fall
hissing hiss
fizzed fizz
failing fail
filing file
happy happi
relational relat
conditional condit
rational ration
valency valenc
digitizer digit
radically radic
differently differ
vileness vile
analogously analog
vietnamization vietnam
operator oper
feudalism feudal
decisiveness decis
hopefulness hope
callousness callous
formality formal
sensitivity sensit
sensibility sensibl
triplicate triplic
formative form
formalize formal
electrical electr
goodness good
revival reviv
allowance allow
inference infer
airliner airlin
adjustable adjust
defensible defens
irritant irrit
replacement replac
adjustment adjust
dependent depend
adoption adopt
communism commun
activate activ
homologous homolog
effective effect
probate probat
rate rate
cease ceas
controlling control
roll roll
"""
"""Words and their stems, from the tables of Porter's paper; what its later steps make of each table's result included."""


@pytest.mark.parametrize(
    ("word", "expected"), [line.split() for line in STEMS.strip().splitlines()]
)
def test_the_papers_words(word, expected):
    assert stem(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # facts of NLTK 3.10, default mode, where it leaves the paper
        *(("dies", "die"), ("flies", "fli"), ("died", "die"), ("spied", "spi"), ("enjoy", "enjoy")),
        *(("skies", "sky"), ("dying", "die"), ("news", "news"), ("exceed", "exceed"), ("by", "by")),
        *(
            ("archaeology", "archaeolog"),
            ("geology", "geolog"),
            ("hopefully", "hope"),
            ("oed", "o"),
        ),
        *(
            ("opinion", "opinion"),
            ("aging", "age"),
            ("used", "use"),
            ("fly", "fli"),
            ("say", "say"),
            ("yyyyy", "yyyyy"),
            ("possibly", "possibl"),
        ),
    ],
)
def test_where_nltk_leaves_the_paper(word, expected):
    assert stem(word) == expected
