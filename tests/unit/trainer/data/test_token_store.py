"""The token store against plain lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_trainer.data.token_store import Origin, TokenStore, TokenWriter
from finetune_trainer.data.tokenize import IGNORED, TokenRow


@st.composite
def token_rows(draw: st.DrawFn) -> TokenRow:
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30))
    seen = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    return TokenRow(ids, [id_ if sees else IGNORED for id_, sees in zip(ids, seen, strict=True)])


@settings(deadline=None)  # the first use of Arrow takes a second
@given(st.lists(token_rows(), max_size=20))
def test_a_store_is_the_rows_it_was_given(rows: list[TokenRow]) -> None:
    store = TokenStore.of(rows)
    assert list(store) == rows
    assert store.lengths.tolist() == [len(row.input_ids) for row in rows]
    # The first token of a row has nothing before it.
    assert store.response_lengths.tolist() == [len(row.labels[1:]) - row.labels[1:].count(IGNORED) for row in rows]
    assert store.longest == max((len(row.input_ids) for row in rows), default=0)
    places = np.array([place for place in range(len(rows)) if place % 3 != 1][::-1], dtype=np.int64)
    chosen = store.select(places)
    assert list(chosen) == [rows[place] for place in places]
    assert chosen.lengths.tolist() == [len(rows[place].input_ids) for place in places]
    assert chosen.response_lengths.tolist() == store.response_lengths[places].tolist()


def test_a_file_of_many_batches_is_read_where_it_lies(tmp_path: Path) -> None:
    rows = [TokenRow([number, number + 1, 2], [IGNORED, number + 1, 2]) for number in range(5000)]
    with TokenWriter(tmp_path / "rows") as writer:
        for number, row in enumerate(rows):
            writer.write([row] * (1 + number % 2), Origin(number, number % 3, -1))
    store = TokenStore.open(tmp_path / "rows")
    (tmp_path / "rows").unlink()  # mapped: what is read stays readable
    assert len(store) == 7500
    assert store[-1] == rows[-1]
    assert store[3:6] == [rows[2], rows[3], rows[3]]
    assert store.sources[:5].tolist() == [0, 1, 1, 2, 3]
    assert store.provenances[:5].tolist() == [0, 1, 1, 2, 0]
    assert set(store.answers.tolist()) == {-1}
    assert store.response_lengths.sum() == 7500 * 2


def test_a_store_of_no_rows_has_no_longest_one(tmp_path: Path) -> None:
    with TokenWriter(tmp_path / "rows"):
        pass
    for store in (TokenStore.open(tmp_path / "rows"), TokenStore.of([])):
        assert (len(store), store.longest, store.lengths.tolist(), store.response_lengths.tolist()) == (0, 0, [], [])
