"""A user's own prompts as token ids: rendered as a server renders them, or raw."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_api.prompts import PromptSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Message
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.protocols import Tokenizer


def prompts_ids(prompts: Sequence[PromptSpec], chat: ChatFormat, context: int | None) -> list[list[int]]:
    """Token ids of each prompt. ``context`` is the model's, in tokens; None where it names none.

    Raises StageError (InvalidSpec) with the prompt's place for one that leaves no room for an answer, that has no token
    at all, or that can't be read as text.
    """
    found = [_ids(prompt, place, chat) for place, prompt in enumerate(prompts)]
    for place, ids in enumerate(found):
        if not ids:
            raise StageError(Reason.INVALID_SPEC, f"{field_of(place)}.text has no token", "write some text into it")
        if context is not None and len(ids) >= context:
            raise StageError(
                Reason.INVALID_SPEC,
                f"{field_of(place)}.text has {len(ids)} tokens, which leaves no room for an answer in the model's "
                f"context of {context}",
                "shorten it, or take a model with a longer context",
            )
        chat.check_embedding(max(ids), f"a token of {field_of(place)}.text")
    return found


def field_of(place: int) -> str:
    """Where a prompt stands in the spec."""
    return f"spec.evaluation.prompts[{place}]"


def _ids(prompt: PromptSpec, place: int, chat: ChatFormat) -> list[int]:
    if prompt.chat_template == "Omit":
        return raw_ids(prompt.text, chat.tokenizer)
    try:
        (ids,) = chat.prompt_ids([[Message("user", prompt.text)]])
    except StageError as error:
        raise StageError(Reason.INVALID_SPEC, f"{field_of(place)}.text: {error}", error.advice) from error
    return ids


def raw_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids as ``tokenizer(text)`` gives them, without what it would put behind the text.

    An EOS there, which some tokenizers add, would end the text before a model goes on with it. Special tokens that the
    text spells out are read as such: who writes raw text may write a template by hand.
    """
    (ids,) = tokenizer([text]).input_ids
    (bare,) = tokenizer([text], add_special_tokens=False).input_ids
    for start in range(len(ids) - len(bare) + 1):
        if ids[start : start + len(bare)] == bare:
            return ids[: start + len(bare)]
    return ids
