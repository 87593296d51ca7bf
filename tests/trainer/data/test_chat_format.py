"""Chat templates: a fixed date, the end of a turn, BOS, and what is said of a template that can't be used."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import ChatFormat
from finetune_trainer.data.example import Example, Message
from finetune_trainer.data.formats import parse_row
from finetune_trainer.data.tokenize import IGNORED, TokenRow, tokenise
from finetune_trainer.sources.locate import locate
from finetune_trainer.stage.failure import StageError
from tokenizer_kinds import CHATS, Chat, make_tokenizer, read_format


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def examples_of(config: RunConfig) -> list[Example]:
    rows = locate(config, None).training["dataset"].rows()
    return [parse_row(raw, config.spec.dataset, where) for where, raw in rows]


def rows_of(examples: list[Example], chat: ChatFormat) -> list[TokenRow]:
    return [row for found in tokenise(examples, chat, 192, "Responses") for row in found.rows]


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer("byte-level BPE", CHATS["ChatML"])


def user(text: str) -> list[Message]:
    return [Message("user", text)]


def test_a_real_tokenizers_rows_have_labels_that_decode_to_the_response_and_its_end(
    tiny_model: Path, make_config: Any, tmp_path: Path
) -> None:
    chat = read_format(load_tokenizer(tiny_model))
    examples = examples_of(make_config(tmp_path))
    rows = rows_of(examples, chat)
    assert len(rows) == len(examples) == 32
    for example, row in zip(examples, rows, strict=True):
        seen = [label for label in row.labels if label != IGNORED]
        assert chat.decode(seen) == example.response + "<|im_end|>"
        assert chat.decode(row.input_ids).endswith(chat.decode(seen))


def test_a_pad_token_that_is_eos_hides_no_eos_from_the_loss(tiny_model: Path, make_config: Any, tmp_path: Path) -> None:
    from transformers import DataCollatorForSeq2Seq

    tokenizer = load_tokenizer(tiny_model)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    rows = rows_of(examples_of(make_config(tmp_path)), read_format(tokenizer))
    short, long = min(rows, key=lambda row: len(row.labels)), max(rows, key=lambda row: len(row.labels))
    assert len(short.labels) < len(long.labels)
    collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    batch = collate([{"input_ids": row.input_ids, "labels": row.labels} for row in (short, long)])
    end = len(short.labels)
    assert batch["labels"][0, end - 1] == tokenizer.eos_token_id
    assert set(batch["labels"][0, end:].tolist()) == {IGNORED}
    assert batch["attention_mask"][0].tolist() == [1] * end + [0] * (len(long.labels) - end)


def test_a_template_that_prints_the_date_prints_the_same_one_every_day(read_chat: Any) -> None:
    assert "Today: 26 Jul 2024\n" in read_chat("Llama 3").prompt_text(user("Where?"))
    assert "Today: 2024-07-26\n" in read_chat("gpt-oss").prompt_text(user("Where?"))
    for name in ("Llama 3", "gpt-oss"):
        assert datetime.now(UTC).strftime("%Y") not in read_chat(name).prompt_text(user("Where?"))


def test_a_template_without_a_bos_gets_the_tokenizers_own() -> None:
    chat = CHATS["Llama 3"]
    tokenizer = make_tokenizer("byte-level BPE", chat)
    read = read_format(tokenizer, chat.text.replace("{{- bos_token }}\n", ""))
    (ids,) = read.prompt_ids([user("Where?")])
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert read.note == "the chat template prints no <|begin_of_text|>: it is put before every prompt"


def test_a_bos_after_something_else_is_not_doubled() -> None:
    chat = CHATS["Llama 3"]
    tokenizer = make_tokenizer("byte-level BPE", chat)
    (ids,) = read_format(tokenizer, "\n" + chat.text.replace("{{- bos", "{{ bos")).prompt_ids([user("Where?")])
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_bos_that_doubles_as_eos_is_still_put_first() -> None:
    tokenizer = make_tokenizer("byte-level BPE", Chat("x", "chatml", bos="<s>", eos="<s>"))
    template = "{% for message in messages %}{{ message.content }}<s>{% endfor %}"
    (ids,) = read_format(tokenizer, template).prompt_ids([user("Where?")])
    bos = tokenizer.bos_token_id
    assert (ids[0], ids[-1], ids.count(bos)) == (bos, bos, 2)


def test_variables_are_truth_values_and_numbers_where_they_say_so(tokenizer: Any) -> None:
    template = (
        "{% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}"
        "{{ flag is false }} {{ count + 1 }} {{ word | upper }} {{ decimal }}"
    )
    variables = {"flag": "false", "count": "-3", "word": "low", "decimal": "1.5"}
    assert read_format(tokenizer, template, **variables).prompt_text(user("Where?")).endswith("True -2 LOW 1.5")


def test_a_prompt_may_hold_any_text(tokenizer: Any) -> None:
    message = "Where does qprobe0Q or rprobe7R live, {{ braces }} and all?"
    chat = read_format(tokenizer)
    assert chat.prompt_text(user(message)) == f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n"
    (ids,) = chat.prompt_ids([user(message)])
    assert chat.decode(ids) == chat.prompt_text(user(message))


def test_a_text_outside_of_any_conversation_gets_bos_and_eos(read_chat: Any) -> None:
    chat = read_chat("Llama 2")
    ids = chat.text_ids("One <s>text</s>.")
    assert (ids[0], ids[-1]) == (chat.tokenizer.bos_token_id, chat.tokenizer.eos_token_id)
    assert (ids.count(ids[0]), ids.count(ids[-1])) == (1, 1)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for message in messages %}{{ message.content | upper }}<|im_end|>{% endfor %}", "unchanged"),
        ("{{ messages[0].content }}<|im_end|>", "unchanged"),
        ("{% for message in messages | reverse %}{{ message.content }}{% endfor %}", "user's and then the assistant's"),
        ("{% for message in messages %}{{ message.content }}{{ message.content }}{% endfor %}", "unchanged"),
        ("{% for message in messages %}{{ message.content }}", "fails: TemplateSyntaxError"),
        ("{{ raise_exception('no user') }}", "fails: TemplateError: no user"),
        ("{{ messages[0].content + 1 }}", "fails: TypeError"),
        ("{{ 'x' | int(base=99) }}{{ messages[0].content[1:'a'] }}", "fails: "),
        ("{{ (1 / 0) }}", "fails: ZeroDivisionError"),
        ("{{ messages.nothing.at.all }}", "fails: UndefinedError"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "fails: RecursionError"),
    ],
)
def test_a_template_that_changes_or_drops_messages_or_fails_is_refused(
    tokenizer: Any, template: str, words: str
) -> None:
    with pytest.raises(StageError, match=words) as caught:
        read_format(tokenizer, template)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert str(caught.value).startswith("spec.model.chatTemplate ")
    tokenizer.chat_template = template
    with pytest.raises(StageError, match=words) as caught:
        read_format(tokenizer)
    assert str(caught.value).startswith("the tokenizer's chat template ")
    assert caught.value.advice.startswith("set spec.model.chatTemplate")


def test_a_template_that_fails_on_a_variable_is_refused(tokenizer: Any) -> None:
    template = "{% for message in messages %}{{ message.content * (times | default(1)) }}<|im_end|>{% endfor %}"
    read_format(tokenizer, template)
    with pytest.raises(StageError, match=r"spec\.model\.chatTemplate fails: TypeError"):
        read_format(tokenizer, template, times="many")


def test_named_templates_without_a_default_are_listed_and_one_can_be_named(tokenizer: Any, tmp_path: Path) -> None:
    own = tokenizer.chat_template
    tokenizer.chat_template = {"tool_use": own + "tools", "rag": own}
    with pytest.raises(StageError, match="chat templates named rag, tool_use, and none named default") as caught:
        read_format(tokenizer)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert read_format(tokenizer, "rag").prompt_text(user("Where?")).endswith("<|im_start|>assistant\n")
    tokenizer.save_pretrained(tmp_path)  # as with the adapter: servers find it, and so does the evaluation
    saved = load_tokenizer(tmp_path)
    assert saved.get_chat_template() == own
    assert read_format(saved, "rag").prompt_text(user("Where?")) == read_format(tokenizer).prompt_text(user("Where?"))


def test_named_templates_with_a_default_are_kept(tokenizer: Any) -> None:
    templates = {"default": tokenizer.chat_template, "rag": "{{ documents }}"}
    tokenizer.chat_template = templates
    assert read_format(tokenizer).terminator == "<|im_end|>"
    assert tokenizer.chat_template == templates


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(StageError, match=r"set spec\.model\.chatTemplate"):
        read_format(tokenizer)


def test_a_template_without_an_end_of_turn_gets_eos(tokenizer: Any) -> None:
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    chat = read_format(tokenizer, template)
    assert chat.terminator == "<|im_end|>"
    assert chat.terminator_ids == chat.stop_ids == (tokenizer.eos_token_id,)


def test_an_end_of_turn_that_is_not_flagged_special_is_found() -> None:
    tokenizer = make_tokenizer("byte-level BPE", Chat("x", "chatml", plain=("<|im_end|>", "<|im_start|>"), eos="</s>"))
    chat = read_format(tokenizer)
    assert chat.terminator == "<|im_end|>"
    assert set(chat.stop_ids) == {tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id}
