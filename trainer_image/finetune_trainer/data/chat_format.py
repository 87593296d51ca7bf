"""How a model writes a conversation: read from its chat template by rendering probes, never assumed.

A prompt is what a server sends: the template's rendering with ``add_generation_prompt``. A response is what the
template writes after that, up to the end of the turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from finetune_api.model import ModelSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_template import Template
from finetune_trainer.data.encoding import Piece, TextEncoder
from finetune_trainer.data.example import Message
from finetune_trainer.data.named_templates import is_name, use_named
from finetune_trainer.data.shapes import Shapes
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.protocols import Tokenizer

_RESPONSE = "rprobe7R"


@dataclass(frozen=True)
class ChatFormat:
    """Renders prompts and responses as token ids. Training and evaluation share it."""

    tokenizer: Tokenizer
    lead: str  # what the template writes between the generation prompt and a response; the model has to write it, too
    terminator: str  # what ends a response; its last token stops generation
    terminator_ids: tuple[int, ...]  # at the end of every response
    stop_ids: tuple[int, ...]
    note: str  # how a served prompt differs from the rendering of a whole conversation; "" if it doesn't
    embedding_rows: int | None
    adds_bos: bool  # the tokenizer would put a BOS before plain text
    template: Template = field(repr=False)
    encoder: TextEncoder = field(repr=False)
    context: Piece  # the end of every prompt, from its last added token on

    def prompt_text(self, prompt: Sequence[Message]) -> str:
        """What a server sends to the model for these messages."""
        return self.template.render(prompt, generate=True)

    def prompt_ids(self, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Token ids of prompts, each with exactly one BOS where the model has one.

        No message's text becomes a control token. Raises StageError (DatasetInvalid) where that can't be had.
        """
        return self.prompt_ids_of([self.template.pieces(one, self.encoder) for one in prompts])

    def prompt_ids_of(self, prompts: Sequence[Sequence[Piece]]) -> list[list[int]]:
        """The same for prompts that are rendered already; also for whole conversations."""
        # The template prints the special tokens, BOS too where there is one: the tokenizer must add none.
        return [self.with_bos(ids) for ids in self.encoder.encode(prompts)]

    def response_pieces(self, response: str) -> list[Piece]:
        """What the model has to write to say so: with lead and terminator."""
        lead, end = Piece(self.lead, is_user=False), Piece(self.terminator, is_user=False)
        return [lead, Piece(self.trimmed(response), is_user=True), end]

    def trimmed(self, response: str) -> str:
        """A response as the template prints it: some take the white space from around it."""
        return response.strip() if self.template.trims_responses else response

    @cached_property
    def shapes(self) -> Shapes:
        """How conversations are written, by the roles of their turns."""
        return Shapes(self.template, self.lead, self.terminator)

    @cached_property
    def end_token(self) -> str:
        """The token that ends a response."""
        return [found[0] for found in self.encoder.added_tokens(self.terminator)][-1]

    def response_ids(self, responses: Sequence[str]) -> list[list[int]]:
        """Token ids of responses with lead and terminator: what follows a prompt's ids, and what the loss sees.

        Added to a prompt's ids, they are the ids of the whole text, unless a token would span the border.
        """
        return self.response_ids_of([self.response_pieces(response) for response in responses])

    def response_ids_of(self, responses: Sequence[Sequence[Piece]]) -> list[list[int]]:
        """The same for responses that are told apart into pieces already."""
        (before,) = self.encoder.encode([[self.context]])
        ids = self.encoder.encode([[self.context, *one] for one in responses])
        joined = [one[: len(before)] == before for one in ids]
        missing = [one for one, is_joined in zip(responses, joined, strict=True) if not is_joined]
        apart = iter(self.encoder.encode(missing))
        return [one[len(before) :] if is_joined else next(apart) for one, is_joined in zip(ids, joined, strict=True)]

    def text_ids(self, text: str, ends: bool = True) -> list[int]:
        """Token ids of a text outside of any conversation, with BOS and, if it ``ends``, EOS where there are such."""
        return self.texts_ids([(text, ends)])[0]

    def texts_ids(self, texts: Sequence[tuple[str, bool]]) -> list[list[int]]:
        """The same for many: each a text, and whether it ends."""
        eos = self.tokenizer.eos_token_id
        ids = self.encoder.encode([[Piece(text, is_user=True)] for text, _ in texts])
        return [
            self.with_bos(one) + ([eos] if ends and eos is not None else [])
            for one, (_, ends) in zip(ids, texts, strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens included."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def check_embedding(self, largest_id: int, what: str) -> None:
        """Raises StageError (InvalidSpec) when a token's id lies beyond the model's embedding."""
        if self.embedding_rows is not None and largest_id >= self.embedding_rows:
            raise StageError(
                Reason.INVALID_SPEC,
                f"spec.model.source: {what} has id {largest_id} in the tokenizer, but the model's embedding has "
                f"{self.embedding_rows} rows (the tokenizer has {len(self.tokenizer)} tokens)",
                "name a model whose tokenizer belongs to it, or resize its embedding",
            )

    def with_bos(self, ids: list[int]) -> list[int]:
        """Token ids with a BOS where the model wants one and none is there."""
        bos = self.tokenizer.bos_token_id
        if not self.adds_bos or bos is None or ids[:1] == [bos]:
            return ids
        # A BOS further on is the template's, unless it doubles as the EOS of an earlier turn.
        return ids if bos in ids and bos != self.tokenizer.eos_token_id else [bos, *ids]


def read_chat_format(tokenizer: Tokenizer, model: ModelSpec, embedding_rows: int | None) -> ChatFormat:
    """Derives the format from the tokenizer's chat template, or from spec.model.chatTemplate.

    ``embedding_rows`` is the size of the model's vocabulary, None if unknown. The tokenizer keeps the template, to be
    saved with the adapter. Raises StageError (InvalidSpec) when there is no template, when it fails or doesn't print
    the messages as they are, and when a token of it lies beyond the embedding.
    """
    named_note = _choose_template(tokenizer, model.chat_template, embedding_rows)
    template, encoder = Template(tokenizer, model), TextEncoder(tokenizer)
    before, prompt_end = template.frame(("user",)).texts
    whole = template.render([Message("user", "qprobe0Q"), Message("assistant", _RESPONSE)], generate=False)
    frame = template.around(whole, ["qprobe0Q", _RESPONSE])
    if frame.order != (0, 1):
        raise template.refusal("must print the user's and then the assistant's message")
    start, middle, suffix = frame.texts
    follows = start == before and middle.startswith(prompt_end)
    lead = middle.removeprefix(prompt_end) if follows else ""
    terminator, stop_id = _terminator(tokenizer, template, encoder, suffix)
    notes = [
        named_note,
        ""
        if follows
        else f"a served prompt ends in {prompt_end!r}, a whole conversation has {middle!r} there and "
        f"begins {'alike' if start == before else 'otherwise'}: training and scoring follow the served prompt",
        lead
        and f"the chat template writes {lead!r} between prompt and response: the loss sees it, as the model must "
        "write it",
    ]
    adds_bos = _adds_bos(tokenizer)
    if adds_bos and tokenizer.bos_token and tokenizer.bos_token not in before:
        notes.append(f"the chat template prints no {tokenizer.bos_token}: it is put before every prompt")
    chat = ChatFormat(
        tokenizer=tokenizer,
        lead=lead,
        terminator="",
        terminator_ids=(),
        stop_ids=tuple(sorted({stop_id, stop_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id})),
        note="; ".join(filter(None, notes)),
        embedding_rows=embedding_rows,
        template=template,
        encoder=encoder,
        adds_bos=adds_bos,
        context=Piece(_context(encoder, prompt_end), is_user=False),
    )
    (open_end,) = chat.response_ids([_RESPONSE])
    chat = replace(chat, terminator=terminator)
    (ids,) = chat.response_ids([_RESPONSE])
    chat = replace(chat, terminator_ids=tuple(ids[len(open_end) :]) if ids[: len(open_end)] == open_end else (stop_id,))
    _check_own_tokens(chat)
    return chat


def _choose_template(tokenizer: Tokenizer, given: str, embedding_rows: int | None) -> str:
    """Gives the tokenizer its template; returns what the log should say about it. Its own names come first."""
    own = tokenizer.chat_template
    names = sorted(own) if isinstance(own, dict) else []
    if is_name(given) and given not in names:
        named = use_named(given, names, tokenizer, embedding_rows)
        tokenizer.chat_template = named.text
        return named.note
    tokenizer.chat_template = _chosen_template(own, given)
    return ""


def _chosen_template(own: str | dict[str, str] | None, given: str) -> str | dict[str, str]:
    """The given template, or the tokenizer's own, which may be several by name: then the given one may be a name.

    Named ones stay together, so that the name still holds when the adapter's tokenizer is loaded.
    """
    if given:
        return {**own, "default": own[given]} if isinstance(own, dict) and given in own else given
    if not own:
        raise StageError(Reason.INVALID_SPEC, "the tokenizer has no chat template: set spec.model.chatTemplate")
    if isinstance(own, dict) and "default" not in own:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.model.chatTemplate: the tokenizer has chat templates named {', '.join(sorted(own))}, and none named "
            "default",
            "set spec.model.chatTemplate to one of the names, or to a template",
        )
    return own


def _terminator(tokenizer: Tokenizer, template: Template, encoder: TextEncoder, suffix: str) -> tuple[str, int]:
    """The text after a response up to its first added token, and that token's id; EOS when there is none."""
    if found := next(encoder.added_tokens(suffix), None):
        return suffix[: found.end()], encoder.added_id(found[0])
    if tokenizer.eos_token is None or tokenizer.eos_token_id is None:
        raise template.refusal("has no token that ends a turn, and the tokenizer has no EOS")
    return tokenizer.eos_token, tokenizer.eos_token_id


def _context(encoder: TextEncoder, prompt_end: str) -> str:
    """The end of every prompt, from its last added token on: nothing before that has a say in how a text is split."""
    found = list(encoder.added_tokens(prompt_end))
    return prompt_end[found[-1].start() :] if found else f"qprobe0Q{prompt_end}"


def _adds_bos(tokenizer: Tokenizer) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer(["a"]).input_ids[0][:1] == [bos]


def _check_own_tokens(chat: ChatFormat) -> None:
    tokenizer = chat.tokenizer
    (prompt,) = chat.prompt_ids([[Message("user", "a")]])
    named = {tokenizer.bos_token: tokenizer.bos_token_id if chat.adds_bos else None}
    named |= {tokenizer.eos_token: tokenizer.eos_token_id, tokenizer.pad_token: tokenizer.pad_token_id}
    used = {id_: repr(token) for token, id_ in named.items() if id_ is not None}
    used |= {id_: repr(chat.decode([id_])) for id_ in (*prompt, *chat.terminator_ids)}
    largest = max(used)
    chat.check_embedding(largest, f"token {used[largest]}")
