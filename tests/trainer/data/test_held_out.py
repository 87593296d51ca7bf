"""Which held-out rows are scored: those that fit the model's context with all that is scored of them."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.data.held_out import keep_fitting, scored_turns
from finetune_trainer.data.tokenize import pair_ids
from trainer_inputs import refusal


def example(question: str, response: str = "Here.", options: tuple[str, ...] = ()) -> Example:
    choices = Choices(tuple(Choice(letter, text, text) for letter, text in zip("ABCD", options, strict=False)), 0)
    return Example((Message("user", question), Message("assistant", response)), choices if options else None)


def talk(*trained: bool, last: str = "Here.") -> Example:
    """A conversation with an assistant's turn for each, its text the longer the later."""
    messages = []
    for place, train in enumerate(trained):
        said = last if place == len(trained) - 1 else "Here."
        messages += [Message("user", "Where?"), Message("assistant", said, train)]
    return Example(tuple(messages))


SHORT, LONG = example("Where?"), example("Where? " * 200)


@pytest.fixture
def chat(read_chat: Any) -> ChatFormat:
    return read_chat("ChatML")  # type: ignore[no-any-return]


def test_rows_that_exceed_the_context_with_any_option_are_dropped_and_counted(chat: ChatFormat) -> None:
    wide = example("Where?", "a", ("a", "b " * 200))
    examples = [example("Where?", "a", ("a", "b")), wide, SHORT, LONG]
    assert keep_fitting(examples, chat, 192) == ([examples[0], SHORT], 2)
    assert keep_fitting(examples, chat, None) == (examples, 0)
    said = refusal(lambda: keep_fitting([wide, LONG, SHORT], chat, 192), Reason.DATASET_INVALID)
    assert said.startswith("2 of 3 held-out rows are longer than the model's context of 192 tokens")


def test_a_row_of_exactly_the_context_is_kept(chat: ChatFormat) -> None:
    ((prompt, response),) = pair_ids([SHORT], chat)
    length = len(prompt) + len(response)
    assert keep_fitting([SHORT], chat, length) == ([SHORT], 0)
    refusal(lambda: keep_fitting([SHORT], chat, length - 1), Reason.DATASET_INVALID)


def test_a_conversation_is_scored_at_each_turn_that_the_loss_sees(chat: ChatFormat) -> None:
    row = talk(True, False, True)
    assert [len(turn.messages) for turn in scored_turns(row, "Responses")] == [2, 6]
    assert [len(turn.messages) for turn in scored_turns(row, "All")] == [2, 6]
    assert [len(turn.messages) for turn in scored_turns(row, "LastResponse")] == [6]
    assert scored_turns(talk(True, False), "LastResponse") == []


def test_a_turn_that_is_not_scored_may_be_as_long_as_it_likes_where_nothing_comes_after_it(chat: ChatFormat) -> None:
    row = talk(True, False, last="far away " * 200)
    assert keep_fitting([row], chat, 192) == ([row], 0)
    refusal(lambda: keep_fitting([talk(True, True, last="far away " * 200)], chat, 192), Reason.DATASET_INVALID)


def test_a_conversation_of_which_the_loss_sees_no_response_is_left_out_and_counted(chat: ChatFormat) -> None:
    for limit in (None, 2048):
        assert keep_fitting([talk(True, False), SHORT], chat, limit, "LastResponse") == ([SHORT], 1)
    said = refusal(lambda: keep_fitting([talk(False)], chat, None), Reason.DATASET_INVALID)
    assert said.startswith("none of 1 held-out rows has a response")


def test_a_document_always_fits(chat: ChatFormat) -> None:
    document = Example(text="Otters live by the river. " * 100)
    assert keep_fitting([document, SHORT], chat, 64) == ([document, SHORT], 0)


def test_a_turn_whose_thoughts_later_prompts_leave_out_must_fit_by_itself(read_chat: Any) -> None:
    chat = read_chat("Qwen3")
    thoughts = f"<think>\n{'perhaps ' * 200}\n</think>\n\nHere."
    row = Example((*talk(True).messages[:1], Message("assistant", thoughts), *SHORT.messages))
    first, second = (len(prompt) + len(response) for prompt, response in pair_ids(scored_turns(row, "Responses"), chat))
    assert second < 192 < first
    assert keep_fitting([row, SHORT], chat, 192) == ([SHORT], 1)
