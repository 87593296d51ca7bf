"""An evaluation measured again: the same figures from the same things, and a clear word where a thing is another."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.cli import main
from finetune_trainer.finished_evaluation import find_evaluation
from finetune_trainer.reevaluation import config_again
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import sha256_of_file

BOTH = "[0-9a-f]{12} then, [0-9a-f]{12} now"
DIGESTS = rf"\(sha256 {BOTH}\)"


@pytest.fixture
def copy(run: Any, tmp_path: Path) -> Path:
    """The run's folder in a copy of its claim, rows included."""
    claim = tmp_path / "moved"
    shutil.copytree(run.config.mounts[0].path, claim)
    return claim / run.folder.relative_to(run.config.mounts[0].path)


def verify(run: Any, place: Path) -> int:
    models = next(mount for mount in run.config.mounts if mount.claim == "models")
    return main(["verify", str(place), f"--mount=models={models.path}"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def edit(file: Path, change: Any) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def report_of(run: Any, folder: Path) -> Path:
    return folder / "evaluations" / run.evaluation_folder.name / "report.json"


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_figures_that_come_out_again_hold_and_nothing_of_the_run_changes(
    run: Any, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy.parent)
    assert verify(run, report_of(run, copy)) == 0
    lines = said(capsys)
    assert lines[0].split() == ["metric", "base", "then", "base", "now", "tuned", "then", "tuned", "now"]
    assert run.evaluation.evaluation
    metrics = run.evaluation.evaluation.metrics
    shown = {line.split()[0]: line.split()[1:] for line in lines[1 : len(metrics) + 1]}
    assert list(shown) == [metric.name for metric in metrics]
    for metric in metrics:
        assert metric.base
        assert metric.tuned
        assert [shown[metric.name][place] for place in (0, 2)] == [metric.base.value, metric.tuned.value]
    assert lines[-1] == "holds: every figure of 12 rows is equal within 0.0001"
    assert contents(copy.parent) == before


def test_a_runs_folder_stands_for_its_newest_evaluation_and_an_edited_figure_does_not_hold(
    run: Any, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def improve(document: dict[str, Any]) -> None:
        document["evaluation"]["metrics"][0]["tuned"]["value"] = "0.99"

    edit(report_of(run, copy), improve)
    assert verify(run, copy) == 72
    assert run.evaluation.evaluation
    tuned = run.evaluation.evaluation.metrics[0].tuned
    name = run.evaluation.evaluation.metrics[0].name
    assert tuned
    lines = said(capsys)
    assert lines[lines.index("does not hold:") + 1 :] == [
        f"  {name} tuned: 0.99 in report.json, {tuned.value} in result.json",
        f"  {name} tuned: 0.99 then, {tuned.value} now",
    ]


def test_a_damaged_adapter_is_told_before_anything_is_loaded(
    run: Any, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = copy / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert verify(run, copy) == 72
    out, log = capfd.readouterr()
    assert_one_line(out, f"EvaluationFailed: the adapter is damaged: adapter_model.safetensors {DIGESTS}")
    assert "loading" not in log


def test_another_adapter_in_its_place_is_told_by_the_digests_of_both(
    run: Any, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = copy / "adapter" / "README.md"
    readme.write_text("another")

    def describe(document: dict[str, Any]) -> None:
        document["files"]["README.md"] = {"sha256": sha256_of_file(readme), "sizeBytes": 7}

    edit(copy / "adapter" / "manifest.json", describe)
    assert verify(run, copy) == 72
    assert_one_line(
        capsys.readouterr().out, f"EvaluationFailed: the adapter is not the one that was evaluated {DIGESTS}"
    )


def test_other_held_out_rows_are_told_by_the_digests_of_both(
    run: Any, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = copy.parent.parent / "rows" / "test.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    assert verify(run, copy) == 67
    assert_one_line(
        capsys.readouterr().out, f"DatasetInvalid: the held-out rows are not those of the evaluation {DIGESTS}"
    )


def test_another_model_is_told_by_the_digests_of_both(
    run: Any, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "models" / tiny_model.name)
    edit(tmp_path / "models" / tiny_model.name / "config.json", lambda document: document.update(rms_norm_eps=1e-3))
    assert main(["verify", str(copy), f"--mount=models={tmp_path / 'models'}"]) == 65
    assert_one_line(
        capsys.readouterr().out, f"ModelNotFound: the base model is not the one of the evaluation {DIGESTS}"
    )


def test_a_spec_that_was_edited_is_not_taken_for_the_evaluations(
    run: Any, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(report_of(run, copy).with_name("spec.json"), lambda document: document["evaluation"].update(maxNewTokens=8))
    assert verify(run, copy) == 64
    assert_one_line(
        capsys.readouterr().out,
        rf"InvalidSpec: spec.json is not the spec that was evaluated \(evaluationSha256 {BOTH}\)",
    )


def assert_one_line(out: str, start: str) -> None:
    (line,) = out.splitlines()
    assert re.match(start, line), line


def test_the_evaluations_own_spec_counts_and_the_runs_where_it_left_none(run: Any, copy: Path, tmp_path: Path) -> None:
    models = {"models": Path(run.config.mounts[1].path)}
    assert run.config.mounts[1].claim == "models"
    own = report_of(run, copy).with_name("spec.json")
    kept = own.read_bytes()
    own.unlink()
    found = find_evaluation(copy)
    assert config_again(found, models, tmp_path).evaluation_sha256 == run.config.evaluation_sha256
    edit(copy / "spec.json", lambda document: document["evaluation"].update(maxNewTokens=8))
    with pytest.raises(StageError, match="not the spec that was evaluated"):
        config_again(found, models, tmp_path)
    own.write_bytes(kept)
    assert config_again(found, models, tmp_path).evaluation_sha256 == run.config.evaluation_sha256


def test_a_run_that_was_copied_without_its_claim_asks_for_the_folder_of_its_rows(
    run: Any, copy: Path, tmp_path: Path
) -> None:
    models = {"models": Path(run.config.mounts[1].path)}
    alone = tmp_path / "alone"
    copy.rename(alone)
    with pytest.raises(StageError, match="no folder stands for the claim 'work'"):
        config_again(find_evaluation(alone), models, tmp_path)
    config = config_again(find_evaluation(alone), {**models, "work": tmp_path / "moved"}, tmp_path)
    assert {mount.claim: mount.path for mount in config.mounts}["work"] == str(tmp_path / "moved")


@pytest.mark.parametrize("name", ["nothing", "adapter", "rows"])
def test_a_place_without_an_evaluation_is_named(run: Any, copy: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "rows").mkdir()
    place = copy / "adapter" if name == "adapter" else tmp_path / name
    with pytest.raises(StageError, match=name) as caught:
        find_evaluation(place)
    assert caught.value.reason is Reason.INVALID_SPEC


def test_a_report_that_cannot_be_read_is_named(run: Any, copy: Path) -> None:
    report_of(run, copy).write_text("{")
    with pytest.raises(StageError, match=r"can't read .*report\.json: it is no evaluation's report"):
        find_evaluation(copy)
