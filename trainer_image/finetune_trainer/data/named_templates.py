"""Chat templates by name, for base models that bring none, and the tokens that they are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.protocols import Tokenizer

# The tokens around turns, the one that ends a turn last. Marks of tools stay text unless the tokenizer knows them.
MARKS: dict[str, tuple[str, ...]] = {
    "ChatML": ("<|im_start|>", "<|im_end|>"),
    "Llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "Gemma": ("<start_of_turn>", "<end_of_turn>"),
    "Mistral": ("[INST]", "[/INST]"),
    "Phi": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    "Qwen": ("<|im_start|>", "<|im_end|>"),
    "Alpaca": (),
}
_WORD = re.compile(r"[\w.+-]+(?: [\w.+-]+)?")
_TURN_END = re.compile(r'\{%- set turn_end = "[^"]+" %\}')


@dataclass(frozen=True)
class Named:
    """A template made ready for a tokenizer, and what the log should say about its tokens."""

    text: str
    note: str


def is_name(given: str) -> bool:
    """Whether spec.model.chatTemplate looks like a name; a template has white space or braces around its words."""
    return _WORD.fullmatch(given) is not None


def use_named(name: str, own: list[str], tokenizer: Tokenizer, embedding_rows: int | None) -> Named:
    """The template of a name; the tokenizer gets the tokens that it needs, where the embedding has room for them.

    A token that the vocabulary has already, reserved ones too, keeps its id. Where there is no room, or its size is
    unknown, the marks stay text and a turn ends with EOS. ``own`` are the names that the tokenizer brings. Raises
    StageError (InvalidSpec) for other names.
    """
    if name not in MARKS:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.model.chatTemplate: {name!r} is no chat template and no name of one",
            f"set it to {', '.join([*own, *MARKS])}, or to a template's text, and apply under a new name",
        )
    text = (files("finetune_trainer.data") / "templates" / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")
    marks = MARKS[name]
    known = {token.content for token in tokenizer.added_tokens_decoder.values()}
    vocabulary = tokenizer.get_vocab()
    new = [mark for mark in marks if mark not in vocabulary]
    is_plain = bool(new) and not _has_room(tokenizer, len(new), embedding_rows)
    if tokenizer.eos_token is None and (is_plain or not _TURN_END.search(text)):
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.model.chatTemplate: {name} ends turns with EOS here, and the tokenizer has no EOS",
            "name a model whose tokenizer has one, and apply under a new name",
        )
    if is_plain:
        return Named(_TURN_END.sub("{%- set turn_end = eos_token %}", text), _plain_note(name, new))
    if unmatched := [mark for mark in marks if mark not in known]:
        # With the special ones that are there; ids of words that the vocabulary has stay as they are.
        tokenizer.add_tokens(unmatched, special_tokens=True)
    return Named(text, _new_note(name, new) if new else "")


def _has_room(tokenizer: Tokenizer, count: int, embedding_rows: int | None) -> bool:
    if embedding_rows is None:
        return False
    taken = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=-1))
    return taken + count <= embedding_rows


def _plain_note(name: str, new: list[str]) -> str:
    return (
        f"the tokenizer lacks {', '.join(new)} of the chat template {name} and the model's embedding has no room: they "
        "stay text, and a turn ends with EOS"
    )


def _new_note(name: str, new: list[str]) -> str:
    return (
        f"the chat template {name} adds {', '.join(new)} to the tokenizer: the model never saw them, and LoRA leaves "
        "their embedding as it is; where answers don't end, take Alpaca or the model's instruct version"
    )
