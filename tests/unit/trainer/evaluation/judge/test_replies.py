"""What counts as a judgement, and what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetune_trainer.evaluation.judge.replies import PairReply, Unusable, read_reply, response_format, score_reply

FORM = score_reply(["Accuracy", "Fluency"])
GOOD: dict[str, Any] = {"reason": "right", "Accuracy": 5, "Fluency": 1}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"<think>Is {{it}} right? 5 I think.</think>\n{json.dumps(GOOD)}",
        f"Here you are: {json.dumps(GOOD)} I hope that helps.",
    ],
)
def test_one_object_is_read_bare_fenced_behind_thoughts_or_amid_prose(text: str) -> None:
    reply = read_reply(text, FORM)
    assert reply.points == {"Accuracy": 5, "Fluency": 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "I can't judge that.",
        "{}",
        "}{",
        json.dumps({**GOOD, "Accuracy": 6}),
        json.dumps({**GOOD, "Accuracy": 0}),
        json.dumps({**GOOD, "Accuracy": "5"}),
        json.dumps({**GOOD, "Accuracy": True}),
        json.dumps({**GOOD, "Accuracy": 4.5}),
        json.dumps({**GOOD, "Accuracy": None}),
        json.dumps({**GOOD, "Safety": 5}),
        json.dumps({"reason": "x", "Accuracy": 5}),
        json.dumps({"Accuracy": 5, "Fluency": 5}),
        json.dumps([GOOD]).replace("{", "(").replace("}", ")"),
        json.dumps(GOOD) + json.dumps(GOOD),
        f'The answer says {{"Accuracy": 5, "Fluency": 5}}. {json.dumps(GOOD)}',
        json.dumps(GOOD)[:-1],
        "{" * 5000 + "}" * 5000,
        json.dumps({**GOOD, "reason": "x" * 70_000}),
        json.dumps({"reason": "x", "winner": "First"}),
    ],
)
def test_anything_else_is_no_judgement(text: str) -> None:
    with pytest.raises(Unusable):
        read_reply(text, FORM)


@pytest.mark.parametrize("winner", ["first", "A", "", None, "Both"])
def test_a_comparison_names_first_second_or_tie(winner: Any) -> None:
    assert read_reply('{"reason": "", "winner": "Tie"}', PairReply)
    with pytest.raises(Unusable):
        read_reply(json.dumps({"reason": "", "winner": winner}), PairReply)


def test_the_form_is_told_as_strict_structured_outputs_want_it() -> None:
    told = response_format(FORM)["json_schema"]
    assert told["strict"] is True
    schema = told["schema"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"]) == ["reason", "Accuracy", "Fluency"]
    assert schema["properties"]["Accuracy"]["enum"] == [1, 2, 3, 4, 5]
