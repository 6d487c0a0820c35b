"""Patterns against brute force over masks."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.errors import UserError
from hwmodel.footprint import matrix_bytes
from hwmodel.pattern import DENSE, FanIn, Pattern, Unstructured

small = st.integers(1, 5).flatmap(lambda m: st.builds(Pattern, st.integers(1, m), st.just(m)))


def obeys(mask: tuple[int, ...], pattern: Pattern) -> bool:
    return all(sum(mask[i : i + pattern.m]) <= pattern.n for i in range(0, len(mask), pattern.m))


def group_choices(pattern: Pattern) -> list[tuple[int, ...]]:
    return [g for g in itertools.product((0, 1), repeat=pattern.m) if sum(g) == pattern.n]


@given(small, small)
def test_contains_agrees_with_every_mask_of_a_common_length(outer: Pattern, inner: Pattern) -> None:
    length = math.lcm(outer.m, inner.m)
    groups = length // inner.m
    if math.comb(inner.m, inner.n) ** groups > 3000:
        return
    masks = (sum(choice, ()) for choice in itertools.product(group_choices(inner), repeat=groups))
    assert outer.contains(inner) == all(obeys(mask, outer) for mask in masks)


@pytest.mark.parametrize(
    ("outer", "inner", "contained"),
    [("2:4", "1:8", True), ("2:4", "4:8", False), ("4:8", "2:4", True), ("2:4", "2:4", True), ("1:4", "2:8", False)],
)
def test_two_of_four_contains_one_of_eight_not_four_of_eight(outer: str, inner: str, contained: bool) -> None:
    assert Pattern.parse(outer).contains(Pattern.parse(inner)) is contained


@given(small)
def test_text_round_trips(pattern: Pattern) -> None:
    assert Pattern.parse(str(pattern)) == pattern
    assert Pattern.parse("dense") is DENSE


@pytest.mark.parametrize(
    ("text", "index_bits", "code_bits"),
    # papers: C(4,2) = 6, C(8,4) = 70, C(16,8) = 12870, C(32,8) = 10,518,300
    [("2:4", 2, 3), ("4:8", 3, 7), ("1:16", 4, 4), ("8:16", 4, 14), ("8:32", 5, 24), ("1:1", 0, 0), ("1:5", 3, 3)],
)
def test_bits_of_positions_and_of_codes(text: str, index_bits: int, code_bits: int) -> None:
    pattern = Pattern.parse(text)
    assert (pattern.index_bits, pattern.code_bits) == (index_bits, code_bits)


@pytest.mark.parametrize(
    ("text", "masks", "code_bits", "index_bits", "share"),
    [  # masks of a group, ceil(log2) of them, bits of all positions, and bytes over those of dense half precision
        ("2:4", 6, 3, 4, 0.5625),
        ("4:8", 70, 7, 12, 0.59375),
        ("1:4", 4, 2, 2, 0.28125),
        ("2:8", 28, 5, 6, 0.296875),
        ("1:8", 8, 3, 3, 0.1484375),
        ("1:16", 16, 4, 4, 0.078125),
        ("1:32", 32, 5, 5, 0.041015625),
        ("1:128", 128, 7, 7, 0.01123046875),
        ("16:32", 601_080_390, 30, 80, 0.65625),
    ],
)
def test_a_group_in_numbers(text: str, masks: int, code_bits: int, index_bits: int, share: float) -> None:
    pattern = Pattern.parse(text)
    assert math.comb(pattern.m, pattern.n) == masks
    assert pattern.code_bits == code_bits
    assert pattern.n * pattern.index_bits == index_bits
    assert matrix_bytes(8, pattern.m, pattern, 16, "index") / (8 * pattern.m * 2) == share


@pytest.mark.parametrize("text", ["4:2", "0:4", "2/4", "", "2:4:8", "-1:4"])
def test_a_wrong_pattern_is_one_line_with_the_value(text: str) -> None:
    with pytest.raises(UserError, match="pattern") as error:
        Pattern.parse(text)
    assert "\n" not in str(error.value)
    assert text in str(error.value)


@pytest.mark.parametrize("kind", [FanIn, Unstructured])
@pytest.mark.parametrize("density", [0.0, 1.5, -1.0, math.nan])
def test_a_density_outside_its_range_is_refused(kind: type, density: float) -> None:
    with pytest.raises(UserError, match="density"):
        kind(density)
