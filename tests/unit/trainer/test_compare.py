"""Runs side by side: which are found, in what their specs differ, and what is shown of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_api.spec_file import spec_text
from finetune_trainer.cli import main
from finetune_trainer.finished_runs import find_runs, newest_evaluation
from finetune_trainer.run_comparison import compare, short_names
from trainer_inputs import make_config, refusal, run_config

GPU_RESULTS = Path(__file__).parents[2] / "data/gpu_results"
TRAINING = {
    "steps": 40,
    "runtimeSeconds": 62,
    "runtime": "1m 02s",
    "firstLoss": "2.1",
    "finalLoss": "0.3",
    "trainableParameters": 25600,
    "totalParameters": 3245696,
    "microBatchSize": 4,
    "optimizer": "AdamW",
    "dtype": "float32",
    "engine": "Unsloth",
}
ACCURACY = {
    "name": "Accuracy",
    "base": {"value": "0.25", "interval95": {"low": "0.2", "high": "0.3"}},
    "tuned": {"value": "0.5", "interval95": {"low": "0.4", "high": "0.6"}},
    "pValue": "0.01",
}
SPEC: dict[str, Any] = {
    "model": {"source": "pvc://work/model"},
    "dataset": {"source": "pvc://work/rows"},
    "lora": {"rank": 8},
    "output": {"destination": "pvc://work/out"},
}


def result(stage: str = "Train", day: int = 1, **sections: Any) -> str:
    common = {"jobUID": "uid-1", "trainingSha256": "a" * 64, "finishedAt": f"2026-11-{day:02}T00:00:00Z"}
    return json.dumps({**common, "stage": stage, **sections})


def make_run(folder: Path, spec: dict[str, Any] | None = None, day: int = 1, **training: Any) -> Path:
    folder.mkdir(parents=True)
    sections = {
        "training": {**TRAINING, **training},
        "memory": {"summary": "1.3/79 GiB (1.7%)"},
        "adapter": {"uri": "pvc://work/out/a/adapter", "sha256": "b" * 64, "sizeBytes": 2_500_000, "files": 6},
    }
    (folder / "result.json").write_text(result(day=day, **sections))
    if spec is not None:
        (folder / "spec.json").write_text(spec_text(run_config(spec, {}).spec))
    return folder


def evaluate(run: Path, name: str, day: int, rows: str = "c", retention: Any = None, **metric: Any) -> None:
    folder = run / "evaluations" / name
    folder.mkdir(parents=True)
    evaluation = {"summary": "0.25→0.50", "examples": 12, "metrics": [{**ACCURACY, **metric}], "retention": retention}
    lineage = {"evaluationDatasetSha256": rows * 64}
    text = result("Evaluate", day, evaluation=evaluation, lineage=lineage, evaluationSha256="d" * 64)
    (folder / "result.json").write_text(text)


def differences(*specs: dict[str, Any], folder: Path) -> dict[str, tuple[Any, ...]]:
    runs = find_runs([make_run(folder / str(number), spec) for number, spec in enumerate(specs)])
    return {one.field: one.values for one in compare(runs).differences or ()}


def test_a_run_is_found_by_its_folder_by_its_result_and_below_its_destination(tmp_path: Path) -> None:
    older, newer = make_run(tmp_path / "out" / "b", day=1), make_run(tmp_path / "out" / "a", day=2)
    (tmp_path / "out" / "latest").symlink_to("a")
    (tmp_path / "out" / "row-cache").mkdir()
    assert [run.folder for run in find_runs([newer])] == [newer]
    assert [run.folder for run in find_runs([older / "result.json"])] == [older]
    assert [run.folder for run in find_runs([tmp_path / "out" / "latest"])] == [newer]
    assert [run.folder for run in find_runs([tmp_path / "out"])] == [older, newer]
    assert [run.folder for run in find_runs([newer, tmp_path / "out"])] == [newer, older]
    assert [run.folder for run in find_runs(sorted((tmp_path / "out").iterdir()))] == [newer, older]  # out/*


def test_what_holds_no_finished_training_is_refused_with_what_to_name_instead(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out" / "a")
    evaluate(run, "e", day=2)
    failed = tmp_path / "failed"
    failed.mkdir()
    failure = {"reason": "LossDiverged", "message": "nan"}
    (failed / "result.json").write_text(result(failure=failure))
    (tmp_path / "out" / "a" / "notes.txt").write_text("{}")
    assert refusal(lambda: find_runs([tmp_path / "none"]), Reason.INVALID_SPEC) == f"{tmp_path}/none is not there"
    for place in (failed, run / "evaluations" / "e" / "result.json", run / "notes.txt", run / "evaluations"):
        assert refusal(lambda place=place: find_runs([place]), Reason.INVALID_SPEC) == (  # type: ignore[misc]
            f"{place} holds no finished training or evaluation"
        )


def test_the_newest_evaluation_of_a_run_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    evaluate(run, "z", day=2, pValue="0.5")
    evaluate(run, "y", day=3, pValue="0.02")
    evaluation = find_runs([run])[0].evaluation
    assert evaluation
    assert evaluation.evaluation
    assert evaluation.evaluation.metrics[0].p_value == "0.02"


def test_an_evaluation_of_another_training_is_none_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    evaluate(run, "z", day=2)
    evaluate(run, "y", day=3)
    other = run / "evaluations" / "y" / "result.json"
    other.write_text(other.read_text().replace("a" * 64, "b" * 64))
    evaluation = find_runs([run])[0].evaluation
    assert evaluation
    assert newest_evaluation(run, "a" * 64) == (run / "evaluations" / "z", evaluation)
    newest = newest_evaluation(run)
    assert newest
    assert newest[0].name == "y"


def test_specs_differ_field_by_field_and_only_in_what_they_mean(tmp_path: Path) -> None:
    first = {**SPEC, "training": {"learningRate": "2e-4", "maxSteps": 40}}
    second = {**SPEC, "lora": {"rank": 16}, "training": {"learningRate": "0.0002", "epochs": 2}}
    second["output"] = {"destination": "pvc://work/elsewhere"}
    assert differences(first, second, folder=tmp_path) == {
        "lora.rank": (8, 16),
        "training.maxSteps": (40, None),
        "training.epochs": (None, 2),
    }


def test_a_part_that_one_spec_lacks_is_one_difference(tmp_path: Path) -> None:
    evaluation = {"dataset": {"source": "pvc://work/test"}}
    found = differences(SPEC, {**SPEC, "evaluation": evaluation}, folder=tmp_path)
    assert set(found) == {"evaluation"}
    assert found["evaluation"][0] is None
    assert found["evaluation"][1]["dataset"]["source"] == "pvc://work/test"


def test_a_method_without_an_adapter_is_compared_too(tmp_path: Path) -> None:
    full = {name: section for name, section in SPEC.items() if name != "lora"} | {"method": "Full"}
    found = differences(SPEC, full, folder=tmp_path)
    assert set(found) == {"method", "lora", "training.learningRate"}
    assert found["method"] == ("QLoRA", "Full")
    assert found["lora"][1] is None


def test_datasets_of_a_mixture_are_compared_by_name(tmp_path: Path) -> None:
    def mixture(weight: str) -> dict[str, Any]:
        other = {"name": "more", "source": "pvc://work/more", "weight": weight}
        return {**SPEC, "dataset": {**SPEC["dataset"], "weight": "1", "mixture": [other]}}

    assert differences(mixture("1"), mixture("3"), folder=tmp_path) == {"dataset.mixture[more].weight": ("1", "3")}


def test_names_are_as_short_as_tells_runs_apart() -> None:
    assert short_names([Path("/x/out/a"), Path("/x/out/b")]) == ["a", "b"]
    assert short_names([Path("/x/one/a"), Path("/x/two/a")]) == ["one/a", "two/a"]
    assert short_names([Path("/x/out/a")]) == ["a"]


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main(["compare", *map(str, arguments)]) == 0
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_the_table_has_a_column_for_each_run_below_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    first = make_run(tmp_path / "first", SPEC)
    second = make_run(tmp_path / "second", {**SPEC, "lora": {"rank": 16}}, day=2, finalLoss="0.2", outOfMemoryRetries=2)
    kept = {"name": "Perplexity", "tuned": {"value": "9.5"}}
    evaluate(first, "e", day=3, retention={"examples": 5, "metrics": [kept]})
    lines = shown(capsys, first, second)
    cells = {line[:22].strip(): line[22:].split("  ") for line in lines if line}
    told = {name: [cell.strip() for cell in row if cell.strip()] for name, row in cells.items()}
    assert told["lora.rank"] == ["8", "16"]
    assert told["run"] == ["first", "second"]
    assert told["final loss"] == ["0.3", "0.2"]
    assert told["trainable parameters"] == ["25,600", "25,600"]
    assert told["out of GPU memory"] == ["–", "2×"]
    assert told["adapter"] == ["2.5 MB", "2.5 MB"]
    assert told["Accuracy tuned"] == ["0.500 [0.400, 0.600]", "–"]
    assert told["Accuracy p"] == ["0.01", "–"]
    assert any(line.split() == ["retention", "Perplexity", "tuned", "9.5", "–"] for line in lines)
    assert lines[0].split() == ["spec", "first", "second"]


def test_a_run_without_its_spec_is_compared_by_what_it_came_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "old")
    make_run(tmp_path / "new", SPEC, day=2)
    make_run(tmp_path / "torn", day=3)
    (tmp_path / "torn" / "spec.json").write_text('{"model":')
    lines = shown(capsys, tmp_path)
    assert " ".join(lines[:2]).strip() == (
        "without spec.json, so that nothing is told of what was asked for: old, torn"
    )
    assert not any(line.startswith(("spec", "the specs")) for line in lines)
    assert any(line.split() == ["steps", "40", "40", "40"] for line in lines)


def test_runs_of_one_spec_are_said_to_be_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        make_run(tmp_path / name, SPEC)
    assert shown(capsys, tmp_path)[0] == "the specs are the same"


def test_metrics_on_different_held_out_rows_are_said_not_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, rows in (("a", "1"), ("b", "2")):
        evaluate(make_run(tmp_path / name, SPEC), "e", day=2, rows=rows)
    assert "the runs were scored on different held-out rows" in shown(capsys, tmp_path)[0]


def test_json_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = make_run(tmp_path / "first", SPEC)
    second = make_run(tmp_path / "second", {**SPEC, "lora": {"rank": 16}}, day=2)
    evaluate(second, "e", day=3)
    document = json.loads("\n".join(shown(capsys, first, second, "--json")))
    assert document["differences"] == [{"field": "lora.rank", "values": [8, 16]}]
    assert document["notes"] == []
    assert [run["name"] for run in document["runs"]] == ["first", "second"]
    one, other = document["runs"]
    assert one["training"] == {**TRAINING, **one["training"]}
    assert one["adapter"]["sizeBytes"] == 2_500_000
    assert "evaluation" not in one
    assert other["evaluation"]["metrics"] == [ACCURACY]


def test_a_wrong_path_ends_with_one_line_and_the_code_of_a_wrong_spec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(tmp_path / "none")]) == 64
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"InvalidSpec: {tmp_path}/none is not there; name a run's folder")


def test_a_spec_of_an_earlier_version_has_the_defaults_of_what_it_lacks(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name, SPEC) for name in "ab")
    document = json.loads((first / "spec.json").read_text())
    del document["lora"]["bias"]
    (first / "spec.json").write_text(json.dumps(document))
    assert compare(find_runs([first, second])).differences == ()


def test_a_spec_file_holds_nothing_of_where_a_run_computes_and_writes(tmp_path: Path) -> None:
    document = json.loads(spec_text(make_config(tmp_path).spec))
    assert set(document) == {"method", "model", "dataset", "lora", "training"}
    assert document["training"]["epochs"] == 3


def test_what_guards_did_to_runs_on_a_gpu_stands_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("float16", "shared-gpu", "capped-memory"):
        (tmp_path / name).mkdir()
        shutil.copyfile(GPU_RESULTS / f"{name}.json", tmp_path / name / "result.json")
    lines = shown(capsys, *(tmp_path / name for name in ("float16", "shared-gpu", "capped-memory")))
    told = {line[:22].strip(): line[22:].split("  ") for line in lines if line}
    cells = {name: [cell.strip() for cell in row if cell.strip()] for name, row in told.items()}
    assert cells["dtype"] == ["float16", "bfloat16", "bfloat16"]
    assert cells["micro-batch"] == ["8", "22", "32"]
    assert cells["checkpointing"] == ["Disabled", "Unsloth", "Disabled"]
    assert cells["attention"] == ["cuDNN"] * 3
    assert cells["out of GPU memory"] == ["–", "–", "1×"]
    assert cells["peak memory"] == ["2.2/79 GiB (2.8%)", "3.9/79 GiB (5.0%)", "6.0/79 GiB (7.5%)"]
