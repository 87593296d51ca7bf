"""From rows to token ids and labels: the loss sees the response and its terminator, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.reasons import Reason
from finetune_api.spec import FineTuneJobSpec
from finetune_trainer.data.chat_template import ChatFormat
from finetune_trainer.data.formats.multiple_choice import ChoiceRow, prompt_of, response_of
from finetune_trainer.stage.failure import StageError

IGNORED = -100  # PyTorch's cross entropy leaves this label out
_CHECKED_ROWS = 16


@dataclass(frozen=True)
class TokenRow:
    """One row as the trainer wants it: two lists of equal length."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class TokenRows:
    """The rows that fit, and how many didn't."""

    rows: list[TokenRow]
    dropped: int

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(row.input_ids) for row in self.rows)


def tokenise(rows: list[ChoiceRow], spec: FineTuneJobSpec, chat: ChatFormat, limit: int) -> TokenRows:
    """Tokenises rows and drops those longer than ``limit`` tokens.

    Raises StageError: DatasetInvalid when no row is left, InvalidSpec when the labels don't decode to the responses.
    """
    responses = [response_of(row, spec.dataset.response_template) for row in rows]
    prompts = chat.prompt_ids([prompt_of(row, spec.dataset.prompt_template) for row in rows])
    answers = chat.response_ids(responses)
    on_all = spec.training.loss_on == "All"
    whole = [
        TokenRow(prompt + answer, (prompt if on_all else [IGNORED] * len(prompt)) + answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    kept = [row for row in whole if len(row.input_ids) <= limit]
    if not kept:
        shortest = min(len(row.input_ids) for row in whole)
        raise StageError(
            Reason.DATASET_INVALID,
            f"all {len(rows)} rows are longer than {limit} tokens, spec.model.maxSequenceLength or the model's context "
            f"(the shortest has {shortest})",
        )
    if not on_all:
        check_labels(whole[:_CHECKED_ROWS], responses[:_CHECKED_ROWS], chat)
    return TokenRows(kept, len(whole) - len(kept))


def check_labels(rows: list[TokenRow], responses: list[str], chat: ChatFormat) -> None:
    """Decodes what the loss sees. Raises StageError (InvalidSpec) unless it is each response with its terminator."""
    for number, (row, response) in enumerate(zip(rows, responses, strict=True), start=1):
        expected = response + chat.terminator
        seen = chat.decode([label for label in row.labels if label != IGNORED])
        if seen.removeprefix(" ") != expected:  # SentencePiece tokenizers put a space before a text's first word
            raise StageError(
                Reason.INVALID_SPEC,
                f"row {number}: the loss would see {seen!r} instead of {expected!r}; check spec.model.chatTemplate",
            )
