"""From examples to token ids and labels: what is dropped, what is refused, what is shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.data.tokenize import (
    IGNORED,
    LossOn,
    Tokenised,
    TokenRow,
    check_embedding,
    check_labels,
    sample_text,
    tokenise,
)
from finetune_trainer.stage.failure import StageError
from tokenizer_kinds import CHATS, make_tokenizer, read_format


def example(question: str, response: str = "Here.", options: tuple[str, ...] = ()) -> Example:
    choices = Choices(tuple(Choice(letter, text, text) for letter, text in zip("ABCD", options, strict=False)), 0)
    return Example((Message("user", question), Message("assistant", response)), choices if options else None)


def rows_of(
    examples: Sequence[Example], chat: ChatFormat, limit: int = 192, loss_on: LossOn = "Responses"
) -> list[TokenRow]:
    return [row for found in tokenise(examples, chat, limit, loss_on) for row in found.rows]


SHORT, LONG = example("Where?"), example("Where? " * 200)


@pytest.fixture
def chat(read_chat: Any) -> ChatFormat:
    return read_chat("ChatML")  # type: ignore[no-any-return]


def test_loss_on_all_leaves_no_token_out(chat: ChatFormat) -> None:
    (row,) = rows_of([SHORT], chat, 192, "All")
    assert row.labels == row.input_ids
    (response,) = rows_of([SHORT], chat)
    assert response.input_ids == row.input_ids


def test_a_users_turn_that_may_not_be_trained_on_leaves_the_loss_on_all_the_responses_only(chat: ChatFormat) -> None:
    hidden = replace(SHORT, messages=(replace(SHORT.messages[0], train=False), SHORT.messages[1]))
    assert rows_of([hidden], chat, 192, "All") == rows_of([SHORT], chat)


def test_a_document_is_text_that_the_loss_sees_whole(read_chat: Any) -> None:
    chat = read_chat("Llama 2")
    text = Example(text="Otters live by the river.")
    first, second = rows_of([text, SHORT], chat)
    assert first.input_ids == first.labels == chat.text_ids(text.response)
    assert second.labels[0] == IGNORED


def test_rows_that_are_too_long_have_no_row_and_say_why(chat: ChatFormat) -> None:
    found = tokenise([SHORT, LONG, SHORT, LONG], chat, 192, "Responses")
    assert [one.problem for one in found] == [None, "TooLong", None, "TooLong"]
    assert [len(one.rows) for one in found] == [1, 0, 1, 0]


def test_a_row_of_exactly_the_limit_is_kept(chat: ChatFormat) -> None:
    (row,) = rows_of([SHORT], chat)
    length = len(row.input_ids)
    assert rows_of([SHORT], chat, length) == [row]
    assert rows_of([SHORT], chat, length - 1) == []


def test_labels_at_the_wrong_place_are_found_before_training(chat: ChatFormat) -> None:
    (prompt,), (response,) = chat.prompt_ids([SHORT.prompt]), chat.response_ids(["Here."])
    ids = prompt + response
    check_labels([SHORT], tokenise([SHORT], chat, 192, "Responses"), chat, "Responses")
    for shift in (-1, 1, len(response)):
        start = len(prompt) + shift
        wrong = Tokenised((TokenRow(ids, [IGNORED] * start + ids[start:]),))
        with pytest.raises(StageError, match="the loss would see") as caught:
            check_labels([SHORT], [wrong], chat, "Responses")
        assert caught.value.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize("kind", ["NFC-normalising", "NFKC-normalising", "Unigram"])
def test_accents_in_two_characters_are_trained_by_a_tokenizer_that_makes_them_one(read_chat: Any, kind: str) -> None:
    chat = read_chat("Qwen2.5", kind)
    text = "Cafe\u0301 and \u212b"
    assert unicodedata.normalize("NFC", text) != text
    assert len(rows_of([example(text, text)] * 20, chat)) == 20


def test_the_sample_marks_what_the_loss_sees(chat: ChatFormat) -> None:
    (row,) = rows_of([example("Where is \x1b[31mit?", "Here.")], chat)
    assert sample_text(row, chat) == (
        "<|im_start|>user\nWhere is \\x1b[31mit?<|im_end|>\n<|im_start|>assistant\n⟦Here.<|im_end|>⟧"
    )
    (row,) = rows_of([example("Where? " * 2000)], chat, 100_000)
    text = sample_text(row, chat)
    assert len(text) < 4100
    assert text.startswith("<|im_start|>user\nWhere?")
    assert text.endswith("⟦Here.<|im_end|>⟧")


def test_a_control_token_of_the_template_beyond_the_embedding_is_refused_with_both_sizes() -> None:
    tokenizer = make_tokenizer("byte-level BPE", CHATS["ChatML"])
    end, count = tokenizer.convert_tokens_to_ids("<|im_start|>"), len(tokenizer)
    read_format(tokenizer, rows=count)
    for rows in (end, end - 5):
        with pytest.raises(StageError) as caught:
            read_format(make_tokenizer("byte-level BPE", CHATS["ChatML"]), rows=rows)
        assert caught.value.reason is Reason.INVALID_SPEC
        assert f"has id {end} in the tokenizer, but the model's embedding has {rows} rows" in str(caught.value)
        assert f"(the tokenizer has {count} tokens)" in str(caught.value)


def test_a_pad_token_beyond_the_embedding_is_refused() -> None:
    tokenizer = make_tokenizer("byte-level BPE", CHATS["ChatML"])
    tokenizer.add_special_tokens({"pad_token": "<|late_pad|>"})
    with pytest.raises(StageError, match=r"spec\.model\.source: token '<\|late_pad\|>' has id"):
        read_format(tokenizer, rows=tokenizer.pad_token_id)


def test_tokens_beyond_the_embedding_that_nothing_uses_are_no_fault() -> None:
    tokenizer = make_tokenizer("byte-level BPE", CHATS["ChatML"])
    rows = len(tokenizer)
    tokenizer.add_tokens(["<image>"])
    chat = read_format(tokenizer, rows=rows)
    assert len(rows_of([example("Where is <image>?")], chat)) == 1  # text, in a row


def test_a_word_of_a_row_beyond_the_embedding_is_refused(chat: ChatFormat) -> None:
    small = replace(chat, embedding_rows=300)  # the tokenizer of another model
    with pytest.raises(StageError, match="but the model's embedding has 300 rows"):
        check_embedding(rows_of([SHORT], small), small)
