"""Perplexity of rows without options, against plain transformers: one row at a time, no batch, padding or cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finetune_api.evaluation import EvaluationSpec
from finetune_trainer.data.chat_format import ChatFormat, read_chat_format
from finetune_trainer.data.example import Example, Message
from finetune_trainer.evaluation.measure import measure
from finetune_trainer.evaluation.metrics import metrics_of
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device

CPU = Device("cpu", "CPU", 0, "float32")


def conversation(*turns: tuple[str, str], untrained: tuple[int, ...] = ()) -> Example:
    return Example(tuple(Message(role, content, place not in untrained) for place, (role, content) in enumerate(turns)))


TALKS = [
    conversation(
        ("system", "Be brief."),
        ("user", "Where does the old heron live?"),
        ("assistant", "At the river bank."),
        ("user", "And the otter?"),
        ("assistant", "In the old barn, of all places."),
    ),
    conversation(
        ("user", "Who lives at the stone wall?"),
        ("assistant", 'look_up(place="stone wall")'),
        ("tool", '{"creature": "lizard"}'),
        ("assistant", "The lizard does."),
    ),
    conversation(
        ("user", "Is the badger at home?"),
        ("assistant", "I have no idea."),
        ("user", "Please look."),
        ("assistant", "It sleeps in the pine wood."),
        untrained=(1,),
    ),
]
INSTRUCTIONS = [
    conversation(("user", f"Turn it round.\n\n{word}"), ("assistant", word[::-1]))
    for word in ("otter", "badger", "newt")
]
DOCUMENTS = [
    Example(text="The heron stands at the river bank. " * 9, ends=True),
    Example(text="A lizard lies on the stone wall.", ends=False),
]


@dataclass(frozen=True)
class Tiny:
    """The tiny model, loaded as the evaluator loads it."""

    model: Any
    chat: ChatFormat
    tokenizer: Any


@pytest.fixture(scope="module")
def tiny(tiny_model: Path, make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from finetune_trainer.models.loading import load_base, load_tokenizer

    source = ModelSource(str(tiny_model), None, False)
    config = make_config(tmp_path_factory.mktemp("run"))
    tokenizer = load_tokenizer(source)
    return Tiny(load_base(source, CPU), read_chat_format(load_tokenizer(source), config.spec.model, None), tokenizer)


def evaluate(tiny: Tiny, examples: list[Example], **options: Any) -> Any:
    """The outcome of the tiny model against itself."""
    from finetune_trainer.evaluation.comparison import Contestants, compare

    evaluation = EvaluationSpec.model_validate(
        {"dataset": {"source": "pvc://a/b"}, "samplePrompts": 3, "maxNewTokens": 4}
    )
    contestants = Contestants(tiny.model, lambda model: model, tiny.chat, CPU, 2048)
    progress: list[tuple[int, int]] = []
    outcome = compare(contestants, examples, evaluation, lambda *step: progress.append(step), **options)
    assert progress[-1] == (2 * len(examples), 2 * len(examples))
    return outcome


def perplexity_of(outcome: Any) -> float:
    (metric,) = metrics_of(["Perplexity"])
    return float(measure(metric, outcome).status.tuned.value)


def plain_loss(tiny: Tiny, before: list[int], after: list[int]) -> float:
    """transformers' own loss of what follows a context, summed over its tokens, in nats."""
    import torch

    with torch.inference_mode():
        labels = torch.tensor([[-100] * len(before) + after])
        return float(tiny.model(input_ids=torch.tensor([before + after]), labels=labels).loss) * len(after)


def plain_perplexity(tiny: Tiny, pairs: list[tuple[list[int], list[int]]]) -> float:
    total = math.fsum(plain_loss(tiny, before, after) for before, after in pairs)
    return math.exp(total / sum(len(after) for _, after in pairs))


def plain_pairs(tiny: Tiny, example: Example, places: list[int]) -> list[tuple[list[int], list[int]]]:
    """The ids of the prompt that a server would send before each of the turns at ``places``, and of that turn."""
    turns = [{"role": message.role, "content": message.content} for message in example.messages]
    pairs = []
    for place in places:
        prompt = tiny.tokenizer.apply_chat_template(turns[:place], tokenize=False, add_generation_prompt=True)
        before, after = (
            tiny.tokenizer(text, add_special_tokens=False).input_ids
            for text in (prompt, turns[place]["content"] + "<|im_end|>")
        )
        pairs.append((before, after))
    return pairs


def test_each_response_of_a_conversation_counts_behind_the_prompt_that_a_server_would_send(tiny: Tiny) -> None:
    outcome = evaluate(tiny, TALKS)
    places = [[2, 4], [1, 3], [3]]
    expected = [pair for talk, where in zip(TALKS, places, strict=True) for pair in plain_pairs(tiny, talk, where)]
    assert perplexity_of(outcome) == pytest.approx(plain_perplexity(tiny, expected), rel=1e-5)
    assert [question.row for question in outcome.questions] == [0, 0, 1, 1, 2]
    assert len(outcome.tuned.answers) == 3


def test_where_training_learns_the_last_response_alone_that_one_is_scored(tiny: Tiny) -> None:
    outcome = evaluate(tiny, TALKS, loss_on="LastResponse")
    expected = [pair for talk, place in zip(TALKS, (4, 3, 3), strict=True) for pair in plain_pairs(tiny, talk, [place])]
    assert perplexity_of(outcome) == pytest.approx(plain_perplexity(tiny, expected), rel=1e-5)


def test_an_instruction_is_a_conversation_of_one_exchange(tiny: Tiny) -> None:
    expected = [pair for one in INSTRUCTIONS for pair in plain_pairs(tiny, one, [1])]
    assert perplexity_of(evaluate(tiny, INSTRUCTIONS)) == pytest.approx(plain_perplexity(tiny, expected), rel=1e-5)


def test_a_document_is_scored_from_its_second_token_to_its_end_token_if_it_has_one(tiny: Tiny) -> None:
    # This tokenizer puts no BOS before a text.
    ids = [tiny.tokenizer(one.text, add_special_tokens=False).input_ids for one in DOCUMENTS]
    ids[0].append(tiny.tokenizer.eos_token_id)
    outcome = evaluate(tiny, DOCUMENTS)
    expected = plain_perplexity(tiny, [(one[:1], one[1:]) for one in ids])
    assert perplexity_of(outcome) == pytest.approx(expected, rel=1e-5)
    assert outcome.tuned.answers == []


def test_a_document_longer_than_a_row_is_scored_in_windows_and_no_token_is_lost(tiny: Tiny) -> None:
    document = DOCUMENTS[0]
    ids = [*tiny.tokenizer(document.text, add_special_tokens=False).input_ids, tiny.tokenizer.eos_token_id]
    assert len(ids) > 48
    pairs, start = [], 1
    while start < len(ids):  # a window of 32 tokens begins at the last token of the one before
        end = min(start + 31, len(ids))
        pairs.append((ids[max(0, end - 32) : start], ids[start:end]))
        start = end
    outcome = evaluate(tiny, [document], window=32)
    assert len(outcome.questions) == len(pairs)
    assert perplexity_of(outcome) == pytest.approx(plain_perplexity(tiny, pairs), rel=1e-5)


def test_a_document_gets_the_models_bos_where_it_has_one(tiny: Tiny) -> None:
    from dataclasses import replace

    from finetune_trainer.evaluation.questions import Group, make_questions

    (question,) = make_questions([DOCUMENTS[1]], replace(tiny.chat, adds_bos=True), {Group.RESPONSES})
    assert question.prompt == [tiny.tokenizer.bos_token_id]
    assert question.responses == [tiny.tokenizer(DOCUMENTS[1].text, add_special_tokens=False).input_ids]
