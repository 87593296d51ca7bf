"""A job without training rows: it evaluates an adapter that was made elsewhere, as the job that trained it did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.cli import main
from finetune_trainer.evaluation.evaluate import evaluate
from trainer_inputs import refusal, run_config

MakeAlone = Callable[..., RunConfig]


@pytest.fixture
def claim(run: Any, tmp_path: Path) -> Path:
    """The held-out rows on a claim of this test's own, and the adapter that the run left."""
    work = tmp_path / "work"
    shutil.copytree(Path(run.config.mounts[0].path) / "rows", work / "rows")
    shutil.copytree(run.adapter, work / "theirs")
    return work


@pytest.fixture
def make_alone(run: Any, claim: Path, tiny_model: Path) -> MakeAlone:
    """A job that evaluates what lies in ``theirs``; sections are merged into the spec's."""

    def make(uid: str = "uid-2", **sections: Any) -> RunConfig:
        document: dict[str, Any] = {
            "model": {
                "source": f"pvc://models/{tiny_model.name}",
                "maxSequenceLength": 192,
                "adapter": {"source": "pvc://work/theirs"},
            },
            "evaluation": {"dataset": {"source": "pvc://work/rows"}, "samplePrompts": 3, "maxNewTokens": 24},
            "output": {"destination": "pvc://work/scores"},
            "runtime": {"gpusPerNode": 0},
        }
        for name, section in sections.items():
            document[name] = {**document.get(name, {}), **section} if isinstance(section, dict) else section
        return run_config(document, {"work": claim, "models": tiny_model.parent}, uid)

    return make


def place_of(config: RunConfig, claim: Path) -> Path:
    assert config.evaluation_sha256
    return claim / "scores" / config.training_sha256[:12] / "evaluations" / config.evaluation_sha256[:12]


def report_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def rows_of(folder: Path) -> list[str]:
    """The report's rows as they are written."""
    return [json.dumps(row) for row in report_in(folder)["rows"]]


def without_what_only_we_write(folder: Path) -> None:
    """What remains is what PEFT's own save_pretrained leaves: no manifest, no tokenizer."""
    for file in folder.iterdir():
        if file.name not in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
            file.unlink()


def edited(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_every_row_is_scored_as_by_the_job_that_trained_the_adapter(
    run: Any, make_alone: MakeAlone, claim: Path
) -> None:
    config = make_alone()
    result = evaluate(config, None)
    place = place_of(config, claim)
    theirs, ours = run.evaluation.evaluation, result.evaluation
    assert ours
    assert rows_of(place) == rows_of(run.evaluation_folder)
    assert report_in(place)["samples"] == report_in(run.evaluation_folder)["samples"]
    assert (ours.metrics, ours.summary, ours.samples) == (theirs.metrics, theirs.summary, theirs.samples)
    assert ours.report_uri == f"pvc://work/scores/{'/'.join(place.parts[-3:])}/report.json"
    assert sorted(file.name for file in place.iterdir()) == [
        "report.html",
        "report.json",
        "result.json",
        "run.lock.json",
        "spec.json",
    ]
    assert [entry.name for entry in place.parent.parent.iterdir()] == ["evaluations"]


def test_what_nobody_knows_of_the_training_is_left_open(run: Any, make_alone: MakeAlone, claim: Path) -> None:
    """The trained run's rows ask what its held-out rows ask. Here nothing tells on what the adapter was trained."""
    assert run.evaluation.evaluation.shared_examples > 0
    config = make_alone(evaluation={"samplePrompts": 0, "metrics": ["LetterAccuracy"]})
    result = evaluate(config, None)
    assert result.evaluation
    assert result.lineage
    assert result.evaluation.shared_examples is None
    assert "sharedExamples" not in report_in(place_of(config, claim))["evaluation"]
    assert (result.lineage.seed, result.lineage.dataset_sha256) == (None, None)
    assert result.lineage.model_sha256 == run.training.lineage.model_sha256
    assert result.lineage.adapter_sha256


def test_an_adapter_of_plain_peft_is_read_with_the_tokenizer_of_its_base(
    run: Any, make_alone: MakeAlone, claim: Path
) -> None:
    without_what_only_we_write(claim / "theirs")
    config = make_alone()
    evaluate(config, None)
    assert rows_of(place_of(config, claim)) == rows_of(run.evaluation_folder)


def test_an_identical_job_finds_the_result_and_another_adapter_at_the_same_place_is_evaluated_anew(
    make_alone: MakeAlone, claim: Path
) -> None:
    quick = {"samplePrompts": 0, "metrics": ["LetterAccuracy"]}
    first, second, third = (make_alone(uid, evaluation=quick) for uid in ("uid-2", "uid-3", "uid-4"))
    result = evaluate(first, None)
    again = evaluate(first, None)
    assert (again.reused, again.evaluation) == (False, result.evaluation)
    reused = evaluate(second, None)
    assert (reused.reused, reused.job_uid, reused.evaluation) == (True, "uid-3", result.evaluation)
    edited(claim / "theirs" / "adapter_config.json", lora_alpha=1)
    fresh = evaluate(third, None)
    assert not fresh.reused
    assert result.lineage
    assert fresh.lineage
    assert fresh.lineage.adapter_sha256 != result.lineage.adapter_sha256
    assert place_of(first, claim).with_name(f"{place_of(first, claim).name}-uid-4").is_dir()


def test_the_adapter_of_another_base_is_refused_before_the_base_is_loaded(
    make_alone: MakeAlone, claim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    weights = claim / "theirs" / "adapter_model.safetensors"
    tensors = load_file(weights)
    good = dict(tensors)
    name = next(iter(sorted(tensors)))
    cases = {
        "size mismatch": {key: value.repeat(1, 2) if "lora_A" in key else value for key, value in good.items()},
        "lacks": {key: value for key, value in good.items() if ".layers.1." not in key},
        "has": {**good, name.replace("layers.0", "layers.7"): good[name].clone()},
    }
    for words, broken in cases.items():
        save_file({key: value.contiguous() for key, value in broken.items()}, weights)
        said = refusal(lambda: evaluate(make_alone(), None), Reason.INVALID_SPEC)
        assert "spec.model.adapter" in said, said
        assert "does not fit spec.model.source" in said, said
        assert words in said
    edited(claim / "theirs" / "adapter_config.json", target_modules=["c_attn"])
    assert "c_attn" in refusal(lambda: evaluate(make_alone(), None), Reason.INVALID_SPEC)
    assert "loading" not in capsys.readouterr().out
    assert not (claim / "scores").is_dir() or not list((claim / "scores").iterdir())


def test_an_adapter_that_is_none_or_spoilt_is_told(make_alone: MakeAlone, claim: Path) -> None:
    from safetensors.torch import load_file, save_file

    theirs = claim / "theirs"
    weights = theirs / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] * float("nan")}, weights)
    assert f"{name} holds numbers that are not finite" in refusal(
        lambda: evaluate(make_alone(), None), Reason.MODEL_NOT_FOUND
    )
    weights.write_bytes(b"no weights")
    assert "can't be read" in refusal(lambda: evaluate(make_alone(), None), Reason.MODEL_NOT_FOUND)
    edited(theirs / "adapter_config.json", peft_type="IA3")
    (theirs / "adapter_config.json").unlink()
    assert "has no adapter_config.json" in refusal(lambda: evaluate(make_alone(), None), Reason.MODEL_NOT_FOUND)
    shutil.rmtree(theirs)
    assert "is not there" in refusal(lambda: evaluate(make_alone(), None), Reason.MODEL_NOT_FOUND)


def test_a_base_of_another_name_is_advice(make_alone: MakeAlone, claim: Path) -> None:
    edited(claim / "theirs" / "adapter_config.json", base_model_name_or_path="owner/another")
    result = evaluate(make_alone(evaluation={"samplePrompts": 0, "metrics": ["LetterAccuracy"]}), None)
    (found,) = [one for one in result.advice if one.reason == "OtherBaseName"]
    assert found.message.startswith("the adapter says that its base is owner/another")


def test_the_full_method_evaluates_the_model_itself(make_alone: MakeAlone, run: Any, tiny_model: Path) -> None:
    config = make_alone(
        method="Full",
        model={"adapter": None},
        evaluation={"compareWithBase": False, "samplePrompts": 0, "metrics": ["LetterAccuracy"]},
    )
    result = evaluate(config, None)
    assert result.evaluation
    (metric,) = result.evaluation.metrics
    assert metric.base is None
    assert metric.tuned


def test_the_figures_can_be_verified_and_another_adapter_in_its_place_is_told(
    make_alone: MakeAlone, claim: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_alone(evaluation={"samplePrompts": 0})
    evaluate(config, None)
    place, models = place_of(config, claim), f"--mount=models={tiny_model.parent}"
    for named in (place, place / "report.json", place.parent.parent):
        capsys.readouterr()
        assert main(["verify", str(named), models]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("holds: every figure of 12 rows")
    edited(claim / "theirs" / "adapter_config.json", lora_alpha=1)
    assert main(["verify", str(place), models]) == 65
    assert "the adapter is not the one of the evaluation" in capsys.readouterr().out


def test_such_runs_are_compared_with_others(
    run: Any, make_alone: MakeAlone, claim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_alone(evaluation={"samplePrompts": 0, "metrics": ["LetterAccuracy"]})
    evaluate(config, None)
    capsys.readouterr()
    folder = place_of(config, claim).parent.parent
    assert main(["compare", str(folder), str(run.folder)]) == 0
    assert config.training_sha256[:12] in capsys.readouterr().out
    assert main(["compare", str(folder.parent), str(run.folder), "--json"]) == 0
    one, other = json.loads(capsys.readouterr().out)["runs"]
    assert set(one) == {"name", "folder", "evaluation"}
    assert {"training", "adapter", "evaluation"} <= set(other)


JOB = """
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: alone}
spec:
  model: {source: "pvc://models/MODEL", maxSequenceLength: 192, adapter: {source: "pvc://work/theirs"}}
  evaluation:
    dataset: {source: "pvc://work/rows"}
    metrics: [LetterAccuracy]
    samplePrompts: 0
  output: {destination: "pvc://work/scores"}
  runtime: {gpusPerNode: 0}
"""


@pytest.fixture
def command(claim: Path, tiny_model: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs a command of finetune on the job's file."""
    file = tmp_path / "alone.yaml"
    file.write_text(JOB.replace("MODEL", tiny_model.name))

    def call(name: str, *options: str) -> int:
        mounts = [f"--mount=models={tiny_model.parent}", f"--mount=work={claim}"]
        return main([name, str(file), *mounts, *options])

    return call


def test_it_runs_from_its_file_and_is_looked_at_before(
    command: Callable[..., int], claim: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("plan") == 0
    shown = {line.split("  ")[0]: line for line in capfd.readouterr().out.splitlines()}
    assert "nothing: the job has no dataset, and evaluates alone" in shown["trained"]
    assert "pvc://work/theirs" in shown["evaluated"]
    assert "12 of test.jsonl" in shown["held-out rows"]
    assert not (claim / "scores").exists()
    assert command("run") == 0
    out = capfd.readouterr().out
    assert "scoring the base model on 12 rows" in out
    assert "training" not in out
    assert "LetterAccuracy" in out.splitlines()[-3]
    assert out.splitlines()[-2].startswith(f"report: {claim}/scores/")


def test_its_rows_are_shown_as_what_is_scored(command: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert command("data", "--json") == 0
    (name, found), *others = json.loads(capfd.readouterr().out).items()
    assert (name, found["source"], found["rows"], others) == ("evaluation", "test.jsonl", 12, [])
    assert command("data") == 0
    assert "nothing: the job has no dataset" in capfd.readouterr().out


def test_an_adapter_of_another_base_ends_a_run_with_the_code_of_a_wrong_spec(
    command: Callable[..., int], claim: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    edited(claim / "theirs" / "adapter_config.json", r=4)
    assert command("plan") == 64
    assert command("run") == 64
    (line,) = [one for one in capfd.readouterr().out.splitlines() if one.startswith("InvalidSpec")][1:]
    assert "does not fit spec.model.source" in line
    assert "name the base model that it was trained on" in line
