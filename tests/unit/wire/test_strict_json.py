"""Strict JSON: what every reader reads alike, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.wire import strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(VALUES)
def test_it_reads_what_python_writes(value):
    """As text and as bytes, escaped or not."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert strict_json.loads(text, limit=100_000) == value
        assert strict_json.loads(text.encode(), limit=100_000) == value


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": 1, "\\u0061": 1}', "'a' is there twice"),
        ('[{"b": {"a": 1, "c": 2, "a": 1}}]', "'a' is there twice"),
        ('{"\x7f": 1, "\x7f": 2}', r"'\\\\x7f' is there twice"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "too large"),
        ("9" * 4001, "too many digits"),
        ("", "no JSON"),
        ("{} {}", "no JSON"),
        ("{'a': 1}", "no JSON"),
        ("\ufeff{}", "no JSON"),
        (b"\xff\xfe{\x00}\x00", "no UTF-8: invalid start byte at position 0"),
        ('"\\ud800"', "half of a character"),
        ('{"\\udc00x": 1}', "half of a character"),
        ('"\ud800"', "no UTF-8"),
        ("[" * 201 + "]" * 201, "nested more than 200 deep"),
        ("[" * 100_000, "nested more than 200 deep"),
        ('{"a":' * 201 + "1" + "}" * 201, "nested more than 200 deep"),
        ("1" + " " * 1_000_000, "longer than 1,000,000 bytes"),
        ('"' + "ä" * 600_000 + '"', "longer than 1,000,000 bytes"),
    ],
)
def test_what_readers_may_read_differently_is_refused(data, complaint):
    """With a text that says what it is."""
    with pytest.raises(ValueError, match=complaint) as refused:
        strict_json.loads(data, limit=1_000_000)
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize(
    ("data", "deepest", "is_read"),
    [("1", 0, True), ("[]", 0, False), ("[{}]", 2, True), ("[[{}], [1]]", 2, False), ('["[[["]', 1, True)],
)
def test_depth_counts_arrays_and_objects(data, deepest, is_read):
    """Brackets in texts do not count."""
    if is_read:
        assert strict_json.loads(data, limit=100, deepest=deepest) == json.loads(data)
    else:
        with pytest.raises(ValueError, match=f"nested more than {deepest} deep"):
            strict_json.loads(data, limit=100, deepest=deepest)


def test_a_pair_of_surrogates_is_a_character():
    """Only half of one is refused."""
    assert strict_json.loads('"\\ud83d\\ude00"', limit=100) == "\U0001f600"
