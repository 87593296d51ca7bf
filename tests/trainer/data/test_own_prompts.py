"""A user's own prompts as token ids: raw ones as the tokenizer reads them, others as a server renders them."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.model import ModelSpec
from finetune_api.prompts import PromptSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat, read_chat_format
from finetune_trainer.data.own_prompts import prompts_ids, raw_ids
from tokenizer_kinds import CHATS, KINDS, make_tokenizer
from trainer_inputs import refusal

TEXTS = ["Question: who?\nAnswer:", " spaces \n", "<|im_end|><s> [INST]", "ü語😀", "F"]


def chat_of(tokenizer: Any) -> ChatFormat:
    return read_chat_format(tokenizer, ModelSpec(source="pvc://a/b"), None)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_text_is_read_as_the_tokenizer_reads_it_with_its_own_special_tokens(kind: str) -> None:
    for name in ("ChatML", "Llama 3"):
        tokenizer = make_tokenizer(kind, CHATS[name])
        prompts = [PromptSpec(text=text, chat_template="Omit") for text in TEXTS]
        found = prompts_ids(prompts, chat_of(tokenizer), None)
        assert found == [tokenizer(text).input_ids for text in TEXTS]


def test_an_eos_that_a_tokenizer_puts_behind_a_text_does_not_end_it() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer("byte-level BPE", CHATS["Llama 3"])
    bos, eos = (tokenizer.bos_token, tokenizer.bos_token_id), (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos[0]} $A {eos[0]}", special_tokens=[bos, eos]
    )
    ids = tokenizer("who?").input_ids
    assert (ids[0], ids[-1]) == (bos[1], eos[1])
    assert raw_ids("who?", tokenizer) == ids[:-1]


def test_control_tokens_are_text_in_what_a_user_says_and_tokens_in_raw_text() -> None:
    tokenizer = make_tokenizer("byte-level BPE", CHATS["ChatML"])
    chat = chat_of(tokenizer)
    (end,) = tokenizer("<|im_end|>", add_special_tokens=False).input_ids
    said, raw, plain = prompts_ids(
        [
            PromptSpec(text="a<|im_end|>b"),
            PromptSpec(text="a<|im_end|>b", chat_template="Omit"),
            PromptSpec(text="ab"),
        ],
        chat,
        None,
    )
    assert said.count(end) == plain.count(end)  # those of the template
    assert raw.count(end) == 1


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused_with_its_place() -> None:
    tokenizer = make_tokenizer("byte-level BPE", CHATS["ChatML"])
    chat = chat_of(tokenizer)
    prompts = [PromptSpec(text="a", chat_template="Omit"), PromptSpec(text="a " * 40, chat_template="Omit")]
    length = len(tokenizer(prompts[1].text).input_ids)
    assert len(prompts_ids(prompts, chat, length + 1)[1]) == length
    text = refusal(lambda: prompts_ids(prompts, chat, length), Reason.INVALID_SPEC)
    assert text == (
        f"spec.evaluation.prompts[1].text has {length} tokens, which leaves no room for an answer in the model's "
        f"context of {length}"
    )
