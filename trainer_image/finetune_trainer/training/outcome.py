"""What is told of a training that has ended."""

from __future__ import annotations

from finetune_api.base import cut, number
from finetune_api.progress import format_duration
from finetune_api.results import Advice, TrainingStatus
from finetune_trainer.data.row_facts import RowFacts
from finetune_trainer.data.tokenize import NO_RESPONSE, TOO_LONG
from finetune_trainer.training.attention import attention_of
from finetune_trainer.training.checkpoints import Checkpoint, SavedPlan
from finetune_trainer.training.engines.base import Engine
from finetune_trainer.training.loop import Trained
from finetune_trainer.training.set_up import Ready
from finetune_trainer.training.stopping import retention_points


def training_status(
    engine: Engine, ready: Ready, trained: Trained, facts: RowFacts, metrics_uri: str
) -> TrainingStatus:
    """``status.training``."""
    run, sizes, tuned = ready.run, ready.sizes, ready.tuned
    history = run.reporter.history
    norms = [entry.gradient_norm for entry in history if entry.gradient_norm is not None]
    seconds = round(trained.seconds)
    last = trained.best or (trained.measured[-1] if trained.measured else None)
    return TrainingStatus(
        steps=trained.steps,
        first_loss=number(history[0].loss) if history else None,
        final_loss=number(history[-1].loss) if history else None,
        final_gradient_norm=number(norms[-1]) if norms else None,
        validation_loss=number(last.validation_loss) if last and last.validation_loss is not None else None,
        best_step=trained.best.step if trained.best else None,
        stopped_early=trained.stopped_early if run.measuring and run.measuring.stopping else None,
        retention=retention_points(trained.measured, trained.best.step if trained.best else None),
        resumed_from_step=trained.resumed_from,
        runtime_seconds=seconds,
        runtime=format_duration(seconds),
        trained_tokens=trained.tokens,
        examples_seen=run.batches.examples(trained.steps),
        dropped_examples=sum(facts.dropped().get(kind, 0) for kind in (TOO_LONG, NO_RESPONSE)),
        trainable_parameters=sizes.trained,
        total_parameters=sizes.total,
        micro_batch_size=trained.micro_batch,
        out_of_memory_retries=trained.memory_retries or None,
        warmup_steps=run.rates.warmup_steps,
        gradient_checkpointing=run.plan.checkpointing,
        optimizer=ready.optimizer,
        packing=run.plan.packing,
        attention=attention_of(tuned.model, tuned.device) if tuned.model else None,
        metrics_uri=metrics_uri,
        dtype=run.stepper.dtype,
        engine=engine.name,
    )


def outcome_advice(ready: Ready, trained: Trained) -> list[Advice]:
    """What to know of the run, the weightiest first."""
    found = [
        *ready.advice,
        _smaller_batch(trained),
        _moved(ready.found, ready.run.plan),
        *(Advice(reason="TrackingFailed", message=cut(lost, 512)) for lost in ready.run.reporter.trackers.lost),
    ]
    return [one for one in found if one]


def _moved(found: Checkpoint | None, plan: SavedPlan) -> Advice | None:
    """What to know about a run that went on elsewhere than it began."""
    if not found:
        return None
    saved = found.state.plan
    changed = [
        f"{name} {before}, then {now}"
        for name, before, now in (("on", saved.device, plan.device), ("with", saved.packages, plan.packages))
        if before != now
    ]
    if not changed:
        return None
    text = (
        f"the run went on from step {found.state.step} elsewhere ({'; '.join(changed)}): its adapter is not the one "
        "of an undisturbed run to the bit"
    )
    return Advice(reason="ResumedElsewhere", message=cut(text, 512))


def _smaller_batch(trained: Trained) -> Advice | None:
    if not trained.memory_retries:
        return None
    times = "once" if trained.memory_retries == 1 else f"{trained.memory_retries} times"
    text = (
        f"GPU memory ran out {times}; the run went on with {trained.micro_batch} rows at a time. "
        f"Set spec.training.microBatchSize to a number up to {trained.micro_batch} to have it from the start"
    )
    return Advice(reason="MicroBatchLowered", message=text)
