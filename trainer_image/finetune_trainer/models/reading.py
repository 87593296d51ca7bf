"""How a model reads rows: its tokenizer and its configuration, without its weights."""

from __future__ import annotations

from finetune_api.defaults import ResolvedSpec
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.pipeline import Reading
from finetune_trainer.models.loading import context_of, load_config, load_tokenizer
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.console import say


def read_model(source: ModelSource, spec: ResolvedSpec) -> Reading:
    """How rows become token ids for a model.

    Raises StageError: ModelNotFound without configuration or tokenizer, InvalidSpec for a chat template that can't be
    used.
    """
    settings = load_config(source)
    context = context_of(settings)
    limit = longest_row(spec.model.max_sequence_length, context)
    if limit < spec.model.max_sequence_length:
        say(f"maxSequenceLength: {limit}, the model's context, in place of {spec.model.max_sequence_length}")
    chat = read_chat_format(load_tokenizer(source), spec.model, settings.get_text_config().vocab_size)
    return Reading(chat, limit, spec.training.loss_on, context)


def longest_row(wanted: int, context: int | None) -> int:
    """Tokens that a row may have: ``wanted``, or the model's context (None where it names none) if that is shorter.

    For more than its context Unsloth would stretch the model's positions, and nobody who loads the adapter knows.
    """
    return min(wanted, context or wanted)
