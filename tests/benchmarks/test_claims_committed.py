"""The committed page of the claims says what the committed results say."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.claims import page
from benchmarks.claims.arms import read_arms

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "claims" / "results.csv"

pytestmark = pytest.mark.skipif(
    not RESULTS.exists(), reason="no results are committed: make claims writes them"
)


def test_the_committed_page_is_what_its_committed_results_say():
    arms = read_arms(RESULTS)
    about = json.loads((DOCS / "claims" / "about.json").read_text(encoding="utf-8"))
    assert (DOCS / "claims.md").read_text(encoding="utf-8") == page.build_page(arms, about)


def test_every_picture_of_the_committed_page_is_there_and_no_other():
    text = (DOCS / "claims.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\(claims/(\w+\.svg)\)", text))
    assert shown
    assert shown == {path.name for path in (DOCS / "claims").glob("*.svg")}


def test_no_committed_result_names_a_place_on_a_machine():
    text = (DOCS / "claims" / "about.json").read_text(encoding="utf-8")
    assert not re.search(r'"/|[A-Z]:\\\\', text)
