"""The Chat sample end to end: what its status says of its rows, against plain counts of the file."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from cluster_setup.install import CLAIM, DEMO_NAMESPACE
from cluster_setup.jobs import CONVERSATIONS, Jobs
from cluster_setup.load import ClaimFiles
from cluster_setup.target import REPOSITORY, Target
from finetune_api.job import FineTuneJob
from finetune_api.results import DatasetStatus, EvaluationStatus

SAMPLE = REPOSITORY / "manifests/samples/chat-finetune.yaml"
SPEC = yaml.safe_load(SAMPLE.read_text())["spec"]

Row = dict[str, Any]
Turns = list[tuple[str, str]]
Shingles = set[tuple[str, ...]]


@pytest.fixture(scope="module")
def job(jobs: Jobs) -> FineTuneJob:
    """The sample, run to its end with a tiny model, which has SmolLM2's tokenizer and takes seconds."""
    model = {**SPEC["model"], "source": f"pvc://{CLAIM}/tiny"}
    jobs.apply(
        "chat", {**SPEC, "model": model, "training": {**SPEC["training"], "maxSteps": 24, "learningRate": "5e-3"}}
    )
    found = jobs.wait_for_end("chat", seconds=600)
    assert found.status.stage == "Succeeded", found.status.failure
    return found


@dataclass(frozen=True)
class Counts:
    """What a reader with a pencil finds in train.jsonl."""

    rows: int
    dropped: dict[str, int]
    provenance: dict[str, int]
    tokens: int


@pytest.fixture(scope="module")
def counts(target: Target) -> Counts:
    """Counted in the order of the rows: the first of equal ones stays."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(target.state.cache / "models/smollm2")
    rows = [json.loads(line) for line in (CONVERSATIONS / "train.jsonl").read_text().splitlines()]
    dropped: Counter[str] = Counter()
    provenance: Counter[str] = Counter()
    kept: list[tuple[Turns, list[str], Shingles]] = []
    tokens = 0
    for row in rows:
        # The line break behind the last end of a turn is none of the row.
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False).rstrip("\n")
        length = len(tokenizer(text).input_ids)
        turns, said, asked = folded(row), answers(row), shingles(row)
        if row["messages"][-1]["role"] != "assistant":
            dropped["Malformed"] += 1
        elif any(turns == others for others, _, _ in kept):
            dropped["ExactDuplicate"] += 1
        elif any(said == other and likeness(asked, question) >= 0.8 for _, other, question in kept):
            dropped["NearDuplicate"] += 1
        elif length > SPEC["model"]["maxSequenceLength"]:
            dropped["TooLong"] += 1
        else:
            kept.append((turns, said, asked))
            provenance[row.get("provenance", SPEC["dataset"]["provenance"])] += 1
            tokens += length
    return Counts(len(rows), dict(dropped), dict(provenance), tokens)


def folded(row: Row) -> Turns:
    return [(turn["role"], turn["content"].casefold()) for turn in row["messages"]]


def shingles(row: Row) -> Shingles:
    """All sequences of five words of what the user says."""
    words = " ".join(turn["content"] for turn in row["messages"] if turn["role"] == "user").casefold().split()
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))}


def likeness(one: Shingles, other: Shingles) -> float:
    return len(one & other) / len(one | other)


def answers(row: Row) -> list[str]:
    return [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]


def is_learned(turn: dict[str, Any]) -> bool:
    return turn["role"] == "assistant" and turn.get("train", True)


def dataset_of(job: FineTuneJob) -> DatasetStatus:
    assert job.status.dataset is not None
    return job.status.dataset


def evaluation_of(job: FineTuneJob) -> EvaluationStatus:
    assert job.status.evaluation is not None
    return job.status.evaluation


def test_status_counts_what_the_file_holds_and_what_was_left_out_of_it(job: FineTuneJob, counts: Counts) -> None:
    dataset = dataset_of(job)
    assert counts.dropped == {"Malformed": 1, "ExactDuplicate": 6, "NearDuplicate": 5, "TooLong": 2}
    assert {one.name: one.rows for one in dataset.dropped} == counts.dropped
    assert dataset.rows == counts.rows
    assert dataset.examples == counts.rows - sum(counts.dropped.values())
    assert dataset.overlap == 0


def test_rows_are_counted_by_where_they_come_from_and_the_jobs_word_stands_in_for_theirs(
    job: FineTuneJob, counts: Counts
) -> None:
    assert {one.name: one.rows for one in dataset_of(job).provenance} == counts.provenance


def test_the_tokens_of_status_are_those_of_the_rendered_conversations(job: FineTuneJob, counts: Counts) -> None:
    assert dataset_of(job).tokens == counts.tokens


def test_dataset_json_says_the_same_and_lies_beside_the_adapter(
    job: FineTuneJob, counts: Counts, files: ClaimFiles
) -> None:
    dataset = dataset_of(job)
    document = json.loads(files.read(str(dataset.report_uri).removeprefix(f"pvc://{CLAIM}/")))
    assert document["status"] == dataset.to_api()
    assert [(one["read"], one["dropped"]) for one in document["datasets"]] == [(counts.rows, counts.dropped)]
    assert document["provenance"] == counts.provenance
    assert job.status.adapter is not None
    assert "adapter_model.safetensors" in files.listing(job.status.adapter.uri.removeprefix(f"pvc://{CLAIM}/"))


def test_conversations_like_those_of_training_are_less_surprising_to_the_tuned_model(job: FineTuneJob) -> None:
    found = evaluation_of(job).metric("Perplexity")
    assert found is not None
    assert found.base is not None
    assert found.tuned is not None
    assert float(found.tuned.value) < 0.5 * float(found.base.value)
    assert evaluation_of(job).summary.startswith("perplexity ")
    rows = (CONVERSATIONS / "test.jsonl").read_text().splitlines()
    assert evaluation_of(job).examples == len(rows)
    assert (evaluation_of(job).dropped_examples, evaluation_of(job).shared_examples) == (0, 0)


def test_both_models_answer_the_last_question_of_a_conversation(job: FineTuneJob) -> None:
    first = json.loads((CONVERSATIONS / "test.jsonl").read_text().splitlines()[0])["messages"]
    sample = evaluation_of(job).samples[0]
    assert sample.expected == first[-1]["content"]
    assert sample.prompt == [turn["content"] for turn in first if turn["role"] == "user"][-1]
    assert sample.base is not None
    assert sample.tuned is not None
    assert sample.tuned.names is None
    assert sample.tuned.text != sample.base.text


def test_the_row_that_could_not_be_used_is_named_in_the_advice_and_nothing_else_is_advised(job: FineTuneJob) -> None:
    rows = [json.loads(line) for line in (CONVERSATIONS / "train.jsonl").read_text().splitlines()]
    (bad,) = [number for number, row in enumerate(rows, start=1) if row["messages"][-1]["role"] != "assistant"]
    (advice,) = job.status.advice
    assert advice.reason == "MalformedRows"
    assert f"train.jsonl row {bad}: column 'messages'" in advice.message


def test_the_log_shows_a_row_in_which_the_loss_sees_the_assistants_turns_and_nothing_else(
    job: FineTuneJob, jobs: Jobs
) -> None:
    log = jobs.kubectl("-n", DEMO_NAMESPACE, "logs", "job/chat-train", "-c", "trainer")
    rows = [json.loads(line)["messages"] for line in (CONVERSATIONS / "train.jsonl").read_text().splitlines()]
    seen = re.findall(r"⟦(.*?)⟧", log, re.DOTALL)
    said = [
        [turn["content"] for turn in row if turn["role"] == "assistant" and turn.get("train", True)] for row in rows
    ]
    assert [text.removesuffix("<|im_end|>") for text in seen] in said
    unseen = re.sub(r"⟦.*?⟧", "", log, flags=re.DOTALL)
    assert "<|im_start|>user" in unseen
    assert not [text for text in seen if text in unseen]
