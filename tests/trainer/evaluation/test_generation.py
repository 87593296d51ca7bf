"""Greedy answers: the likeliest tokens and nothing else, and what of them is said."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_api.model import ModelSpec
from finetune_trainer.data.chat_format import ChatFormat, read_chat_format
from tiny_architectures import build
from tokenizer_kinds import CHATS, make_tokenizer

PROMPTS = [[5, 6, 7], [40, 41, 42, 43, 44, 45], [99]]


def chat_of(name: str) -> ChatFormat:
    chat = CHATS[name]
    spec = ModelSpec(source="pvc://a/b", chat_template_kwargs=dict(chat.variables))
    return read_chat_format(make_tokenizer("byte-level BPE", chat), spec, None)


def answers(model: Any, length: int = 16) -> list[Any]:
    from finetune_trainer.evaluation.generation import answer

    return answer(model, PROMPTS, chat_of("ChatML"), 0, length, 10_000)


def test_nothing_of_a_models_own_generation_settings_applies() -> None:
    model = build("Llama")
    expected = answers(model)
    own = model.generation_config
    own.repetition_penalty = 5.0
    own.no_repeat_ngram_size = 1
    own.suppress_tokens = list(range(2, 400))
    own.min_new_tokens = 16
    own.num_beams = 3
    assert answers(model) == expected
    assert model.generation_config is own
    assert own.repetition_penalty == 5.0


def test_a_wrapped_model_answers_by_the_same_rules() -> None:
    from peft import LoraConfig, get_peft_model

    expected = answers(build("Llama"))
    model = get_peft_model(build("Llama"), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.get_base_model().generation_config.repetition_penalty = 5.0
    assert answers(model) == expected


def test_an_answer_that_meets_no_stop_token_was_cut() -> None:
    import torch

    chat = chat_of("ChatML")
    model = build("Llama")
    (stop,) = chat.stop_ids[:1]
    assert all(generated.cut for generated in answers(model, length=1))
    with torch.no_grad():  # the head says one thing only
        model.get_output_embeddings().weight.zero_()
    from finetune_trainer.evaluation.generation import answer

    model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: output + 9 * torch.nn.functional.one_hot(torch.tensor(stop), output.shape[-1])
    )
    found = answer(model, PROMPTS, chat, 0, 8, 10_000)
    assert [(generated.text, generated.cut) for generated in found] == [("", False)] * len(PROMPTS)


def test_no_prompts_are_no_answers() -> None:
    from finetune_trainer.evaluation.generation import answer

    assert answer(build("Llama"), [], chat_of("ChatML"), 0, 8, 10_000) == []


@pytest.mark.parametrize(
    ("chat", "text", "said"),
    [
        ("ChatML", " The correct answer is B.<|im_end|>", "The correct answer is B."),
        ("Qwen3", "<think>\n\n</think>\n\nThe correct answer is B.", "The correct answer is B."),
        ("Qwen3", "<think>\nA is old.\n</think>\n\nThe correct answer is B.", "The correct answer is B."),
        ("Qwen3", "<think>\nA is old, but", "<think>\nA is old, but"),
        ("gpt-oss", "<|channel|>final<|message|>The correct answer is B.", "The correct answer is B."),
        ("gpt-oss", "<|channel|> final<|message|> The correct answer is B.", "The correct answer is B."),
        (
            "gpt-oss",
            "<|channel|>analysis<|message|>A is old.<|end|><|start|>assistant<|channel|>final<|message|>B",
            "B",
        ),
        ("Llama 2", "  The correct answer is B.", "The correct answer is B."),
    ],
)
def test_what_is_said_is_what_stands_behind_thoughts_and_the_templates_own_words(
    chat: str, text: str, said: str
) -> None:
    from finetune_trainer.evaluation.generation import spoken

    read = chat_of(chat)
    assert spoken(text, read.lead, read.tokenizer) == said
