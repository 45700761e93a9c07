"""Base64 for URLs: one text for each sequence of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.wire import base64url


@given(st.binary(max_size=40))
def test_bytes_survive(data):
    """Without padding."""
    text = base64url.encode(data)
    assert "=" not in text
    assert base64url.decode(text) == data


@given(st.text("AZaz09-_=+/ \n\u0661", max_size=8))
def test_a_text_decodes_only_if_it_is_what_encode_returns(text):
    """Foreign characters, padding and superfluous bits are refused."""
    try:
        data = base64url.decode(text)
    except ValueError:
        return
    assert base64url.encode(data) == text


@pytest.mark.parametrize("text", ["A", "AB", "AA==", "A+A", "A A", "AAA\n", "AAAAA"])
def test_other_texts_are_refused(text):
    """Each with a reason."""
    with pytest.raises(ValueError, match="no base64url: "):
        base64url.decode(text)
