"""How a model writes a conversation, read from its chat template by rendering a probe.

Nothing is assumed about markers: what stands before and after the assistant's message in the probe is the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError

# Llama-3.2's template prints today's date, which would change the prompts from day to day. This is its own fallback.
TEMPLATE_DATE = datetime(2024, 7, 26)
_QUESTION = "qprobe7Q"
_RESPONSE = "rprobe7R"


@dataclass(frozen=True)
class ChatFormat:
    """Renders prompts and responses as token ids. Training and evaluation share it."""

    tokenizer: Any
    response_marker: str  # what stands between the user's and the assistant's message
    terminator: str  # what ends a response; its last token stops generation
    stop_ids: tuple[int, ...]
    adds_bos: bool  # the tokenizer would put a BOS before plain text

    def prompt_text(self, message: str) -> str:
        """Everything up to the point where the assistant's message begins."""
        return _render(self.tokenizer, message).rpartition(_RESPONSE)[0]

    def prompt_ids(self, messages: list[str]) -> list[list[int]]:
        """Token ids of prompts, each with exactly one BOS where the model has one."""
        # The template prints the special tokens, BOS too where there is one: the tokenizer must add none.
        return [self._with_bos(ids) for ids in self._encode([self.prompt_text(message) for message in messages])]

    def response_ids(self, responses: list[str]) -> list[list[int]]:
        """Token ids of responses, each with its terminator: the tokens that the loss sees."""
        return self._encode([response + self.terminator for response in responses])

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens included."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
        return list(encoded.input_ids)

    def _with_bos(self, ids: list[int]) -> list[int]:
        bos = self.tokenizer.bos_token_id
        return [bos, *ids] if self.adds_bos and ids[:1] != [bos] else ids


def read_chat_format(tokenizer: Any, template: str = "") -> ChatFormat:
    """Derives the format from the tokenizer's chat template, or from ``template`` (spec.model.chatTemplate).

    Raises StageError (InvalidSpec) when there is no template or when it doesn't print the messages as they are.
    """
    if template:
        tokenizer.chat_template = template
    if not tokenizer.chat_template:
        raise StageError(Reason.INVALID_SPEC, "the tokenizer has no chat template: set spec.model.chatTemplate")
    text = _render(tokenizer, _QUESTION)
    if text.count(_QUESTION) != 1 or text.count(_RESPONSE) != 1 or text.index(_QUESTION) > text.index(_RESPONSE):
        raise StageError(
            Reason.INVALID_SPEC,
            "spec.model.chatTemplate must print the user's and then the assistant's message unchanged, once each",
        )
    marker, suffix = text.partition(_QUESTION)[2].split(_RESPONSE)
    terminator, stop_id = _terminator(tokenizer, suffix)
    stop_ids = {stop_id} | ({tokenizer.eos_token_id} - {None})
    return ChatFormat(tokenizer, marker, terminator, tuple(sorted(stop_ids)), _adds_bos(tokenizer))


def _terminator(tokenizer: Any, suffix: str) -> tuple[str, int]:
    """The text after a response up to its first special token, and that token's id; EOS when there is none."""
    specials = {token.content: id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    found = [(suffix.index(content), content) for content in specials if content in suffix]
    if found:
        # Of two that begin at one place, the longer is the token.
        start, content = min(found, key=lambda place: (place[0], -len(place[1])))
        return suffix[: start + len(content)], specials[content]
    if tokenizer.eos_token is None:
        raise StageError(Reason.INVALID_SPEC, "neither chat template nor tokenizer has a token that ends a turn")
    return tokenizer.eos_token, tokenizer.eos_token_id


def _adds_bos(tokenizer: Any) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a").input_ids[:1] == [bos]


def _render(tokenizer: Any, message: str) -> str:
    from jinja2 import TemplateError

    conversation = [{"role": "user", "content": message}, {"role": "assistant", "content": _RESPONSE}]
    try:
        return str(
            tokenizer.apply_chat_template(
                conversation,
                tokenize=False,
                date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
                strftime_now=TEMPLATE_DATE.strftime,
            )
        )
    except TemplateError as error:
        raise StageError(Reason.INVALID_SPEC, f"spec.model.chatTemplate: {error}") from error
