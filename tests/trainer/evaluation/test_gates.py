"""Gates of a real evaluation: judged by its report, told in result, report and log, and reused with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import JobReference, RunConfig
from finetune_api.gates import GateSpec
from finetune_api.reasons import Reason
from finetune_trainer.evaluation.evaluate import evaluate
from finetune_trainer.evaluation.gates import judge
from finetune_trainer.evaluation.statistics import mcnemar_exact
from finetune_trainer.sources.stored_report import StoredReport, read_compared
from trainer_inputs import refusal, run_config


def gated(run: Any, *gates: dict[str, Any], **evaluation: Any) -> RunConfig:
    """The run's own job with gates: its training is there already."""
    document = run.config.spec.to_api()
    document["evaluation"] = {**document["evaluation"], "samplePrompts": 0, "gates": list(gates), **evaluation}
    return run_config(document, {mount.claim: Path(mount.path) for mount in run.config.mounts})


def folder_of(run: Any, config: RunConfig) -> Path:
    assert config.evaluation_sha256
    return Path(run.folder / "evaluations" / config.evaluation_sha256[:12])


def report_uri(run: Any) -> str:
    return str(run.evaluation.evaluation.report_uri)


def test_a_tuned_model_passes_the_gates_that_it_meets_and_the_report_has_the_figures(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = report_uri(run).removesuffix("/report.json")
    config = gated(
        run,
        {"metric": "Perplexity", "minimumGain": "0.3", "significance": "0.05", "maximumRetentionLoss": "0.1"},
        {"metric": "Accuracy", "notWorseThan": {"report": earlier, "margin": "0.3"}},
        {"metric": "Accuracy", "notWorseThan": {"report": earlier, "margin": "0.02"}},
        {"metric": "Accuracy", "minimum": "0.02", "significance": "0.000001"},
        {"metric": "Perplexity", "maximum": "0.5"},
        retention={"source": "pvc://work/rows"},
    )
    result = evaluate(config, None)
    status = result.evaluation
    assert status
    verdicts = [gate.verdict for gate in status.gates]
    assert verdicts == ["Passed", "Passed", "Inconclusive", "Inconclusive", "Failed"]
    shown = capsys.readouterr().out
    assert all(f"gate: {gate.metric} {gate.verdict}: {gate.message}" in shown for gate in status.gates)

    document = json.loads((folder_of(run, config) / "report.json").read_text())
    assert [one["verdict"] for one in document["gates"]] == verdicts
    assert document["evaluation"]["gates"] == [gate.to_api() for gate in status.gates]
    assert len(document["retentionRows"]) == 12
    gain, significance, retention = document["gates"][0]["criteria"]
    perplexity = status.metric("Perplexity")
    assert perplexity
    assert perplexity.base
    assert perplexity.tuned
    ratio = float(perplexity.tuned.value) / float(perplexity.base.value)
    assert float(gain["figure"]) == pytest.approx(1 - ratio, rel=1e-3)
    assert float(significance["pValue"]) < 0.05
    # The rows of retention are those of the evaluation here: what was gained there was not lost.
    assert float(retention["figure"]) == pytest.approx(1 - ratio, rel=1e-3)
    compared = document["gates"][1]["criteria"][0]
    assert (compared["rows"], compared["better"], compared["worse"]) == (12, 0, 0)
    accuracy = document["gates"][3]["criteria"][1]
    assert float(accuracy["pValue"]) == pytest.approx(mcnemar_exact(accuracy["better"], accuracy["worse"]), rel=1e-2)
    assert math.isclose(
        (accuracy["better"] - accuracy["worse"]) / 12, float(status.metric("Accuracy").difference), abs_tol=1e-5
    )
    assert result.lineage
    assert result.lineage.compared_reports_sha256


def test_whoever_has_the_report_can_judge_the_gates_again(run: Any) -> None:
    gates = [{"metric": "Perplexity", "minimumGain": "0.3", "significance": "0.05"}]
    config = gated(run, *gates)
    evaluate(config, None)
    document = json.loads((folder_of(run, config) / "report.json").read_text())
    specs = [GateSpec.model_validate(gate) for gate in gates]
    again = judge(specs, StoredReport.model_validate(document), {}, config.spec.training.seed)
    assert [one.document for one in again] == document["gates"]


def test_a_reused_evaluation_brings_its_gates_and_one_with_other_gates_is_measured_anew(run: Any) -> None:
    config = gated(run, {"metric": "Accuracy", "minimum": "0"})
    first = evaluate(config, None)
    other = config.model_copy(update={"job": JobReference(namespace="ml", name="other", uid="uid-2")})
    again = evaluate(other, None)
    assert again.reused
    assert again.evaluation
    assert first.evaluation
    assert again.evaluation.gates == first.evaluation.gates
    assert [gate.verdict for gate in again.evaluation.gates] == ["Passed"]
    stricter = evaluate(gated(run, {"metric": "Accuracy", "maximum": "0"}), None)
    assert not stricter.reused
    assert stricter.evaluation
    assert stricter.evaluation.gates[0].verdict != "Passed"


def test_an_evaluation_is_not_reused_when_the_report_that_it_is_compared_with_has_changed(run: Any) -> None:
    work = next(Path(mount.path) for mount in run.config.mounts if mount.claim == "work")
    copy = work / "june" / "report.json"
    copy.parent.mkdir()
    document = json.loads((run.evaluation_folder / "report.json").read_text())
    copy.write_text(json.dumps(document))
    config = gated(run, {"metric": "Accuracy", "notWorseThan": {"report": "pvc://work/june", "margin": "0.3"}})
    assert not evaluate(config, None).reused
    other = config.model_copy(update={"job": JobReference(namespace="ml", name="other", uid="uid-3")})
    assert evaluate(other, None).reused
    copy.write_text(json.dumps({**document, "rows": document["rows"][1:]}))
    third = config.model_copy(update={"job": JobReference(namespace="ml", name="third", uid="uid-4")})
    result = evaluate(third, None)
    assert not result.reused
    assert result.evaluation
    assert "n=11" in (result.evaluation.gates[0].message or "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "it is not there"),
        ("no JSON", "is no evaluation's report: it is no JSON"),
        ("[" * 100_000, "is no evaluation's report: it is no JSON"),
        ("{}", "is no evaluation's report: rows: Field required"),
        ('{"rows": [{"sha256": 7}]}', "is no evaluation's report: rows[0].sha256"),
        ('{"rows": []}', "none of its 0 rows is among the held-out rows"),
        ('{"rows": [{"sha256": "aa", "tuned": {}}]}', "none of its 1 rows is among the held-out rows"),
    ],
)
def test_a_report_that_nothing_can_be_compared_with_is_told_before_anything_is_loaded(
    run: Any, text: str | None, words: str
) -> None:
    work = next(Path(mount.path) for mount in run.config.mounts if mount.claim == "work")
    place = work / "broken.json"
    place.unlink(missing_ok=True)
    if text is not None:
        place.write_text(text)
    gate = {"metric": "Accuracy", "notWorseThan": {"report": "pvc://work/broken.json", "margin": "0.3"}}
    said = refusal(lambda: evaluate(gated(run, gate), None), Reason.INVALID_SPEC)
    assert said.startswith("spec.evaluation.gates[0].notWorseThan.report pvc://work/broken.json: ")
    assert words in said


def test_a_report_without_the_metric_and_a_folder_without_a_report_are_named(run: Any) -> None:
    work = next(Path(mount.path) for mount in run.config.mounts if mount.claim == "work")
    document = json.loads((run.evaluation_folder / "report.json").read_text())
    for row in document["rows"]:
        del row["tuned"]["Accuracy"]
    (work / "bare.json").write_text(json.dumps(document))

    def refused(uri: str) -> str:
        gate = {"metric": "Accuracy", "notWorseThan": {"report": uri, "margin": "0.3"}}
        return refusal(lambda: evaluate(gated(run, gate), None), Reason.INVALID_SPEC)

    assert "it has no Accuracy of a tuned model on these rows" in refused("pvc://work/bare.json")
    assert "there is no report.json" in refused("pvc://work/rows")
    (work / "bare.json").unlink()
    assert read_compared(run.config) == {}


def test_a_training_says_which_gates_the_held_out_rows_are_too_few_for_and_an_identical_one_says_its_own(
    make_config: Any, tmp_path: Path
) -> None:
    from finetune_trainer.training.train import train

    def advice(uid: str, *gates: dict[str, Any]) -> tuple[bool, list[str]]:
        config = make_config(tmp_path, uid=uid, evaluation={"gates": list(gates)} if gates else {})
        result = train(config, None)
        return result.reused, [one.message for one in result.advice if one.reason == "FewRowsForGates"]

    reused, (said,) = advice("uid-1", {"metric": "Accuracy", "minimumGain": "0.1"})
    assert not reused
    assert said.startswith("12 held-out rows are few for what the gates ask: Accuracy minimumGain 0.1 takes 155, and")
    assert advice("uid-2") == (True, [])
    reused, (said,) = advice("uid-3", {"metric": "Accuracy", "minimumGain": "0.15"})
    assert reused
    assert "minimumGain 0.15" in said
