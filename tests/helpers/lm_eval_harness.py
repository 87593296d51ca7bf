"""Rows with options as lm-evaluation-harness scores them: an independent way to the same accuracies."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.data.example import Example


@dataclass(frozen=True)
class HarnessRow:
    """What it found of a row."""

    right: dict[str, bool]  # by its metrics: acc, acc_norm, acc_bytes
    sums: list[float]  # log-likelihood of each option's response


def harness_rows(model: Any, tokenizer: Any, examples: Sequence[Example], folder: Path) -> list[HarnessRow]:
    """The rows in their order, as a multiple_choice task with the tokenizer's chat template; nothing is downloaded."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    from lm_eval import simple_evaluate
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(_document(example)) + "\n" for example in examples))
    names = ("acc", "acc_norm", "acc_bytes")
    task = ConfigurableTask(
        config={
            "task": "rows",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "right",
            "target_delimiter": "",
            "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names],
        }
    )
    lm = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=8)
    found = simple_evaluate(model=lm, tasks=[task], apply_chat_template=True, log_samples=True, bootstrap_iters=0)
    samples = sorted(found["samples"]["rows"], key=lambda sample: sample["doc_id"])
    return [
        HarnessRow({name: bool(sample[name]) for name in names}, [float(one[0]) for one in sample["filtered_resps"]])
        for sample in samples
    ]


def _document(example: Example) -> dict[str, Any]:
    assert example.choices
    (message,) = example.prompt
    responses = [option.response for option in example.choices.options]
    return {"prompt": message.content, "choices": responses, "right": example.choices.right}
