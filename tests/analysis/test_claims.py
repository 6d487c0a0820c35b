"""The exact claims: every one comes out, and a wrong digit would be told."""

from __future__ import annotations

import pytest
from nmsim_analysis import claims
from nmsim_analysis.claims import Check, ExactClaim

EXACT = claims.exact_claims()


@pytest.mark.parametrize("claim", EXACT, ids=[claim.number for claim in EXACT])
def test_an_exact_claim_is_reproduced_to_the_digit(claim):
    assert [check for check in claim.checks if not check.agrees] == []
    assert len(claim.checks) >= 2


def test_all_sixteen_are_answered_in_order():
    assert [claim.number for claim in EXACT] == [f"a{i}" for i in range(1, 17)]


@pytest.mark.parametrize(
    ("published", "value", "agrees"),
    [
        ("13.90", 13.9016, True),
        ("13.20", 13.2079, False),
        ("2,774,532,096", 2_774_532_096, True),
        ("2,774,532,096", 2_774_532_097, False),
        ("4.8801e-06", 4.88012e-6, True),
        ("4.8801e-06", 4.88021e-6, False),
    ],
)
def test_a_check_compares_to_the_published_digit(published, value, agrees):
    assert claims.digits("", published, value).agrees is agrees


def test_a_wrong_check_is_named_in_the_verdict():
    claim = ExactClaim("a0", "", (Check("right", "1", "1"), Check("the total", "2", "3")))
    assert claim.verdict == "differs: the total"
