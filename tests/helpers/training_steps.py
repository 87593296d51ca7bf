"""A few training steps by the engine, on a configuration's own rows or others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_api.config import RunConfig
from finetune_api.uris import parse_claim
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.formats import parse_row
from finetune_trainer.data.token_store import TokenStore
from finetune_trainer.data.tokenize import tokenise
from finetune_trainer.models.methods import METHODS
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.interruption import Interruption
from finetune_trainer.training.checkpoints import Checkpoints, Identity, SavedPlan
from finetune_trainer.training.engines import load_engine
from finetune_trainer.training.engines.base import StepSettings
from finetune_trainer.training.packing import Layout
from finetune_trainer.training.plan import Checkpointing, StepPlan, total_steps
from finetune_trainer.training.reporter import StepReporter
from finetune_trainer.training.schedule import LearningRates

CPU = Device("cpu", "CPU", 0, "float32")
LONGEST = 192


@dataclass(frozen=True)
class Steps:
    """A few steps, and the model after them."""

    losses: list[float]
    gradient_norms: list[float | None]
    trained: Any  # a finetune_trainer.training.loop.Trained, which imports torch
    model: Any
    tokenizer: Any

    @property
    def adapter(self) -> dict[str, Any]:
        return {name: value.detach().clone() for name, value in self.model.named_parameters() if value.requires_grad}


def take_steps(
    config: RunConfig,
    micro_batch: int,
    may_shrink: bool = False,
    rows: TokenStore | None = None,
    packed: Layout | None = None,
    checkpointing: Checkpointing = "Disabled",
) -> Steps:
    """Trains as the configuration says, ``micro_batch`` rows or sequences at a time."""
    from finetune_trainer.models.loading import embedding_rows

    spec, engine = config.spec, load_engine()
    source = ModelSource(str(config.local_path(parse_claim(spec.model.source))), None, False)
    method = METHODS[spec.method]
    base, tokenizer = engine.load_base(source, LONGEST, CPU, method)
    if rows is None:
        chat = read_chat_format(tokenizer, spec.model, embedding_rows(base))
        lines = (config.local_path(parse_claim(spec.dataset.source)) / "train.jsonl").read_text().splitlines()
        examples = [parse_row(json.loads(line), spec.dataset, f"row {place}") for place, line in enumerate(lines)]
        tokenised = tokenise(examples, chat, LONGEST, spec.training.loss_on)
        rows = TokenStore.of([row for one in tokenised for row in one.rows])
    plan = StepPlan(spec.training.batch_size, micro_batch, checkpointing, may_shrink)
    model = method.make_trainable(engine.trainable(plan.checkpointing), base, spec.lora, source)
    reporter = StepReporter(None)
    trained = steps_of(model, tokenizer, rows, StepSettings(spec.training, plan, CPU, packed), reporter)
    history = reporter.history
    return Steps([one.loss for one in history], [one.gradient_norm for one in history], trained, model, tokenizer)


def steps_of(model: Any, tokenizer: Any, rows: TokenStore, settings: StepSettings, reporter: StepReporter) -> Any:
    """Takes all steps of a training without warm-up on rows, with no checkpoint."""
    from finetune_trainer.training.batches import Batches
    from finetune_trainer.training.loop import Run

    training, plan = settings.training, settings.plan
    none = Identity(training_sha256="0" * 64, dataset_sha256="0" * 64, engine="Unsloth")
    run = Run(
        stepper=load_engine().stepper(model, tokenizer, settings),
        batches=Batches(rows, plan.batch, training.seed, tokenizer.pad_token_id or 0),
        rates=LearningRates(training.scheduler, float(training.learning_rate), 0, total_steps(training, len(rows))),
        plan=SavedPlan(
            device="CPU", packages="", micro_batch=plan.micro_batch, checkpointing=plan.checkpointing, packing=""
        ),
        checkpoints=Checkpoints(Path("/nonexistent"), none, 1),
        every_steps=1_000_000,
        reporter=reporter,
        interruption=Interruption(),
        confirm=lambda: None,
    )
    return run.take_steps(None)
