"""The command as the operator runs it: exit code, termination message, and how fast a mistake ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason, exit_code
from finetune_api.results import StageResult
from finetune_api.run_folder import ROW_CACHE
from finetune_api.termination import decode

COMMAND = [sys.executable, "-m", "finetune_trainer"]


def arguments(config: RunConfig, folder: Path, stage: str = "train") -> list[str]:
    file = folder / "config.json"
    file.write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    return [*COMMAND, stage, "--config", str(file), "--termination-log", str(folder / "message")]


def run_stage(config: RunConfig, folder: Path) -> tuple[int, StageResult, str]:
    done = subprocess.run(arguments(config, folder), capture_output=True, text=True, timeout=300, check=False)
    result = decode((folder / "message").read_text())
    assert result, done.stderr
    return done.returncode, result, done.stdout


def write_job(config: RunConfig, folder: Path) -> list[str]:
    """A job's file, and the arguments that name it and the folders of its claims."""
    job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "tiny"}}
    job["spec"] = config.spec.to_api()
    (folder / "job.yaml").write_text(json.dumps(job))
    return [str(folder / "job.yaml"), *(f"--mount={mount.claim}={mount.path}" for mount in config.mounts)]


def test_a_bad_row_ends_the_stage_before_anything_heavy_is_imported(make_config: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    rows = tmp_path / "rows" / "test.jsonl"
    bad = {**json.loads(rows.read_text().splitlines()[0]), "answer_idx": "Q"}
    rows.write_text(rows.read_text() + json.dumps(bad) + "\n")
    code, result, output = run_stage(config, tmp_path)
    assert code == 67
    assert result.failure
    assert result.failure.reason == Reason.DATASET_INVALID
    assert "test.jsonl row 13: column 'answer_idx': 'Q' is none of the letters A, B, C, D" in result.failure.message
    assert "loading" not in output
    assert (result.job_uid, result.stage) == ("uid-1", "Train")


def test_a_wrong_model_path_says_where_it_looked(make_config: Any, tmp_path: Path) -> None:
    code, result, _ = run_stage(make_config(tmp_path, model=tmp_path / "nosuch"), tmp_path)
    assert code == 65
    assert result.failure
    assert "pvc://models/nosuch is not there" in result.failure.message


def test_a_job_that_asks_for_a_gpu_fails_where_there_is_none(make_config: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path, runtime={"gpusPerNode": 1})
    file = arguments(config, tmp_path)
    # Hidden, so that the test means the same on a machine with a GPU.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(file, env=environment, capture_output=True, text=True, timeout=300, check=False)
    result = decode((tmp_path / "message").read_text())
    assert done.returncode == 68
    assert result
    assert result.failure
    assert "finds no CUDA device" in result.failure.message
    assert "set spec.runtime.gpusPerNode: 0" in result.failure.message


def test_a_command_without_its_configuration_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "train", "--config", str(tmp_path / "none.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 64
    assert "InvalidSpec: can't read the run's configuration" in done.stdout
    assert "name it with --config" in done.stdout


def test_sigterm_while_the_command_is_still_imported_ends_it_as_interrupted(make_config: Any, tmp_path: Path) -> None:
    _, *rest = arguments(make_config(tmp_path), tmp_path)
    # Python tells of each import when it is done. PID 1 would ignore the signal if nothing had asked for it.
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *rest], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    for line in process.stderr:
        if "pydantic" in line:
            process.send_signal(signal.SIGTERM)
            break
    process.stderr.read()
    assert process.wait() == exit_code(Reason.INTERRUPTED)


def test_sigterm_in_the_middle_of_training_ends_it_promptly_and_leaves_nothing_half_written(
    make_config: Any, tmp_path: Path
) -> None:
    config = make_config(tmp_path, training={"maxSteps": 1_000_000})
    process = subprocess.Popen(
        arguments(config, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    assert process.stdout
    for line in process.stdout:
        if line.startswith("step 2/"):
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stdout.read()
    assert process.wait() == 75
    watchdog.cancel()
    assert "Interrupted: stopped by SIGTERM" in rest
    result = decode((tmp_path / "message").read_text())
    assert result
    assert result.failure
    assert result.failure.reason == Reason.INTERRUPTED
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.name != ROW_CACHE)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "dataset.json",
        "metrics.jsonl",
        "run.lock.json",
        "spec.json",
    ]


def test_ctrl_c_again_and_again_ends_a_run_in_one_line_and_the_code_of_interrupted(
    make_config: Any, tmp_path: Path
) -> None:
    job = write_job(make_config(tmp_path, training={"maxSteps": 1_000_000}), tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "run", *job], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    assert process.stdout
    for line in process.stdout:
        if line.startswith("rows of"):
            for _ in range(4):
                os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.02)  # signals that come at once are one
            break
    rest = process.stdout.read()
    assert process.wait() == 75
    watchdog.cancel()
    assert rest.count("Interrupted: ") == 1
    assert "Traceback" not in rest


def test_a_local_run_trains_and_evaluates_without_a_cluster_and_ends_in_a_table(
    make_config: Any, tmp_path: Path
) -> None:
    config = make_config(tmp_path)
    done = subprocess.run(
        [*COMMAND, "run", *write_job(config, tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.name not in ("latest", ROW_CACHE))
    lines = done.stdout.splitlines()
    assert lines[0] == f"claim models: {config.mounts[1].path}"
    (report,) = folder.glob("evaluations/*/report.json")
    page = report.with_name("report.html")
    assert lines[-3:] == [f"adapter: {folder}/adapter", f"report: {report}", f"page: {page}"]
    assert page.is_file()
    assert any(line.startswith("Accuracy") and "tuned" in line for line in lines[-13:])
    files = [folder / "result.json", *folder.glob("evaluations/*/result.json")]
    assert [result.stage for result in map(decode, (file.read_text() for file in files)) if result] == [
        "Train",
        "Evaluate",
    ]


REFUSES_RENAMES = """
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
int rename(const char *from, const char *to) { errno = strstr(from, "/out/") ? ENOSYS : EIO; return -1; }
"""


def test_a_claim_whose_file_system_refuses_renames_ends_the_stage_before_anything_is_read(
    make_config: Any, tmp_path: Path
) -> None:
    # As an object store's driver would: the C library that Python calls refuses, below the claim.
    source, library = tmp_path / "refuse.c", tmp_path / "refuse.so"
    source.write_text(REFUSES_RENAMES)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    command = arguments(make_config(tmp_path), tmp_path)
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    result = decode((tmp_path / "message").read_text())
    assert done.returncode == 73
    assert result
    assert result.failure
    assert result.failure.reason == Reason.STORAGE_UNSUITABLE
    assert "spec.output.destination pvc://work/out: its file system refuses" in result.failure.message
    assert "use a claim" in result.failure.message
    assert "rows:" not in done.stdout
    assert list((tmp_path / "out").iterdir()) == []


def test_a_destination_that_is_no_folder_is_told(make_config: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    (tmp_path / "out").write_text("a file in the way")
    done = subprocess.run(arguments(config, tmp_path), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 64
    assert "spec.output.destination pvc://work/out" in done.stdout


def test_what_a_job_would_train_on_is_shown_without_torch_and_taken_by_the_run(
    make_config: Any, tmp_path: Path
) -> None:
    config = make_config(tmp_path)
    command = [sys.executable, "-X", "importtime", "-m", "finetune_trainer", "data", *write_job(config, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "tokenizers" in imported
    assert not imported & {"torch", "unsloth", "trl", "peft", "datasets", "bitsandbytes"}
    assert done.stdout.startswith("32 of 32 rows, ")
    assert "⟦The correct answer is river bank.<|im_end|>⟧" in done.stdout
    assert "12 (100.0%) of 12 held-out rows ask what a training row asks" in done.stdout
    code, result, output = run_stage(config, tmp_path)
    assert code == 0
    assert "prepared rows: those of an earlier run" in output
    assert result.dataset
    assert result.dataset.cached

    done = subprocess.run(
        [*command[:1], *command[3:], "--json"], capture_output=True, text=True, timeout=120, check=True
    )
    shown = json.loads(done.stdout)
    document = json.loads((tmp_path / "out" / "latest" / "dataset.json").read_text())
    assert [entry["reason"] for entry in shown.pop("advice")] == ["SharedQuestions", "FewExamples"]
    assert document["status"].pop("reportURI") == result.dataset.report_uri
    assert shown == document


def test_a_job_whose_rows_cannot_be_used_is_told_in_a_line_with_a_stages_exit_code(
    make_config: Any, tmp_path: Path
) -> None:
    config = make_config(tmp_path)
    (tmp_path / "rows" / "train.jsonl").write_text('{"question": "Where?"}\n' * 3)
    command = [*COMMAND, "data", *write_job(config, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 67
    (line,) = done.stdout.splitlines()
    assert line.startswith("DatasetInvalid: train.jsonl row 1: column 'options': missing")
    assert "3 of 3 rows of train.jsonl can't be used (100.0%), at most 1.0% may" in line


def test_a_plan_counts_what_the_run_then_trains(make_config: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path, training={"maxSteps": 3, "warmupSteps": 5})
    command = [*COMMAND, "plan", *write_job(config, tmp_path), "--gpu-memory", "80GiB"]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    code, result, output = run_stage(config, tmp_path)
    assert code == 0
    assert "prepared rows: those of an earlier run" in output
    training = result.training
    assert training
    trained, total = training.trainable_parameters, training.total_parameters
    assert f"parameters {trained:,} of {total:,} are trained ({trained / total:.2%})" in lines
    assert f"steps {training.steps}, 0.4 epochs of 8" in lines
    assert f"warm-up {training.warmup_steps} steps to 2e-4, then Linear" in lines
    at_a_time = f"{training.micro_batch_size} rows at a time, checkpointing {training.gradient_checkpointing}"
    assert f"on the CPU {at_a_time}" in lines
    assert [line.split()[:2] for line in lines if " GiB 4 of 4 " in line] == [["80", "GiB"]]
    assert {"FewExamples:", "RowsNotSeen:", "WarmupCut:"} <= {line.partition(" ")[0] for line in lines}


def test_a_plan_for_a_target_that_the_model_lacks_ends_as_the_training_would(make_config: Any, tmp_path: Path) -> None:
    config = make_config(tmp_path, lora={"targetModules": ["c_attn"]})
    command = [*COMMAND, "plan", *write_job(config, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 64
    (line,) = done.stdout.splitlines()
    assert line.startswith("InvalidSpec: spec.lora.targetModules: the model has no linear layer c_attn")
