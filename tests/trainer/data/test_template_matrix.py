"""Chat templates of well-known models on tokenizers of every kind: prompts are what a server sends."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.chat_template import TEMPLATE_DATE
from finetune_trainer.data.example import Example, Message
from finetune_trainer.data.tokenize import IGNORED, tokenise
from tokenizer_kinds import CHATS, KINDS

RESPONSE = "The correct answer is café by the river bank."
QUESTIONS = (
    "Where does an old otter live?\n\nOptions:\nA. old barn\nB. river bank\n\nPlease choose the correct answer.",
    "  Which cafe\u0301, 1,5 \u2126 or \ufb01ve?\n\n\nuser\nsystem 東京 🦦 \t ",
    "user",
    "a",
)
# What the generation prompt ends in, and what stands between it and a response in a whole conversation.
ENDS = {
    "Llama 3": ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "", "<|eot_id|>"),
    "Llama 2": (" [/INST]", " ", " </s>"),
    "Mistral v0.3": ("[/INST]", " ", "</s>"),
    "Qwen2.5": ("<|im_end|>\n<|im_start|>assistant\n", "", "<|im_end|>"),
    "Qwen3": ("<|im_end|>\n<|im_start|>assistant\n", "<think>\n\n</think>\n\n", "<|im_end|>"),
    "Qwen3 without thinking": ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "", "<|im_end|>"),
    "DeepSeek-R1-Distill": ("<｜Assistant｜><think>\n", "", "<｜end▁of▁sentence｜>"),
    "Gemma": ("<end_of_turn>\n<start_of_turn>model\n", "", "<end_of_turn>"),
    "Phi": ("<|end|>\n<|assistant|>\n", "", "<|end|>"),
    "gpt-oss": ("<|end|><|start|>assistant", "<|channel|>final<|message|>", "<|return|>"),
    "Vicuna": (" ASSISTANT:", " ", "</s>"),
    "ChatML": ("<|im_end|>\n<|im_start|>assistant\n", "", "<|im_end|>"),
    "Zephyr": ("</s>\n<|assistant|>\n", "", "</s>"),
}


def served(chat: ChatFormat, conversation: list[dict[str, str]], variables: dict[str, Any]) -> Any:
    """What a server makes of a conversation: transformers' own rendering and tokenisation."""
    return chat.tokenizer.apply_chat_template(
        conversation,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
        date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
        strftime_now=TEMPLATE_DATE.strftime,
        **variables,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("how", [{}, {"adds_bos": False, "pad_is_eos": True}, {"strips": True}], ids=str)
def test_prompt_ids_are_the_servers_with_exactly_one_bos(read_chat: Any, name: str, kind: str, how: Any) -> None:
    chat = read_chat(name, kind, **how)
    bos = chat.tokenizer.bos_token_id
    variables = {"enable_thinking": False} if name == "Qwen3 without thinking" else {}
    for question in QUESTIONS:
        (ids,) = chat.prompt_ids([[Message("user", question)]])
        server = served(chat, [{"role": "user", "content": question}], variables)
        if bos is not None and bos not in server and how.get("adds_bos", True):
            server = [bos, *server]
        assert ids == server
        assert bos is None or ids.count(bos) == (1 if bos in server else 0)


@pytest.mark.parametrize("name", [name for name in CHATS if name != "Gemma"])  # which has no system role
def test_a_system_message_is_served_alike(read_chat: Any, name: str) -> None:
    chat = read_chat(name)
    messages = [
        Message("system", "Be brief."),
        Message("user", "Where?"),
        Message("assistant", "Here."),
        Message("user", "Who?"),
    ]
    variables = {"enable_thinking": False} if name == "Qwen3 without thinking" else {}
    server = served(chat, [{"role": one.role, "content": one.content} for one in messages], variables)
    (ids,) = chat.prompt_ids([messages])
    assert ids[-len(server) :] == server
    assert len(ids) - len(server) in ((1,) if chat.adds_bos and server[0] != chat.tokenizer.bos_token_id else (0,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHATS)
def test_prompt_and_response_are_the_tokenizers_ids_of_the_whole_text(read_chat: Any, name: str, kind: str) -> None:
    chat = read_chat(name, kind)
    prompt = [Message("user", QUESTIONS[0])]
    (ids,), (response,) = chat.prompt_ids([prompt]), chat.response_ids([RESPONSE])
    whole = chat.prompt_text(prompt) + chat.lead + RESPONSE + chat.terminator
    (expected,) = chat.tokenizer([whole], add_special_tokens=False).input_ids
    assert (ids + response)[-len(expected) :] == expected


@pytest.mark.parametrize("name", CHATS)
def test_what_is_trained_is_the_rendering_of_the_whole_conversation_or_the_difference_is_noted(
    read_chat: Any, name: str
) -> None:
    chat = read_chat(name)
    end, lead, terminator = ENDS[name]
    prompt = [Message("user", QUESTIONS[0])]
    text = chat.prompt_text(prompt)
    assert text.endswith(end)
    assert (chat.lead, chat.terminator) == (lead, terminator)
    whole = chat.template.render([*prompt, Message("assistant", RESPONSE)], generate=False)
    assert whole.startswith(text + lead + RESPONSE + terminator) == (name != "DeepSeek-R1-Distill")
    if name == "DeepSeek-R1-Distill":
        assert "a served prompt ends in '<｜Assistant｜><think>\\n'" in chat.note
        assert "a whole conversation has '<｜Assistant｜>' there and begins alike" in chat.note
    assert (repr(lead) in chat.note) == bool(lead)
    assert ("prints no <s>" in chat.note) == (name in ("Vicuna", "Zephyr"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHATS)
def test_the_loss_sees_the_response_with_its_end_and_nothing_else(read_chat: Any, name: str, kind: str) -> None:
    chat = read_chat(name, kind, pad_is_eos=True)
    example = Example((Message("user", QUESTIONS[1]), Message("assistant", RESPONSE)))
    (found,) = tokenise([example], chat, 4096, "Responses")
    (row,) = found.rows
    (prompt,), (response,) = chat.prompt_ids([example.prompt]), chat.response_ids([RESPONSE])
    assert row.input_ids == prompt + response
    assert row.labels == [IGNORED] * len(prompt) + response
    assert tuple(response[-len(chat.terminator_ids) :]) == chat.terminator_ids
    assert response[-1] in chat.stop_ids
    assert chat.tokenizer.eos_token_id in chat.stop_ids
    # The tokenizer's own ids of the bare response stand in the labels, whatever comes before and after.
    bare = chat.tokenizer([RESPONSE], add_special_tokens=False).input_ids[0]
    words = bare[2:]  # the first may hold a space that the template writes, or that the tokenizer puts in front
    assert any(response[start : start + len(words)] == words for start in range(len(response)))


def test_thinking_is_a_matter_of_the_variables(read_chat: Any) -> None:
    thinking, plain = read_chat("Qwen3"), read_chat("Qwen3 without thinking")
    prompt = [Message("user", "Where?")]
    assert plain.prompt_text(prompt) == thinking.prompt_text(prompt) + "<think>\n\n</think>\n\n"
    assert not plain.note
    assert thinking.note == (
        "the chat template writes '<think>\\n\\n</think>\\n\\n' between prompt and response: the loss sees it, as the "
        "model must write it"
    )
