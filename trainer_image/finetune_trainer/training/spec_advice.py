"""What a careful user would want to know of a spec before it runs. Pure."""

from __future__ import annotations

from decimal import Decimal

from finetune_api.dataset import datasets_of
from finetune_api.defaults import ResolvedSpec
from finetune_api.lora import LoraSpec
from finetune_api.replay import REPLAY
from finetune_api.results import Advice
from finetune_trainer.training.plan import total_steps, warmup_steps
from finetune_trainer.training.stopping import measuring_advice, stopping_advice

# As the spec's own descriptions say.
_USUAL_RATES = {"QLoRA": ("1e-4", "5e-4"), "LoRA": ("1e-4", "5e-4"), "Full": ("3e-5", "5e-5")}
_USUAL_RANKS = (8, 64)
_MANY_PASSES = 10


def spec_advice(spec: ResolvedSpec, rows: int, measured: int = 0) -> list[Advice]:
    """What is unusual in a spec that will train on so many rows, the weightiest first.

    ``measured`` are the rows that are scored on the way.
    """
    steps = total_steps(spec.training, rows)
    found = [
        _learning_rate(spec),
        _passes(spec, rows),
        warmup_steps(spec.training, steps)[1],
        stopping_advice(spec.training, steps),
        measuring_advice(spec.training, steps, measured),
        *((_rank(spec.lora), _alpha(spec.lora)) if spec.lora else ()),
        _evaluation(spec),
        retention_advice(spec),
    ]
    return [one for one in found if one]


def bias_advice(vectors: int) -> Advice | None:
    """What to know about an adapter with so many trained bias vectors in it."""
    if not vectors:
        return None
    text = (
        f"lora.bias trained {vectors} bias vectors, which lie in the adapter. Some servers, vLLM among them, refuse "
        "such an adapter: merge it into the base model, or train with bias None"
    )
    return Advice(reason="TrainedBiases", message=text)


def retention_advice(spec: ResolvedSpec) -> Advice | None:
    """What to know about retention rows that are trained on."""
    retention, replay = spec.evaluation.retention if spec.evaluation else None, spec.training_rows.replay
    if not retention:
        return None
    for name, rows in datasets_of(spec.training_rows).items():
        if name == REPLAY and replay and not Decimal(replay.fraction):
            continue  # consolidation alone reads them
        if rows.place == retention.place:
            text = (
                f"spec.evaluation.retention names the rows of {name}, which are trained on, so that it tells what was "
                "learnt and not what was kept: name another split, or other rows"
            )
            return Advice(reason="RetentionTrainedOn", message=text)
    return None


def _learning_rate(spec: ResolvedSpec) -> Advice | None:
    rate, (low, high) = spec.training.learning_rate, _USUAL_RATES[spec.method]
    if Decimal(rate) > Decimal(high):
        reason, what = "LearningRateHigh", "above: the loss may diverge, and the model may forget what it knew; lower"
    elif Decimal(rate) < Decimal(low):
        reason, what = "LearningRateLow", "below: the model may learn little; raise"
    else:
        return None
    text = f"for {spec.method} {low} to {high} is usual, and learningRate {rate} is {what} spec.training.learningRate"
    return Advice(reason=reason, message=text)


def _passes(spec: ResolvedSpec, rows: int) -> Advice | None:
    training = spec.training
    field = "maxSteps" if training.max_steps is not None else "epochs"
    steps = total_steps(training, rows)
    per_pass = -(-rows // training.batch_size)
    if steps > _MANY_PASSES * per_pass:
        text = (
            f"{steps / per_pass:,.1f} passes over {rows:,} rows are many: beyond {_MANY_PASSES} a model mostly learns "
            f"them by heart; lower spec.training.{field}, or add rows"
        )
        return Advice(reason="ManyEpochs", message=text)
    if steps < per_pass:
        text = (
            f"{steps:,} steps of {training.batch_size} take {steps * training.batch_size:,} of {rows:,} rows: raise "
            "spec.training.maxSteps, or set epochs in its place, for the others to count"
        )
        return Advice(reason="RowsNotSeen", message=text)
    return None


def _rank(lora: LoraSpec) -> Advice | None:
    (low, high), rank = _USUAL_RANKS, lora.rank
    if low <= rank <= high:
        return None
    what = "a lower one learns little" if rank < low else "a higher one costs memory and seldom learns more"
    return Advice(reason="RankUnusual", message=f"lora.rank {rank}: {low} to {high} is usual; {what}")


def _alpha(lora: LoraSpec) -> Advice | None:
    rank, alpha = lora.rank, lora.alpha
    if lora.rank_stabilized or rank <= alpha <= 2 * rank:
        return None
    text = (
        f"lora.alpha {alpha} scales the update by {alpha / rank:.3g} at rank {rank}: alpha is usually the rank or "
        f"twice it, {rank} or {2 * rank}"
    )
    return Advice(reason="AlphaUnusual", message=text)


def _evaluation(spec: ResolvedSpec) -> Advice | None:
    if spec.evaluation:
        return None
    text = "nothing will tell whether the tuned model is better than its base: add spec.evaluation with held-out rows"
    return Advice(reason="NoEvaluation", message=text)
