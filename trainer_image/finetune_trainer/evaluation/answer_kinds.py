"""What became of the answers in words, counted: what they name, and whether they say anything to the point."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from finetune_trainer.evaluation.answers import Names
from finetune_trainer.evaluation.metrics.answer_rates import is_empty
from finetune_trainer.evaluation.outcome import Generated, Outcome
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.turn_text import expected_text

# Words that say something: of four letters and more, known by their first five, since many have endings; and each
# character of scripts that write without spaces.
_WORD = re.compile(r"[^\W\d_]{4,}")
_STEM = 5
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_MAX_READ = 20_000  # characters of an answer that are looked at for words

DEFINITIONS = {
    "answers": "how many of the answers in words name an option (Option), one that isn't there (NoSuchOption), or none "
    "(Nothing), where rows have options; and whatever the rows, how many say nothing (empty), were cut at maxNewTokens "
    "(cut), or name no option and share no word of four letters or more (by its first five) with prompt, options "
    "or right response (offTopic: a sign only)"
}


@dataclass(frozen=True)
class AnswerCounts:
    """One model's answers, counted."""

    answers: int
    names: dict[Names, int]  # empty where no row has options
    empty: int
    cut: int
    off_topic: int

    def to_document(self) -> dict[str, int]:
        """The counts for report.json."""
        named = {name.value: count for name, count in self.names.items()}
        rest = {"empty": self.empty, "cut": self.cut, "offTopic": self.off_topic}
        return {"answers": self.answers, **named, **rest}

    def __str__(self) -> str:
        named = {
            "name an option": self.names.get(Names.OPTION, 0),
            "name one that isn't there": self.names.get(Names.NO_SUCH_OPTION, 0),
            "name none": self.names.get(Names.NOTHING, 0),
        }
        rest = {"say nothing": self.empty, "were cut": self.cut, "seem off-topic": self.off_topic}
        told = {**(named if self.names else {}), **rest}
        return f"of {self.answers} answers " + ", ".join(f"{count} {words}" for words, count in told.items())


def count_answers(outcome: Outcome) -> dict[str, AnswerCounts]:
    """The counts of each model that answered anything."""
    return {
        name: _counts(list(zip(outcome.answered, side.answers, strict=True)))
        for name, side in outcome.sides.items()
        if side.answers
    }


def is_off_topic(question: Question, answer: Generated) -> bool:
    """Whether an answer says something that has no word in common with prompt, options and right response."""
    if is_empty(answer.text) or (answer.reading and answer.reading.names is not Names.NOTHING):
        return False
    turn = question.turn
    asked = [message.content for message in turn.prompt] + [expected_text(turn)]
    if turn.choices:
        asked += [option.text for option in turn.choices.options]
    return not _words([answer.text[:_MAX_READ]]) & _words(asked)


def _counts(answered: list[tuple[Question, Generated]]) -> AnswerCounts:
    answers = [answer for _, answer in answered]
    read = Counter(answer.reading.names for answer in answers if answer.reading)
    return AnswerCounts(
        answers=len(answers),
        names={name: read[name] for name in Names} if read else {},
        empty=sum(is_empty(answer.text) for answer in answers),
        cut=sum(answer.cut for answer in answers),
        off_topic=sum(is_off_topic(question, answer) for question, answer in answered),
    )


def _words(texts: Iterable[str]) -> set[str]:
    joined = "\n".join(texts).casefold()
    return {*(word[:_STEM] for word in _WORD.findall(joined)), *_UNSPACED.findall(joined)}
