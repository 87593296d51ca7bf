"""How a model reads rows: its tokenizer and its configuration, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune_api.config import RunConfig
from finetune_api.defaults import ResolvedSpec
from finetune_api.output import MERGED
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.held_out import keep_fitting
from finetune_trainer.data.load import Rows
from finetune_trainer.data.own_prompts import prompts_ids
from finetune_trainer.data.pipeline import Reading
from finetune_trainer.data.prepared import Prepared, prepare_rows
from finetune_trainer.models.loading import context_of, load_config, load_tokenizer
from finetune_trainer.models.methods import METHODS
from finetune_trainer.sources.locate import Sources
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class ReadRows:
    """The rows to train on, and how the model reads them."""

    reading: Reading
    prepared: Prepared


def read_rows(config: RunConfig, sources: Sources, held_out: Rows | None) -> ReadRows:
    """Prepares the training rows with the model's own tokenizer, and checks that the held-out rows fit the model.

    Raises StageError for whatever :func:`read_model`, :func:`prepare_rows`, :func:`prompts_ids` and
    :func:`keep_fitting` refuse.
    """
    reading = read_model(sources.model, config.spec)
    if reading.chat.note:
        say(reading.chat.note)
    if config.spec.evaluation:  # better now than after the training
        prompts_ids(config.spec.evaluation.prompts or (), reading.chat, reading.context)
    prepared = prepare_rows(config, sources, held_out, reading)
    if held_out:
        _, dropped = keep_fitting(held_out.examples, reading.chat, reading.context, reading.loss_on)
        if dropped:
            say(f"held-out rows: {dropped} are longer than the model's context and will be left out")
    return ReadRows(reading, prepared)


def read_model(source: ModelSource, spec: ResolvedSpec) -> Reading:
    """How rows become token ids for a model.

    Raises StageError: ModelNotFound without configuration or tokenizer, InvalidSpec for a chat template that can't be
    used and for a quantised checkpoint of which the spec needs weights in 16 bit.
    """
    settings = load_config(source)
    check_precision(source, settings, spec)
    context = context_of(settings)
    limit = longest_row(spec.model.max_sequence_length, context)
    if limit < spec.model.max_sequence_length:
        say(f"maxSequenceLength: {limit}, the model's context, in place of {spec.model.max_sequence_length}")
    chat = read_chat_format(load_tokenizer(source), spec.model, settings.get_text_config().vocab_size)
    return Reading(chat, limit, spec.training.loss_on, context, spec.training_rows.workers)


def check_precision(source: ModelSource, settings: PretrainedConfig, spec: ResolvedSpec) -> None:
    """Raises StageError (InvalidSpec) when a checkpoint is quantised, and the spec needs what was rounded away."""
    if getattr(settings, "quantization_config", None) is None:
        return
    needs = {
        f"method {spec.method}": not METHODS[spec.method].quantised,
        "lora.initialization LoftQ": spec.lora is not None and spec.lora.initialization == "LoftQ",
        "output format Merged16Bit": MERGED in spec.output.formats,
    }
    if wanted := next((name for name, needed in needs.items() if needed), None):
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.model.source {source.name} holds quantised weights, and {wanted} needs them in 16 bit",
            "name the model that it was made of, and apply under a new name",
        )


def longest_row(wanted: int, context: int | None) -> int:
    """Tokens that a row may have: ``wanted``, or the model's context (None where it names none) if that is shorter.

    For more than its context Unsloth would stretch the model's positions, and nobody who loads the adapter knows.
    """
    return min(wanted, context or wanted)
