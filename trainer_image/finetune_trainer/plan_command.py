"""The command ``finetune plan``: what a job would do, without GPU and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from finetune_api.config import RunConfig
from finetune_api.quantities import Quantity, amount
from finetune_api.reasons import Reason
from finetune_trainer.dry_run import prepare_rows_and_sources, run_dry
from finetune_trainer.run_plan import ModelToTrain, RowsToTrainOn, RunPlan, plan_run
from finetune_trainer.stage.failure import StageError
from finetune_trainer.training.estimate import GIB, USUAL_GPUS

if TYPE_CHECKING:
    from finetune_api.defaults import ResolvedSpec
    from finetune_trainer.models.protocols import CausalLM


def gpu_sizes(given: Sequence[str]) -> tuple[int, ...]:
    """Memory of GPUs in bytes, from texts such as 80GiB; without any, usual sizes.

    Raises StageError (InvalidSpec) for what is no such text, or less than a GiB.
    """
    return tuple(_gpu_size(text) for text in given) or USUAL_GPUS


def show_plan(config: RunConfig, gpus: Sequence[int]) -> int:
    """Prepares a job's rows and shows what it would do. Returns the exit code that a stage would give."""
    if config.spec.dataset is None:
        return _show_evaluation(config)
    plan, code = run_dry(config, lambda: _plan(config, gpus))
    if plan is None:
        return code
    from finetune_trainer.plan_tables import print_plan

    print_plan(plan)
    return 0


def _show_evaluation(config: RunConfig) -> int:
    """What a job without training rows would do."""
    from finetune_trainer.evaluation_plan import plan_evaluation

    plan, code = run_dry(config, lambda: plan_evaluation(config))
    if plan is None:
        return code
    from finetune_trainer.evaluation_tables import print_evaluation

    print_evaluation(plan)
    return 0


def _plan(config: RunConfig, gpus: Sequence[int]) -> RunPlan:
    from finetune_trainer.models.continuing import read_adapter
    from finetune_trainer.models.loading import load_config, skeleton, tokenizer_bytes

    sources, read = prepare_rows_and_sources(config)
    source, prepared, spec = sources.model, read.prepared, config.spec
    if sources.adapter and spec.lora:
        read_adapter(sources.adapter, spec.lora)
    status, store = prepared.status, prepared.store
    cached = ", prepared by an earlier run" if status.cached else ""
    rows = RowsToTrainOn(
        f"{status.summary}{cached}", len(store), store.longest, prepared.advice, prepared.measured_examples
    )
    bare = skeleton(source, load_config(source))
    model = _model(bare, spec) if bare else None
    return plan_run(spec, rows, model, tokenizer_bytes(source), gpus)


def _model(bare: CausalLM, spec: ResolvedSpec) -> ModelToTrain:
    from finetune_trainer.models.adapter_targets import adapter_layers, quantised_parameters, trained_biases
    from finetune_trainer.models.sizes import sizes_of
    from finetune_trainer.training.plan import shape_of

    return ModelToTrain(
        shape=shape_of(bare),
        sizes=sizes_of(bare, spec),
        linear=quantised_parameters(bare),
        layers=adapter_layers(bare, spec.lora) if spec.lora else [],
        biases=len(trained_biases(bare, spec.lora)) if spec.lora else 0,
    )


def _gpu_size(text: str) -> int:
    try:
        size = int(amount(TypeAdapter(Quantity).validate_python(text.strip().removesuffix("B").replace(" ", ""))))
    except ValidationError:
        size = 0
    if size < GIB:
        raise StageError(
            Reason.INVALID_SPEC, f"--gpu-memory {text}: must be an amount of at least 1GiB", "write it such as 80GiB"
        )
    return size
