"""What a trained tiny model answers to all held-out rows: every metric of answers and every kind of check."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from finetune_api.config import RunConfig
from finetune_api.results import StageResult
from finetune_api.termination import decode, encode

METRICS = ["GeneratedAccuracy", "InvalidAnswerRate", "EmptyAnswerRate", "CutAnswerRate", "BLEU", "ChrF", "Accuracy"]
CHECKS = [
    {"name": "AnswerFormat", "pattern": "^The correct answer is "},
    {"name": "IsJSON", "format": "JSON"},
    {"name": "NoBarns", "termsFrom": {"source": "pvc://work/blocked.txt"}, "expect": "NoMatch"},
    {"name": "Refuses", "termsFrom": {"builtIn": "Refusals"}},
]


@pytest.fixture(scope="module")
def config(run: Any, make_config: Any) -> RunConfig:
    """The session's run, evaluated in another way."""
    folder = next(Path(mount.path) for mount in run.config.mounts if mount.claim == "work")
    (folder / "blocked.txt").write_text("# of barns\nold barn\n")
    training = {"maxSteps": 40, "loggingSteps": 15, "learningRate": "2e-2"}
    config = make_config(folder, uid="uid-2", training=training, evaluation={"metrics": METRICS, "checks": CHECKS})
    assert config.training_sha256 == run.config.training_sha256
    return config


def evaluate_again(config: RunConfig) -> StageResult:
    from finetune_trainer.evaluation.evaluate import evaluate

    return evaluate(config, None)


@pytest.fixture(scope="module")
def result(config: RunConfig) -> StageResult:
    return evaluate_again(config)


def report_of(run: Any, config: RunConfig) -> dict[str, Any]:
    assert config.evaluation_sha256
    path = run.folder / "evaluations" / config.evaluation_sha256[:12] / "report.json"
    return json.loads(path.read_text())


def test_what_is_counted_of_answers_is_what_stands_in_the_report(
    run: Any, config: RunConfig, result: StageResult
) -> None:
    report, evaluation = report_of(run, config), result.evaluation
    assert evaluation
    rows = report["rows"]
    for name in ("base", "tuned"):
        texts = [row[name]["answer"]["text"] for row in rows]
        expected = [f"The correct answer is {row['options'][row['right']]}." for row in rows]

        def value(metric: str, name: str = name) -> float:
            status = evaluation.metric(metric)
            assert status
            return float(getattr(status, name).value)

        # Counted here from the texts.
        right = [row[name]["GeneratedAccuracy"]["right"] for row in rows]
        assert value("GeneratedAccuracy") == pytest.approx(sum(right) / len(rows), abs=1e-6)
        assert all(good[:-1] in text for text, good, is_right in zip(texts, expected, right, strict=True) if is_right)
        assert value("AnswerFormat") == (1 if name == "tuned" else 0)
        barns = sum(bool(re.search(r"\bold barn\b", text)) for text in texts)
        assert value("NoBarns") == pytest.approx(1 - barns / len(texts), abs=1e-6)
        assert value("EmptyAnswerRate") == pytest.approx(sum(not text for text in texts) / len(texts), abs=1e-6)
        assert value("CutAnswerRate") == pytest.approx(
            sum(row[name]["answer"]["cut"] for row in rows) / len(rows), abs=1e-6
        )
        assert value("BLEU") == pytest.approx(sacrebleu.corpus_bleu(texts, [expected]).score, rel=1e-5)
        assert value("ChrF") == pytest.approx(sacrebleu.corpus_chrf(texts, [expected]).score, rel=1e-5)
        assert value("IsJSON") == value("Refuses") == 0
        assert report["answers"][name]["answers"] == len(rows) == 12
    assert [one.name for one in evaluation.metrics] == [*METRICS, *(check["name"] for check in CHECKS)]
    assert evaluation.summary.startswith("generated ")


def test_all_of_it_comes_through_the_termination_message(result: StageResult) -> None:
    read = decode(encode(result))
    assert read
    assert read.evaluation
    assert result.evaluation
    assert [one.name for one in read.evaluation.metrics] == [one.name for one in result.evaluation.metrics]


def test_an_identical_job_reuses_the_result_unless_a_file_of_terms_has_changed(
    config: RunConfig, result: StageResult
) -> None:
    other = config.model_copy(update={"job": config.job.model_copy(update={"uid": "uid-3"})})
    assert evaluate_again(other).reused
    blocked = next(Path(mount.path) for mount in config.mounts if mount.claim == "work") / "blocked.txt"
    blocked.write_text("river bank\n")
    changed = evaluate_again(config.model_copy(update={"job": config.job.model_copy(update={"uid": "uid-4"})}))
    assert not changed.reused
    assert changed.lineage
    assert result.lineage
    assert changed.lineage.check_terms_sha256 != result.lineage.check_terms_sha256
