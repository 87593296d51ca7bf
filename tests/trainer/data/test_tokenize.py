"""From examples to token ids and labels: what is dropped, what is refused, what is shown."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.data.tokenize import IGNORED, TokenRow, check_labels, keep_fitting, sample_text, tokenise
from finetune_trainer.stage.failure import StageError
from tokenizer_kinds import CHATS, make_tokenizer, read_format


def example(question: str, response: str = "Here.", options: tuple[str, ...] = ()) -> Example:
    choices = Choices(tuple(Choice(letter, text, text) for letter, text in zip("ABCD", options, strict=False)), 0)
    return Example((Message("user", question), Message("assistant", response)), choices if options else None)


SHORT, LONG = example("Where?"), example("Where? " * 200)


@pytest.fixture
def chat(read_chat: Any) -> ChatFormat:
    return read_chat("ChatML")  # type: ignore[no-any-return]


def test_loss_on_all_leaves_no_token_out(chat: ChatFormat) -> None:
    (row,) = tokenise([SHORT], chat, 192, "All").rows
    assert row.labels == row.input_ids
    (response,) = tokenise([SHORT], chat, 192, "Responses").rows
    assert response.input_ids == row.input_ids


def test_an_example_without_a_prompt_is_text_that_the_loss_sees_whole(read_chat: Any) -> None:
    chat = read_chat("Llama 2")
    text = Example((Message("assistant", "Otters live by the river."),))
    first, second = tokenise([text, SHORT], chat, 192, "Responses").rows
    assert first.input_ids == first.labels == chat.text_ids(text.response)
    assert second.labels[0] == IGNORED


def test_rows_that_are_too_long_are_dropped_and_counted(chat: ChatFormat) -> None:
    tokens = tokenise([SHORT, LONG, SHORT, LONG], chat, 192, "Responses")
    assert (len(tokens.rows), tokens.dropped) == (2, 2)
    assert tokens.longest <= 192


def test_a_run_that_would_drop_most_of_its_rows_is_refused(chat: ChatFormat) -> None:
    with pytest.raises(StageError, match="3 of 5 training rows are longer than 192 tokens") as caught:
        tokenise([LONG, SHORT, LONG, SHORT, LONG], chat, 192, "Responses")
    assert caught.value.reason is Reason.DATASET_INVALID
    assert "at most 50% may be dropped" in str(caught.value)
    assert "raise maxSequenceLength" in caught.value.advice


def test_held_out_rows_that_exceed_the_context_with_any_option_are_dropped_and_counted(chat: ChatFormat) -> None:
    wide = example("Where?", "a", ("a", "b " * 200))
    examples = [example("Where?", "a", ("a", "b")), wide, SHORT, LONG]
    assert keep_fitting(examples, chat, 192) == ([examples[0], SHORT], 2)
    assert keep_fitting(examples, chat, None) == (examples, 0)
    with pytest.raises(StageError, match="2 of 3 held-out rows are longer than the model's context of 192 tokens"):
        keep_fitting([wide, LONG, SHORT], chat, 192)


def test_a_row_of_exactly_the_limit_is_kept(chat: ChatFormat) -> None:
    length = tokenise([SHORT], chat, 192, "Responses").longest
    assert tokenise([SHORT], chat, length, "Responses").dropped == 0
    assert keep_fitting([SHORT], chat, length) == ([SHORT], 0)
    assert keep_fitting([SHORT, SHORT], chat, length)[1] == 0
    with pytest.raises(StageError):
        keep_fitting([SHORT], chat, length - 1)


def test_labels_at_the_wrong_place_are_found_before_training(chat: ChatFormat) -> None:
    (prompt,), (response,) = chat.prompt_ids([SHORT.prompt]), chat.response_ids(["Here."])
    ids = prompt + response
    check_labels([TokenRow(ids, [IGNORED] * len(prompt) + response)], [response], chat)
    for shift in (-1, 1, len(response)):
        start = len(prompt) + shift
        wrong = TokenRow(ids, [IGNORED] * start + ids[start:])
        with pytest.raises(StageError, match="the loss would see") as caught:
            check_labels([wrong], [response], chat)
        assert caught.value.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize("kind", ["NFC-normalising", "NFKC-normalising", "Unigram"])
def test_accents_in_two_characters_are_trained_by_a_tokenizer_that_makes_them_one(read_chat: Any, kind: str) -> None:
    chat = read_chat("Qwen2.5", kind)
    text = "Cafe\u0301 and \u212b"
    assert unicodedata.normalize("NFC", text) != text
    tokens = tokenise([example(text, text)] * 20, chat, 192, "Responses")
    assert len(tokens.rows) == 20


def test_the_sample_marks_what_the_loss_sees(chat: ChatFormat) -> None:
    tokens = tokenise([example("Where is \x1b[31mit?", "Here.")], chat, 192, "Responses")
    assert tokens.sample == (
        "<|im_start|>user\nWhere is \\x1b[31mit?<|im_end|>\n<|im_start|>assistant\n⟦Here.<|im_end|>⟧"
    )
    (row,) = tokenise([example("Where? " * 2000)], chat, 100_000, "Responses").rows
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
    assert len(tokenise([example("Where is <image>?")], chat, 192, "Responses").rows) == 1  # text, in a row


def test_a_word_of_a_row_beyond_the_embedding_is_refused(chat: ChatFormat) -> None:
    from dataclasses import replace

    small = replace(chat, embedding_rows=300)  # the tokenizer of another model
    with pytest.raises(StageError, match="but the model's embedding has 300 rows"):
        tokenise([SHORT], small, 192, "Responses")
