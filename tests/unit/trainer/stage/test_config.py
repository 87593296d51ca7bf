"""What a stage reads first: its configuration, and the environment that follows from it."""

from __future__ import annotations

import json
from pathlib import Path

from finetune_api.reasons import Reason
from finetune_trainer.stage.config import load_config
from finetune_trainer.stage.environment import environment
from trainer_inputs import make_config, refusal


def test_a_run_configuration_that_does_not_parse_names_the_field(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    document = make_config(tmp_path).model_dump(mode="json", by_alias=True, exclude_none=True)
    document["spec"]["training"]["batchSize"] = 0
    file.write_text(json.dumps(document))
    assert "spec.training.batchSize" in refusal(lambda: load_config(file), Reason.INVALID_SPEC)
    assert "can't read" in refusal(lambda: load_config(tmp_path / "none.json"), Reason.INVALID_SPEC)


def test_the_hub_is_off_only_when_every_source_is_a_claim(tmp_path: Path) -> None:
    assert environment(make_config(tmp_path))["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment(make_config(tmp_path, source="hf://acme/rows"))


def test_the_cpu_stands_in_for_a_gpu_only_when_none_was_asked_for(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert environment(config)["UNSLOTH_FORCE_CPU"] == "1"
    assert environment(config)["OMP_WAIT_POLICY"] == "PASSIVE"
    runtime = config.spec.runtime.model_copy(update={"gpus_per_node": 1})
    asking = config.model_copy(update={"spec": config.spec.model_copy(update={"runtime": runtime})})
    variables = environment(asking)
    assert variables["UNSLOTH_DISABLE_CPU_FALLBACK"] == "1"
    assert "UNSLOTH_FORCE_CPU" not in variables
    assert "CUDA_VISIBLE_DEVICES" not in variables
