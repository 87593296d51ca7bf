"""Slices and own prompts on a tiny model: as each would come out alone, and as plain transformers answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune_api.evaluation import EvaluationSpec
from finetune_api.reasons import Reason
from finetune_api.run_folder import LOCK
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.formats import parse_row
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from trainer_inputs import refusal

CPU = Device("cpu", "CPU", 0, "float32")
PROMPTS = [
    {"text": "Where does the old heron live?", "name": "heron"},
    {"text": "Question: Where?\nA. barn\nB. bank\nAnswer:", "chatTemplate": "Omit"},
]
EDGES = {"name": "edges", "dataset": {"source": "pvc://work/edges.jsonl"}}
TOPIC = {"name": "topic", "column": "topic"}


def raw_rows(numbers: range) -> list[dict[str, Any]]:
    """Rows of a small world, every third of one topic."""
    places = ["old barn", "river bank"]
    return [
        {"question": f"Where is {'the ' * (number % 4)}{number}?", "options": places, "answer_idx": number % 2}
        | {"topic": f"t{number % 3}"}
        for number in numbers
    ]


def test_slices_are_scored_as_if_alone_and_own_prompts_answered_as_by_plain_transformers(
    tiny_model: Path, make_config: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import GenerationConfig

    from finetune_trainer.evaluation.comparison import Contestants, compare
    from finetune_trainer.models.loading import load_base, load_tokenizer

    config = make_config(tmp_path, evaluation={"slices": [TOPIC, EDGES], "prompts": PROMPTS, "maxNewTokens": 8})
    evaluation = config.spec.evaluation
    chat = read_chat_format(load_tokenizer(ModelSource(str(tiny_model), None, False)), config.spec.model, None)
    base = load_base(ModelSource(str(tiny_model), None, False), CPU)
    contestants = Contestants(base, lambda model: model, chat, CPU, 2048)

    def compared(rows: Any, wanted: EvaluationSpec, **more: Any) -> Any:
        return compare(contestants, rows, wanted, lambda done, total: None, **more)

    def parsed(numbers: range) -> Any:
        return [parse_row(row, evaluation.dataset, "row", ["topic"]) for row in raw_rows(numbers)]

    bare = evaluation.model_copy(update={"slices": None, "prompts": None})
    rows, edges = parsed(range(9)), parsed(range(50, 54))
    found, plain, alone = (
        compared(rows, evaluation, slices={"edges": edges}),
        compared(rows, bare),
        compared(edges, bare),
    )
    assert list(found.slices) == ["topic=t0", "topic=t1", "topic=t2", "edges"]
    for side in ("base", "tuned"):
        assert found.slices["edges"].sides[side].scores == alone.sides[side].scores
        assert found.sides[side].scores == plain.sides[side].scores
        assert found.slices["topic=t1"].sides[side].scores.table == plain.sides[side].scores.table[1::3]

    tokenizer = chat.tokenizer
    message = [{"role": "user", "content": PROMPTS[0]["text"]}]
    templated = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    ids_of = (tokenizer(templated, add_special_tokens=False).input_ids, tokenizer(PROMPTS[1]["text"]).input_ids)
    greedy = GenerationConfig(
        max_new_tokens=8, do_sample=False, eos_token_id=list(chat.stop_ids), pad_token_id=contestants.pad_id
    )
    for prompted, ids in zip(found.prompts, ids_of, strict=True):
        assert prompted.tokens == len(ids)
        with torch.inference_mode():
            written = base.generate(input_ids=torch.tensor([ids]), generation_config=greedy)[0, len(ids) :]
        assert written.numel()
        text = tokenizer.decode(written, skip_special_tokens=True).strip()
        assert {one.text for one in prompted.answers.values()} == {text}


def test_a_run_tells_of_slices_and_own_prompts_in_status_report_lock_and_lineage(run: Any, make_config: Any) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate

    work = run.folder.parent.parent  # the claim of rows and runs
    kept = [json.loads(line) for line in (work / "rows" / "test.jsonl").read_text().splitlines()]
    (work / "sliced").mkdir()
    sliced = [{**row, "creature": row["question"].split()[-2]} for row in kept]
    (work / "sliced" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sliced))
    (work / "edges.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept[:3]))
    training = {"maxSteps": 40, "loggingSteps": 15, "learningRate": "2e-2"}

    evaluation = {
        "dataset": {"source": "pvc://work/sliced"},
        "slices": [{"name": "by", "column": "creature"}, EDGES],
        "prompts": PROMPTS,
    }
    config = make_config(work, training=training, evaluation=evaluation)
    result = evaluate(config, None)
    status = result.evaluation
    assert status
    assert [one.name for one in status.slices][-1] == "edges"
    assert {one.name: one.examples for one in status.slices} == {
        **{f"by={one}": 3 for one in ("heron", "otter", "badger", "lizard")},
        "edges": 3,
    }
    # The rows are those of the run without slices, and so is each figure.
    assert status.metrics == run.evaluation.evaluation.metrics
    assert [one.name for one in status.samples] == ["heron", None, None]
    assert [one.reason for one in result.advice][-1] == "FewRowsInSlices"
    assert result.lineage
    (pinned,) = result.lineage.slices
    folder = run.folder / "evaluations" / config.evaluation_sha256[:12]
    lock = json.loads((folder / LOCK).read_text())
    assert lock["sliceSha256"] == {"edges": pinned.sha256}
    report = json.loads((folder / "report.json").read_text())
    rows = {row["sha256"]: row for row in report["rows"]}
    edges = report["slices"][-1]
    assert len(edges["rows"]) == 3
    for row in edges["rows"]:
        assert {name: row[name]["Accuracy"] for name in ("base", "tuned")} == {
            name: rows[row["sha256"]][name]["Accuracy"] for name in ("base", "tuned")
        }
    assert [one["chatTemplate"] for one in report["prompts"]] == ["Apply", "Omit"]
    assert all(one[side]["answer"] for one in report["prompts"] for side in ("base", "tuned"))


def test_a_prompt_without_room_for_an_answer_ends_the_job_before_it_trains(make_config: Any, tmp_path: Path) -> None:
    from finetune_trainer.training.train import train

    prompts = [{"text": "Who?"}, {"text": "a " * 2048, "chatTemplate": "Omit"}]
    config = make_config(tmp_path, evaluation={"prompts": prompts})
    text = refusal(lambda: train(config, None), Reason.INVALID_SPEC)
    assert text.startswith("spec.evaluation.prompts[1].text has ")
