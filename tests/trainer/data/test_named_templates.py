"""Chat templates by name: what they print, and which tokens they give to a tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Example, Message
from finetune_trainer.data.named_templates import MARKS
from finetune_trainer.data.tokenize import tokenise
from finetune_trainer.stage.failure import StageError
from tokenizer_kinds import CHATS, KINDS, Chat, make_tokenizer, read_format

BASE = Chat("base", "chatml", bos="<s>")  # whose own template is taken away: nothing but BOS, EOS and pad
TALK = [("user", "Where?"), ("assistant", "Here."), ("user", "Who?"), ("assistant", "The otter.")]
FAMILY = {
    "ChatML": "ChatML",
    "Llama3": "Llama 3",
    "Gemma": "Gemma",
    "Mistral": "Mistral v0.3",
    "Phi": "Phi",
    "Qwen": "Qwen2.5",
}
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}]
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "barn"}}}


def base_tokenizer(kind: str = "byte-level BPE", chat: Chat = BASE) -> Any:
    tokenizer = make_tokenizer(kind, chat)
    tokenizer.chat_template = None
    return tokenizer


def named(name: str, kind: str = "byte-level BPE", rows: int | None = 10_000) -> ChatFormat:
    return read_format(base_tokenizer(kind), name, rows)


def turns(*pairs: tuple[str, str]) -> list[Message]:
    return [Message(role, text) for role, text in pairs]


@pytest.mark.parametrize("generate", [True, False])
@pytest.mark.parametrize("name", FAMILY)
def test_a_named_template_prints_what_its_family_prints(name: str, generate: bool) -> None:
    family = read_format(make_tokenizer("byte-level BPE", CHATS[FAMILY[name]]))
    mine = read_format(make_tokenizer("byte-level BPE", CHATS[FAMILY[name]]), name)
    talk = turns(*(TALK[:-1] if generate else TALK))
    if name == "Qwen":  # the fixture's default system message is its own
        talk = [Message("system", "Be brief."), *talk]
    expected = family.template.render(talk, generate)
    if name == "Llama3":  # without the turn that holds dates, as Llama 3 itself
        start, _, rest = expected.partition("<|start_header_id|>")
        expected = start + rest[rest.index("<|start_header_id|>") :]
    assert mine.template.render(talk, generate) == expected


SYSTEM = {
    "ChatML": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n",
    "Llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhere?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "Gemma": "<s><start_of_turn>user\nBe brief.\n\nWhere?<end_of_turn>\n<start_of_turn>model\n",
    "Mistral": "<s>[INST] Be brief.\n\nWhere?[/INST]",
    "Phi": "<|system|>\nBe brief.<|end|>\n<|user|>\nWhere?<|end|>\n<|assistant|>\n",
    "Qwen": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n",
    "Alpaca": "<s>Be brief.\n\n### Instruction:\nWhere?\n\n### Response:\n",
}


@pytest.mark.parametrize("name", MARKS)
def test_a_system_message_stands_where_the_family_has_it(name: str) -> None:
    assert named(name).prompt_text(turns(("system", "Be brief."), ("user", "Where?"))) == SYSTEM[name]


def test_alpaca_has_its_own_preface_and_ends_turns_with_eos() -> None:
    assert named("Alpaca").template.render(turns(*TALK), generate=False) == (
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nWhere?\n\n### Response:\nHere.</s>\n\n### Instruction:\nWho?\n\n"
        "### Response:\nThe otter.</s>\n\n"
    )


CALLS = {
    "Qwen": (
        '<|im_start|>assistant\n<tool_call>\n{"name": "look", "arguments": {"at": "barn"}}\n</tool_call><|im_end|>\n',
        "<|im_start|>user\n<tool_response>\nNo otter.\n</tool_response><|im_end|>\n",
    ),
    "Llama3": (
        '<|end_header_id|>\n\n{"name": "look", "parameters": {"at": "barn"}}<|eot_id|>',
        "<|start_header_id|>ipython<|end_header_id|>\n\nNo otter.<|eot_id|>",
    ),
    "Mistral": (
        '[TOOL_CALLS] [{"name": "look", "arguments": {"at": "barn"}}]</s>',
        '[TOOL_RESULTS] {"content": No otter.}[/TOOL_RESULTS]',
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_tools_and_their_results_are_printed_as_the_family_does(name: str) -> None:
    talk = [
        Message("user", "Where?"),
        Message("assistant", "", extra={"tool_calls": [CALL]}),
        Message("tool", "No otter."),
        Message("assistant", "Gone."),
    ]
    text = named(name).template.render(talk, generate=False, tools=TOOLS)
    assert all(part in text for part in CALLS[name])
    assert '"description": "Looks."' in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("has_room", [True, False])
def test_tokens_are_added_where_there_is_room_and_the_adapters_tokenizer_gives_the_same_ids(
    name: str, kind: str, has_room: bool, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    size = len(base_tokenizer(kind))
    rows = size + len(MARKS[name]) - (0 if has_room else 1)
    chat = named(name, kind, rows if MARKS[name] else size)
    added = has_room and bool(MARKS[name])
    assert len(chat.tokenizer) == size + (len(MARKS[name]) if added else 0)
    assert all((mark in chat.tokenizer.get_vocab()) == has_room for mark in MARKS[name])
    assert ("have no room" in chat.note or "has no room" in chat.note) == (bool(MARKS[name]) and not has_room)
    ends = MARKS[name][-1] if added and name not in ("Mistral", "Alpaca") else "</s>"
    assert chat.end_token == ends
    chat.tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    again = read_format(loaded, name, chat.embedding_rows)
    example = Example(tuple(turns(*TALK)))
    (first,), (second,) = (tokenise([example], one, 4096, "Responses") for one in (chat, again))
    assert first.problem is None
    assert first == second
    assert loaded.chat_template == chat.tokenizer.chat_template
    # A server formats by the saved tokenizer alone.
    server = loaded.apply_chat_template([{"role": "user", "content": "Where?"}], add_generation_prompt=True)
    server = server if isinstance(server, list) else server["input_ids"]
    (ids,) = chat.prompt_ids([turns(("user", "Where?"))])
    assert ids[-len(server) :] == server
    # What the loss sees ends each turn with a token that stops generation.
    seen = [[id_ for id_ in row.labels if id_ != -100] for row in first.rows]
    assert all(row[-1] in chat.stop_ids for row in seen)
    assert chat.tokenizer.eos_token_id in chat.stop_ids


def test_tokens_that_the_tokenizer_has_are_used_and_none_is_added() -> None:
    tokenizer = base_tokenizer(chat=replace(BASE, special=("<|im_start|>", "<|im_end|>")))
    before = dict(tokenizer.get_vocab())
    chat = read_format(tokenizer, "ChatML", len(before))
    assert tokenizer.get_vocab() == before
    assert chat.terminator_ids == (before["<|im_end|>"],)
    assert "adds" not in chat.note


def test_new_tokens_are_noted_with_what_to_do() -> None:
    note = named("ChatML").note
    assert note.startswith("the chat template ChatML adds <|im_start|>, <|im_end|> to the tokenizer")
    assert "take Alpaca" in note


def test_the_tokenizers_own_names_come_first() -> None:
    tokenizer = base_tokenizer()
    tokenizer.chat_template = {"default": CHATS["Zephyr"].text, "ChatML": CHATS["Vicuna"].text}
    assert "USER" in read_format(tokenizer, "ChatML", 10_000).prompt_text(turns(("user", "a")))


@pytest.mark.parametrize("name", ["chatml", "Llama-3", "Vicuna", "Llama 3"])
def test_a_name_of_no_template_is_refused_with_the_names(name: str) -> None:
    with pytest.raises(StageError, match="no chat template and no name of one") as caught:
        named(name)
    assert "ChatML, Llama3, Gemma, Mistral, Phi, Qwen, Alpaca" in caught.value.advice


def test_a_template_as_text_adds_no_tokens() -> None:
    tokenizer = base_tokenizer()
    size = len(tokenizer)
    read_format(tokenizer, CHATS["ChatML"].text, 10_000)
    assert len(tokenizer) == size


def test_a_tokenizer_without_eos_is_refused_where_a_turn_would_end_with_it() -> None:
    tokenizer = base_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(StageError, match="has no EOS"):
        read_format(tokenizer, "Alpaca", 10_000)


def test_without_room_every_turn_ends_with_eos_and_the_other_marks_stay_text() -> None:
    chat = named("ChatML", rows=len(base_tokenizer()))
    assert chat.template.render(turns(*TALK), generate=False) == (
        "<|im_start|>user\nWhere?</s>\n<|im_start|>assistant\nHere.</s>\n"
        "<|im_start|>user\nWho?</s>\n<|im_start|>assistant\nThe otter.</s>\n"
    )
    (found,) = tokenise([Example(tuple(turns(*TALK)))], chat, 4096, "Responses")
    assert len(found.rows) == 1
