"""Texts are measured in columns of a terminal: wide characters take two, combining ones none."""

from __future__ import annotations

import pytest

from distlock_core.base.columns import columns_of, cut_to, padded


@pytest.mark.parametrize(
    ("text", "width"),
    [
        *(("", 0), ("node-1", 6), ("升级", 4), ("\uff44\uff42", 4), ("é", 1), ("e\u0301x", 2), ("🔒 x", 4), ("ﾊﾟ", 2)),
        *(("กิ่", 1), ("कु", 1), ("1\ufe0f\u20e3", 1), ("\u1112\u1161\u11ab", 2), ("한글", 4), ("🇩🇪", 2), ("∑ü", 2)),
    ],
)
def test_the_columns_of_a_text(text: str, width: int) -> None:
    assert columns_of(text) == width
    assert columns_of(padded(text, 9)) == 9
    assert padded(text, 0) == text


@pytest.mark.parametrize("width", range(9))
def test_a_text_is_cut_where_it_is_too_wide(width: int) -> None:
    for text in ("node-123", "升级升级", "a升b级c", "e\u0301e\u0301e\u0301e\u0301"):
        cut = cut_to(text, width)
        assert columns_of(cut) <= width
        assert cut == text if columns_of(text) <= width else cut.endswith("..."[:width])
