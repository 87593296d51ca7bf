"""A judge's reply: what it must look like, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, create_model

from finetune_api.base import first_problem
from finetune_api.judge import Criterion

# Strict, since true is no point. An enum, which more servers guide a reply by than bounds.
Points = Annotated[int, Field(strict=True, ge=1, le=5), WithJsonSchema({"type": "integer", "enum": [1, 2, 3, 4, 5]})]
# Characters. What a server sends is bounded before; this bounds what is kept.
_MAX_REPLY = 65536


class Unusable(Exception):
    """A reply that is no judgement; the text says why."""


class JudgeReply(BaseModel):
    """What every judgement begins with: a judge that says why first judges better (Liu et al. 2023, G-Eval)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str


class PairReply(JudgeReply):
    """Which of two answers is better."""

    winner: Literal["First", "Second", "Tie"]


class ScoreReply(JudgeReply):
    """Points of an answer, a field for each criterion."""

    @property
    def points(self) -> dict[str, int]:
        """By criterion, 1 to 5."""
        return {name: value for name, value in self if name != "reason"}


def score_reply(rubric: Sequence[Criterion]) -> type[ScoreReply]:
    """The form of a reply with points for these criteria."""
    fields: dict[str, Any] = dict.fromkeys(rubric, (Points, ...))
    return create_model("ScoreReply", __base__=ScoreReply, **fields)


def response_format(form: type[JudgeReply]) -> dict[str, Any]:
    """The same as OpenAI's structured outputs say it."""
    schema = form.model_json_schema()
    schema.pop("description", None)
    return {"type": "json_schema", "json_schema": {"name": "judgement", "strict": True, "schema": schema}}


def read_reply(text: str, form: type[JudgeReply]) -> JudgeReply:
    """The judgement in a reply: its one JSON object, perhaps behind thoughts or in a fence.

    Raises Unusable for anything else: two objects, such as an answer that is quoted before it is judged, are none.
    """
    if not text:
        raise Unusable("an empty reply")
    if len(text) > _MAX_REPLY:
        raise Unusable(f"a reply of {len(text)} characters")
    said = text.rpartition("</think>")[2]
    begin, end = said.find("{"), said.rfind("}")
    if begin < 0 or end < begin:
        raise Unusable("no JSON object in it")
    try:
        return form.model_validate_json(said[begin : end + 1])
    except ValidationError as error:
        raise Unusable(first_problem(error)) from error
