"""What a job would do, from hand-made rows and a hand-made model, and how it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason
from finetune_api.results import Advice
from finetune_trainer.cli import main
from finetune_trainer.models.adapter_targets import AdapterLayers
from finetune_trainer.models.sizes import Sizes
from finetune_trainer.plan_command import gpu_sizes
from finetune_trainer.plan_tables import print_plan
from finetune_trainer.run_plan import ModelToTrain, RowsToTrainOn, RunPlan, plan_run
from finetune_trainer.training.estimate import GIB
from finetune_trainer.training.plan import ModelShape
from trainer_inputs import refusal, run_config

ROWS = RowsToTrainOn("30 of 32 rows, 2.1k tokens", 30, 80, [Advice(reason="FewExamples", message="30 are few")])
LAYERS = [AdapterLayers("down_proj", 128, 64, 2, 8), AdapterLayers("q_proj", 64, 64, 2, 8)]
SHAPE = ModelShape(2, 64, 128, 49152)
MODEL = ModelToTrain(SHAPE, Sizes(base=3_170_304, trained=5_120), 24_576, LAYERS, 0)
SPEC: dict[str, Any] = {
    "model": {"source": "pvc://work/model"},
    "dataset": {"source": "pvc://work/rows"},
    "lora": {"rank": 8},
    "training": {"batchSize": 4, "epochs": 2},
    "evaluation": {"dataset": {"source": "pvc://work/rows"}},
    "output": {"destination": "pvc://work/out"},
}


def plan(base: ModelToTrain | None = MODEL, gpus: tuple[int, ...] = (16 * GIB,), **sections: Any) -> RunPlan:
    return plan_run(run_config({**SPEC, **sections}, {}).spec, ROWS, base, 1000, gpus)


def shown(found: RunPlan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "120")
    print_plan(found)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("text", "size"), [("80GiB", 80 << 30), ("80Gi", 80 << 30), (" 24 GiB", 24 << 30), ("40GB", 40 * 10**9)]
)
def test_memory_is_given_as_people_and_kubernetes_write_it(text: str, size: int) -> None:
    assert gpu_sizes([text, "2Gi"]) == (size, 2 << 30)


def test_without_a_size_four_usual_ones_are_shown() -> None:
    assert gpu_sizes([]) == (16 << 30, 24 << 30, 40 << 30, 80 << 30)


@pytest.mark.parametrize("text", ["80", "much", "", "-8GiB", "900MiB", "0GiB", "80GiBB"])
def test_what_is_no_size_of_a_gpu_is_refused(text: str) -> None:
    said = refusal(lambda: gpu_sizes([text]), Reason.INVALID_SPEC)
    assert said == f"--gpu-memory {text}: must be an amount of at least 1GiB"


def test_a_wrong_size_ends_with_one_line_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tmp_path / "none.yaml"), "--gpu-memory", "80"]) == 64
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("InvalidSpec: --gpu-memory 80:")


def test_steps_follow_from_the_rows_that_are_left() -> None:
    assert (plan().steps, plan().steps_of_a_pass, plan().warmup_steps) == (16, 8, 5)
    short = plan(training={"batchSize": 4, "maxSteps": 6})
    assert (short.steps, short.warmup_steps) == (6, 3)


def test_room_is_for_what_is_saved_and_for_checkpoints() -> None:
    found = plan(training={"epochs": 2, "checkpoint": {"keep": 3}}).room
    assert found
    assert found.checkpoints == 4 * 5_120 * (4 + 2)
    assert found.artefacts == 2 * (5_120 * 4 + 1000) + (1 << 20)


def test_room_on_a_claim_of_its_own_for_checkpoints_is_told_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plan(training={"epochs": 2, "checkpoint": {"claimName": "scratch"}})
    assert "room to write up to 1.0 MiB on claim work, 0.1 MiB on claim scratch" in shown(found, capsys, monkeypatch)


def test_the_memory_of_consolidation_is_that_of_the_layers_or_of_all_weights_and_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = {"source": "pvc://work/rows", "replay": {"source": "pvc://work/general"}}
    sections = {"dataset": dataset, "training": {"elasticWeightConsolidation": {"strength": "10"}}}
    found = plan(**sections)
    assert found.estimates[0].consolidation == 2 * 24_576 + 4 * 5_120
    assert "and so are 0.1 MiB for elastic weight consolidation" in shown(found, capsys, monkeypatch)
    assert not any("consolidation" in line for line in shown(plan(), capsys, monkeypatch))
    spec = {name: section for name, section in SPEC.items() if name != "lora"} | sections | {"method": "Full"}
    full = ModelToTrain(SHAPE, Sizes(3_170_304, 3_170_304), 24_576, [], 0)
    found = plan_run(run_config(spec, {}).spec, ROWS, full, 1000, (16 * GIB,))
    assert found.estimates[0].consolidation == (2 + 4) * 3_170_304


def test_a_job_for_the_cpu_runs_as_it_would_there() -> None:
    found = plan(runtime={"gpusPerNode": 0})
    assert found.optimizer == "AdamW"
    assert found.on_cpu
    assert (found.on_cpu.micro_batch, found.on_cpu.checkpointing) == (4, "Disabled")
    assert plan().on_cpu is None
    assert plan().optimizer == "AdamW8bit"


def test_advice_on_the_rows_comes_with_that_on_the_spec_and_the_adapter() -> None:
    biased = ModelToTrain(SHAPE, MODEL.sizes, MODEL.linear, LAYERS, 6)
    found = plan(biased, training={"batchSize": 4, "epochs": 2, "learningRate": "1"})
    assert [one.reason for one in found.advice] == ["FewExamples", "LearningRateHigh", "TrainedBiases"]


def test_the_tables_say_what_would_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(plan(gpus=(16 * GIB, 80 * GIB)), capsys, monkeypatch)
    for line in (
        "rows 30 of 32 rows, 2.1k tokens",
        "longest row 80 tokens",
        "steps 16, 2 epochs of 8",
        "warm-up 5 steps to 2e-4, then Linear",
        "batch 4 rows in a step",
        "method QLoRA, the base model in 4 bit (NF4)",
        "adapter rank 8, alpha 16, bias None",
        "parameters 5,120 of 3,175,424 are trained (0.16%)",
        "down_proj 2 128 64 3,072",
        "q_proj 2 64 64 2,048",
        "FewExamples: 30 are few",
    ):
        assert line in lines
    assert any(line.startswith("80 GiB 4 of 4 Disabled 6.0 MiB") for line in lines)
    assert any(line.startswith("an estimate") for line in lines)


def test_no_figure_is_cut_short_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = ModelToTrain(SHAPE, Sizes(40 * 10**9, 5_120), 40 * 10**9, LAYERS, 0)
    wide = shown(plan(large, gpus=(16 * GIB,)), capsys, monkeypatch)
    monkeypatch.setenv("COLUMNS", "40")
    print_plan(plan(large, gpus=(16 * GIB,)))
    narrow = capsys.readouterr().out.splitlines()
    (row,) = (" ".join(line.split()) for line in narrow if line.startswith("16 GiB"))
    assert row in wide
    assert row.endswith("GiB: too much")


def test_the_table_of_gpus_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_plan(plan())
    lines = capsys.readouterr().out.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("GPU memory"))
    assert all(len(line) <= 80 for line in lines[first - 1 :])
    said = [line.rstrip() for line in lines]
    assert "an estimate from shapes and the longest row, no measurement:" in said
    assert "activations are an upper bound, and 0.5 GiB for CUDA itself is in together" in said


def test_a_method_without_an_adapter_trains_all_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {name: section for name, section in SPEC.items() if name != "lora"}
    full = ModelToTrain(SHAPE, Sizes(3_170_304, 3_170_304), 24_576, [], 0)
    found = plan_run(run_config({**spec, "method": "Full"}, {}).spec, ROWS, full, 1000, (16 * GIB,))
    lines = shown(found, capsys, monkeypatch)
    assert "parameters 3,170,304 of 3,170,304 are trained (100.00%)" in lines
    assert not any(line.startswith("adapter") for line in lines)
    assert any(line.startswith("16 GiB 4 of 4 Disabled 0.0 MiB 30.2 MiB") for line in lines)


def test_a_job_that_may_stop_early_has_steps_at_most(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, stopping = {"source": "pvc://work/rows", "validation": {"fraction": "0.1"}}, {"everySteps": 2, "patience": 1}
    found = plan(dataset=rows, training={"batchSize": 4, "epochs": 2, "earlyStopping": stopping})
    assert "steps at most 16, 2 epochs of 8" in shown(found, capsys, monkeypatch)


def test_how_an_adapter_begins_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pissa = plan(method="LoRA", lora={"rank": 8, "rankStabilized": True, "initialization": "PiSSA"})
    lines = shown(pissa, capsys, monkeypatch)
    assert "adapter rank 8, alpha 16, bias None, rank-stabilized, initialized by PiSSA" in lines
    source = {"source": "pvc://work/model", "adapter": {"source": "pvc://work/out/a/adapter"}}
    assert "continues from pvc://work/out/a/adapter" in shown(plan(model=source), capsys, monkeypatch)


def test_a_gpu_that_is_too_small_is_marked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    large = ModelToTrain(SHAPE, Sizes(40 * 10**9, 5_120), 40 * 10**9, LAYERS, 0)
    lines = shown(plan(large, gpus=(16 * GIB, 80 * GIB)), capsys, monkeypatch)
    assert [line.endswith(": too much") for line in lines if " of 4 " in line] == [True, False]


def test_a_terminal_of_80_columns_shows_every_figure_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = ModelToTrain(SHAPE, Sizes(70 * 10**9, 512 * 10**6), 40 * 10**9, LAYERS, 0)
    found = plan(large, gpus=(16 * GIB, 640 * GIB), training={"batchSize": 128, "epochs": 2})
    wide = shown(found, capsys, monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    print_plan(found)
    narrow = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for gpu in ("16 GiB", "640 GiB"):
        (row,) = (line for line in wide if line.startswith(gpu))
        (first, *others) = narrow[next(place for place, line in enumerate(narrow) if line.startswith(gpu)) :]
        assert f"{first} {' '.join(others)}".startswith(row)
    assert "GPU memory a time checkpointing frozen trained activations together" in narrow


def test_a_model_that_cannot_be_built_without_weights_leaves_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(plan(None), capsys, monkeypatch)
    assert "steps 16, 2 epochs of 8" in lines
    assert "the model's own code wants its weights: neither parameters nor memory are known before" in lines
    assert not any(line.startswith(("parameters", "room", "GPU memory")) for line in lines)
