"""A run without a cluster: the very file that kubectl would apply, and the folders that stand for its claims."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from finetune_api.reasons import Reason
from finetune_api.results import StageResult
from finetune_trainer.local_run import local_config, read_job, run_locally, summary
from trainer_inputs import refusal

JOB = """
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: job}
spec:
  model: {source: "pvc://models/tiny"}
  dataset: {source: "pvc://rows"}
  output: {destination: "pvc://out/run"}
"""


def job_file(folder: Path, text: str = JOB) -> Path:
    file = folder / "job.yaml"
    file.write_text(text)
    return file


def mounts(here: Path, *given: str, output: Path | None = None, text: str = JOB) -> dict[str, str]:
    config = local_config(read_job(job_file(here, text)), list(given), output, here)
    return {mount.claim: mount.path for mount in config.mounts}


def test_the_same_file_gives_the_same_run_with_the_operators_defaults(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "rows").mkdir()
    first, second = (local_config(read_job(job_file(tmp_path)), [], None, tmp_path) for _ in range(2))
    assert first == second
    assert (first.spec.training.epochs, first.spec.training.learning_rate) == (3, "2e-4")
    assert first.training_sha256 == first.spec.training_sha256()
    assert first.evaluation_sha256 is None
    assert first.job.uid


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "learningRate: 2e-4",
            "in quotes as",
        ),
        ("learningRte: '2e-4'", "spec.training.learningRte"),
        ("batchSize: 0", "spec.training.batchSize"),
        ("batchSize: 1\n    batchSize: 2", "stands twice"),
    ],
)
def test_what_the_api_server_refuses_is_refused_here(tmp_path: Path, given: str, words: str) -> None:
    file = job_file(tmp_path, f"{JOB}  training:\n    {given}\n")
    assert words in refusal(lambda: read_job(file), Reason.INVALID_SPEC)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    said = refusal(lambda: read_job(tmp_path / "none.yaml"), Reason.INVALID_SPEC)
    assert said.endswith("none.yaml: No such file or directory")
    assert refusal(lambda: read_job(tmp_path), Reason.INVALID_SPEC).endswith(": Is a directory")
    (tmp_path / "job.yaml").write_bytes(b"\xff\xfe\x00")
    assert "can't read" in refusal(lambda: read_job(tmp_path / "job.yaml"), Reason.INVALID_SPEC)


def test_a_claim_is_the_folder_of_its_name_and_the_output_goes_below_runs(tmp_path: Path) -> None:
    for name in ("models", "rows"):
        (tmp_path / name).mkdir()
    expected = {"models": str(tmp_path / "models"), "rows": str(tmp_path / "rows")}
    assert mounts(tmp_path) == {**expected, "out": str(tmp_path / "runs")}
    elsewhere = tmp_path / "elsewhere"
    assert mounts(tmp_path, output=elsewhere) == {**expected, "out": str(elsewhere)}
    (tmp_path / "out").mkdir()
    assert mounts(tmp_path)["out"] == str(tmp_path / "out")
    assert mounts(tmp_path, output=elsewhere)["out"] == str(elsewhere)
    assert mounts(tmp_path, f"rows={elsewhere}")["rows"] == str(elsewhere)


def test_a_claim_of_checkpoints_is_its_folder_or_the_outputs(tmp_path: Path) -> None:
    for name in ("models", "rows"):
        (tmp_path / name).mkdir()
    text = f"{JOB}  training: {{checkpoint: {{claimName: scratch}}}}\n"
    assert mounts(tmp_path, text=text)["scratch"] == str(tmp_path / "runs")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert mounts(tmp_path, f"scratch={elsewhere}", text=text)["scratch"] == str(elsewhere)
    (tmp_path / "scratch").mkdir()
    assert mounts(tmp_path, text=text)["scratch"] == str(tmp_path / "scratch")
    assert mounts(tmp_path, text=text.replace("scratch", "out")) == mounts(tmp_path)


def test_a_claim_without_a_folder_is_named_with_what_would_help(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    text = refusal(lambda: mounts(tmp_path), Reason.INVALID_SPEC)
    assert f"no folder stands for the claim 'rows': {tmp_path / 'rows'} is not there" in text
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("name", "problem"), [("file", "a file is there"), ("file/below", "Not a directory")])
def test_an_output_that_can_be_no_folder_is_told_in_one_line(tmp_path: Path, name: str, problem: str) -> None:
    for folder in ("models", "rows"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").touch()
    said = refusal(lambda: mounts(tmp_path, output=tmp_path / name), Reason.INVALID_SPEC)
    assert said == f"can't make the output's folder {tmp_path / name}: {problem}"


def test_a_claim_that_is_read_from_and_written_to_is_one_folder(tmp_path: Path) -> None:
    text = JOB.replace("pvc://models/tiny", "pvc://out/model").replace("pvc://rows", "pvc://out/rows")
    assert "no folder stands for the claim 'out'" in refusal(lambda: mounts(tmp_path, text=text), Reason.INVALID_SPEC)
    (tmp_path / "out").mkdir()
    assert mounts(tmp_path, text=text) == {"out": str(tmp_path / "out")}
    refused = refusal(lambda: mounts(tmp_path, output=tmp_path / "x", text=text), Reason.INVALID_SPEC)
    assert "--output: the output's claim 'out' is read from, too" in refused


@pytest.mark.parametrize(
    ("number", "reason", "words"),
    [
        (signal.SIGINT, Reason.INTERRUPTED, "train was ended by SIGINT"),
        (signal.SIGKILL, Reason.TRAINER_CRASHED, "train was ended by SIGKILL, perhaps by the kernel"),
        (signal.SIGSEGV, Reason.TRAINER_CRASHED, "train was ended by SIGSEGV"),
    ],
)
def test_a_stage_that_a_signal_ended_without_a_word_is_told_by_the_signals_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, reason: Reason, words: str
) -> None:
    for name in ("models", "rows"):
        (tmp_path / name).mkdir()
    config = local_config(read_job(job_file(tmp_path)), [], None, tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, -number))
    assert words in refusal(lambda: run_locally(config), reason)


@pytest.mark.parametrize("mount", ["work", "work=/no/such/folder", "=/tmp"])
def test_a_mount_must_be_a_claim_and_a_folder(tmp_path: Path, mount: str) -> None:
    assert "must be CLAIM=FOLDER" in refusal(lambda: mounts(tmp_path, mount), Reason.INVALID_SPEC)


def test_two_folders_for_one_claim_are_refused(tmp_path: Path) -> None:
    for name in ("models", "rows", "other"):
        (tmp_path / name).mkdir()
    first, second = f"rows={tmp_path / 'rows'}", f"rows={tmp_path / 'other'}"
    assert mounts(tmp_path, first, first)["rows"] == str(tmp_path / "rows")
    said = refusal(lambda: mounts(tmp_path, first, second), Reason.INVALID_SPEC)
    assert said == f"--mount rows: two folders are given, {tmp_path / 'rows'} and {tmp_path / 'other'}"


def test_a_mount_for_a_claim_that_the_spec_does_not_name_is_refused_with_those_that_it_does(tmp_path: Path) -> None:
    for name in ("models", "rows"):
        (tmp_path / name).mkdir()
    said = refusal(lambda: mounts(tmp_path, f"row={tmp_path}"), Reason.INVALID_SPEC)
    assert said == "--mount row: the spec has no claim of that name, but models, rows, out"


def test_the_end_is_a_short_table(tmp_path: Path) -> None:
    for name in ("models", "rows"):
        (tmp_path / name).mkdir()
    config = local_config(read_job(job_file(tmp_path)), [], None, tmp_path)
    common = {"jobUID": config.job.uid, "trainingSha256": config.training_sha256, "finishedAt": "2026-11-26T00:00:00Z"}
    trained = {
        **common,
        "stage": "Train",
        "dataset": {
            "summary": "9,543 of 10,178 rows, 2.6M tokens",
            "rows": 10178,
            "examples": 9543,
            "dropped": [{"name": "Malformed", "rows": 12}, {"name": "NearDuplicate", "rows": 1623}],
            "provenance": [{"name": "Human", "rows": 9000}, {"name": "Unknown", "rows": 543}],
            "cached": True,
        },
        "training": {"steps": 40, "runtimeSeconds": 62, "runtime": "1m 02s", "firstLoss": "2.1", "finalLoss": "0.3"}
        | {"microBatchSize": 2, "outOfMemoryRetries": 1, "validationLoss": "0.4", "bestStep": 20, "stoppedEarly": True}
        | {"retention": [{"step": step, "perplexity": text} for step, text in ((0, "9"), (20, "9.5"), (40, "12"))]},
        "memory": {"summary": "1.3/79 GiB (1.7%)"},
        "adapter": {"uri": "pvc://out/run/0123/adapter", "sha256": "a" * 64, "sizeBytes": 1, "files": 1},
        "advice": [{"reason": "WarmupCut", "message": "5 were asked for"}],
    }
    accuracy = {
        "name": "Accuracy",
        "base": {"value": "0.25", "interval95": {"low": "0.2", "high": "0.3"}},
        "tuned": {"value": "0.5"},
        "pValue": "0.01",
    }
    adjusted = {"name": "Accuracy", "tuned": {"value": "0.5"}, "pValue": "0.01", "adjustedPValue": "0.03"}
    letters = {"name": "LetterAccuracy", "omitted": "keys share a token"}
    scored = {
        **common,
        "stage": "Evaluate",
        "evaluation": {
            "summary": "0.25→0.50",
            "examples": 12,
            "metrics": [accuracy, letters],
            "slices": [{"name": "topic=heart", "examples": 7, "warning": "few", "metrics": [adjusted]}],
            "gates": [
                {"metric": "Accuracy", "verdict": "Passed", "message": "tuned 0.5 [0.4, 0.6], minimum 0.3, n=12"}
            ],
            "reportURI": "pvc://out/run/0123/evaluations/4567/report.json",
        },
    }
    lines = summary(config, [StageResult.model_validate(trained), StageResult.model_validate(scored)])
    assert lines == [
        "",
        "rows            9,543 of 10,178 rows, 2.6M tokens  prepared by an earlier run",
        "left out        12 malformed, 1,623 near duplicate",
        "from            9,000 Human, 543 Unknown",
        "steps           40  loss 2.1 → 0.3",
        "micro-batch     2 rows at a time  GPU memory ran out 1×",
        "validation      loss 0.4  with the weights of step 20  stopped early",
        "retention       perplexity 9 → 9.5",
        "time            1m 02s",
        "memory          1.3/79 GiB (1.7%)",
        "examples        12",
        "Accuracy        base 0.25 [0.2, 0.3]  tuned 0.5  p = 0.01",
        "LetterAccuracy  left out: keys share a token",
        "slice           topic=heart  7 examples  few",
        "  Accuracy      tuned 0.5  p = 0.01  (0.03 adjusted for the number of slices)",
        "gate            Accuracy Passed: tuned 0.5 [0.4, 0.6], minimum 0.3, n=12",
        "advice: 5 were asked for",
        f"adapter: {tmp_path}/runs/run/0123/adapter",
        f"report: {tmp_path}/runs/run/0123/evaluations/4567/report.json",
    ]


@pytest.mark.parametrize(
    ("verdicts", "code", "words"),
    [
        (["Passed", "Passed"], 0, ""),
        (["Passed", "Inconclusive"], 80, "GatesInconclusive: 1 of 2 gates: Accuracy Inconclusive; take more held-out"),
        (["Failed", "Inconclusive"], 79, "GatesFailed: 1 of 2 gates: Accuracy Failed; train otherwise, or change"),
        ([], 80, "GatesInconclusive: the trainer judged 0 of 2 gates"),
    ],
)
def test_gates_that_did_not_pass_end_a_run_with_an_exit_code_of_their_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdicts: list[str],
    code: int,
    words: str,
) -> None:
    for name in ("models", "rows"):
        (tmp_path / name).mkdir()
    gate = '{metric: Accuracy, minimum: "0.4"}'
    text = f'{JOB}  evaluation: {{dataset: {{source: "pvc://rows", split: dev}}, gates: [{gate}, {gate}]}}\n'
    config = local_config(read_job(job_file(tmp_path, text)), [], None, tmp_path)

    def stage(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        """Ends well, as each stage does whatever its gates say."""
        name, sections = "Train", {}
        if "evaluate" in command:
            gates = [{"metric": "Accuracy", "verdict": one} for one in verdicts]
            name, sections = "Evaluate", {"evaluation": {"summary": "0.41→0.45", "examples": 12, "gates": gates}}
        head = {"stage": name, "jobUID": config.job.uid, "trainingSha256": config.training_sha256}
        message = Path(command[command.index("--termination-log") + 1])
        message.write_text(json.dumps({**head, "finishedAt": "2026-11-26T00:00:00Z", **sections}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", stage)
    assert run_locally(config) == code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(words) if words else "Gates" not in last
