"""Chat templates: one BOS, a fixed date, and a loss that sees the response with its end and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_template import ChatFormat, read_chat_format
from finetune_trainer.data.formats.multiple_choice import ChoiceRow, response_of
from finetune_trainer.data.load import load_rows
from finetune_trainer.data.tokenize import IGNORED, TokenRow, check_labels, tokenise
from finetune_trainer.stage.failure import StageError

# In the manner of Llama-3: BOS and date in the template, a header per turn, <|eot_id|> at its end.
HEADER_TEMPLATE = """\
{{- bos_token -}}
{%- if not date_string is defined -%}{%- set date_string = strftime_now("%d %b %Y") -%}{%- endif -%}
<|start_header_id|>system<|end_header_id|>

Today is {{ date_string }}, or {{ strftime_now("%Y") }}.<|eot_id|>
{%- for message in messages -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|start_header_id|>assistant<|end_header_id|>

{% endif -%}
"""
THINKING_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROW = ChoiceRow("Where does an old otter live?", {"A": "old barn", "B": "river bank"}, "B")


def load_tokenizer(folder: Path) -> Any:
    import unsloth  # noqa: F401 - before transformers, as in the trainer
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def chatml(tiny_model: Path) -> ChatFormat:
    """SmolLM2's own format; its pad token is its EOS."""
    return read_chat_format(load_tokenizer(tiny_model))


@pytest.fixture
def header_tokenizer(tiny_model: Path) -> Any:
    """A tokenizer that puts a BOS before whatever it encodes, with a template that prints one, too."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(tiny_model)
    specials = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = specials[0], specials[3], specials[3]
    bos = (specials[0], tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{specials[0]} $A", pair=f"{specials[0]} $A $B", special_tokens=[bos]
    )
    assert tokenizer("text").input_ids[0] == tokenizer.bos_token_id
    return tokenizer


def tokenised(config: RunConfig, chat: ChatFormat) -> tuple[list[ChoiceRow], list[TokenRow]]:
    rows = load_rows(config, config.spec.dataset, "", config.spec.dataset.columns).rows
    return rows, tokenise(rows, config.spec, chat, 192).rows


def test_a_template_with_a_bos_gives_exactly_one(header_tokenizer: Any, make_config: Any, tmp_path: Path) -> None:
    chat = read_chat_format(header_tokenizer, HEADER_TEMPLATE)
    _, rows = tokenised(make_config(tmp_path), chat)
    bos = header_tokenizer.bos_token_id
    assert {row.input_ids.count(bos) for row in rows} == {1}
    assert {row.input_ids[0] for row in rows} == {bos}


def test_a_template_without_a_bos_gets_the_tokenizers_own(header_tokenizer: Any) -> None:
    chat = read_chat_format(header_tokenizer, HEADER_TEMPLATE.replace("{{- bos_token -}}\n", ""))
    (ids,) = chat.prompt_ids(["Where?"])
    assert ids.count(header_tokenizer.bos_token_id) == 1
    assert ids[0] == header_tokenizer.bos_token_id


def test_a_template_that_prints_the_date_prints_the_same_one_every_day(header_tokenizer: Any) -> None:
    text = read_chat_format(header_tokenizer, HEADER_TEMPLATE).prompt_text("Where?")
    assert "Today is 26 Jul 2024, or 2024." in text
    assert datetime.now(UTC).strftime("%Y") not in text


def test_markers_come_from_the_template(chatml: ChatFormat, header_tokenizer: Any) -> None:
    assert chatml.response_marker == "<|im_end|>\n<|im_start|>assistant\n"
    assert chatml.terminator == "<|im_end|>"
    header = read_chat_format(header_tokenizer, HEADER_TEMPLATE)
    assert header.response_marker == "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    assert header.terminator == "<|eot_id|>"
    assert header.stop_ids == (header_tokenizer.eos_token_id,)


def test_the_prompt_ends_where_the_response_began_in_training(tiny_model: Path) -> None:
    chat = read_chat_format(load_tokenizer(tiny_model), THINKING_TEMPLATE)
    assert chat.prompt_text("Where?").endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_prompt_may_hold_any_text(chatml: ChatFormat) -> None:
    message = "Where does rprobe7R live, {{ braces }} and all?"
    assert message in chatml.prompt_text(message)
    assert chatml.prompt_text(message).endswith("<|im_start|>assistant\n")


def test_the_labels_decode_to_the_response_and_its_end(chatml: ChatFormat, make_config: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    rows, tokens = tokenised(config, chatml)
    for row, token_row in zip(rows, tokens, strict=True):
        seen = [label for label in token_row.labels if label != IGNORED]
        assert chatml.decode(seen) == response_of(row, config.spec.dataset.response_template) + "<|im_end|>"
        assert chatml.decode(token_row.input_ids).endswith(chatml.decode(seen))


def test_a_pad_token_that_is_eos_hides_no_eos_from_the_loss(
    chatml: ChatFormat, make_config: Any, tmp_path: Path
) -> None:
    from finetune_trainer.training.engines.unsloth.trainer import collator

    tokenizer = chatml.tokenizer
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    _, rows = tokenised(make_config(tmp_path), chatml)
    short, long = min(rows, key=lambda row: len(row.labels)), max(rows, key=lambda row: len(row.labels))
    assert len(short.labels) < len(long.labels)
    batch = collator(tokenizer)([{"input_ids": row.input_ids, "labels": row.labels} for row in (short, long)])
    end = len(short.labels)
    assert batch["labels"][0, end - 1] == tokenizer.eos_token_id
    assert set(batch["labels"][0, end:].tolist()) == {IGNORED}
    assert batch["attention_mask"][0].tolist() == [1] * end + [0] * (len(long.labels) - end)


def test_loss_on_all_leaves_no_token_out(chatml: ChatFormat, make_config: Any, tmp_path: Path) -> None:
    _, rows = tokenised(make_config(tmp_path, training={"lossOn": "All"}), chatml)
    assert all(row.labels == row.input_ids for row in rows)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for message in messages %}{{ message.content | upper }}<|im_end|>{% endfor %}", "unchanged"),
        ("{{ messages[0].content }}<|im_end|>", "unchanged"),
        ("{% for message in messages | reverse %}{{ message.content }}{% endfor %}", "unchanged"),
        ("{% for message in messages %}{{ message.content }}", "spec.model.chatTemplate"),
    ],
)
def test_a_template_that_changes_or_drops_messages_is_refused(tiny_model: Path, template: str, words: str) -> None:
    with pytest.raises(StageError, match=words) as caught:
        read_chat_format(load_tokenizer(tiny_model), template)
    assert caught.value.reason is Reason.INVALID_SPEC


def test_a_tokenizer_without_a_template_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(StageError, match=r"set spec\.model\.chatTemplate"):
        read_chat_format(tokenizer)


def test_a_template_without_an_end_of_turn_gets_eos(tiny_model: Path) -> None:
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    chat = read_chat_format(load_tokenizer(tiny_model), template)
    assert chat.terminator == "<|im_end|>"


def test_labels_at_the_wrong_place_are_found_before_training(chatml: ChatFormat) -> None:
    (prompt,), (response,) = chatml.prompt_ids(["Where?"]), chatml.response_ids(["Here."])
    ids = prompt + response
    check_labels([TokenRow(ids, [IGNORED] * len(prompt) + response)], ["Here."], chatml)
    for shift in (-1, 1, len(response)):
        start = len(prompt) + shift
        wrong = TokenRow(ids, [IGNORED] * start + ids[start:])
        with pytest.raises(StageError, match="the loss would see") as caught:
            check_labels([wrong], ["Here."], chatml)
        assert caught.value.reason is Reason.INVALID_SPEC


def test_rows_that_are_too_long_are_dropped_and_counted(chatml: ChatFormat, make_config: Any, tmp_path: Path) -> None:
    long = ChoiceRow("Where? " * 200, ROW.options, "A")
    tokens = tokenise([ROW, long, ROW], make_config(tmp_path).spec, chatml, 192)
    assert (len(tokens.rows), tokens.dropped) == (2, 1)
    with pytest.raises(StageError, match="all 1 rows are longer than 192 tokens") as caught:
        tokenise([long], make_config(tmp_path).spec, chatml, 192)
    assert caught.value.reason is Reason.DATASET_INVALID
