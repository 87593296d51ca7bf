"""``spec.evaluation.judge``: a language model that reads the answers and judges them."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from finetune_api.base import ApiModel
from finetune_api.credentials import JUDGE_KEY, SecretReference
from finetune_api.rules import rule, validations

Criterion = Literal["Relevance", "Accuracy", "Fluency"]
PAIRWISE_WITHOUT_BASE = "pairwise asks which of base and tuned answers better: set compareWithBase"
_CRITERION_TWICE = "a criterion is named twice"
JUDGE_RULES = (
    rule("!has(self.judge) || !self.judge.pairwise || self.compareWithBase", PAIRWISE_WITHOUT_BASE, ".judge"),
)
# What of it changes no judgement: a later job that differs in these alone takes the same report.
INDIFFERENT = {"secret_ref", "timeout_seconds", "max_retries", "concurrency"}

Endpoint = Annotated[
    str, Field(max_length=256, pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~%:+,=/-]*)?$")
]  # no user, password or query, where keys would stand


class JudgeSpec(ApiModel):
    """A judge behind an OpenAI-compatible chat endpoint."""

    endpoint: Endpoint = Field(description="Base URL, such as https://api.openai.com/v1 or http://vllm.ml.svc:8000/v1.")
    model: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]([ -~]*[!-~])?$")] = Field(
        description="The judge's name at the endpoint."
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description=f"A Secret of the job's namespace with {JUDGE_KEY}, which only the evaluation's pod mounts. Left "
        "out: no key is sent.",
    )
    rubric: list[Criterion] = Field(
        default=["Relevance", "Accuracy", "Fluency"],
        min_length=1,
        max_length=len(get_args(Criterion)),
        description="What each answer is given 1 to 5 points for.",
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **validations(rule("self.all(one, self.exists_one(other, other == one))", _CRITERION_TWICE)),
        },
    )
    pairwise: bool = Field(
        default=False,
        description="Also asks which of the two answers is better, once in either order: a preference counts if it is "
        "the same in both.",
    )
    repeats: int = Field(
        default=1,
        ge=1,
        le=5,
        description="How often each judgement is asked for. From 2 on, the judge's agreement with itself is reported.",
    )
    max_examples: int = Field(
        default=100,
        ge=1,
        le=2000,
        description="Rows whose answers are judged, the first ones: base and tuned answer so many in words.",
    )
    max_requests: int = Field(
        default=2000, ge=1, le=100000, description="Requests at most, retries counted; what is left is not judged."
    )
    max_seconds: int = Field(
        default=1800, ge=1, le=86400, description="Seconds of judging at most; what is left is not judged."
    )
    max_reply_tokens: int = Field(default=512, ge=32, le=8192, description="Longest reply of the judge, in tokens.")
    timeout_seconds: int = Field(default=60, ge=1, le=600, description="Longest wait for one reply.")
    max_retries: int = Field(
        default=3, ge=0, le=10, description="Tries again after 429, 5xx and failures of the connection, with backoff."
    )
    concurrency: int = Field(default=4, ge=1, le=32, description="Requests at a time.")

    @field_validator("rubric")
    @classmethod
    def _check_rubric(cls, rubric: list[Criterion]) -> list[Criterion]:
        if len(set(rubric)) < len(rubric):
            raise ValueError(_CRITERION_TWICE)
        return rubric
