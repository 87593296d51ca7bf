"""Reads a generated answer: which option it names, whether it names one that isn't there, or none at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from finetune_trainer.data.example import Choices
from finetune_trainer.evaluation.answer_text import NORMALISERS, Normaliser, Statement, statements

# What may follow an option's text or key without being part of it.
_END = re.compile(
    r"\s*(?:$|\n|[.;:!?)\]}]+(?=[\s,]|$)|,(?=\s|$)|[(\[]|[-–—](?=\s)"
    r"|(?:because|since|as|due|which|that|is\s+(?:the\s+)?(?:correct|right|best|most|answer))\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?](?=\s|$)")
_DELIMITER = re.compile(r"\s*[)\].:,\-–—]+\s*|\s+")
_ARTICLE = re.compile(r"(?:the|an?)\s+", re.IGNORECASE)
# Words before an option's name that say how sure somebody is.
_HEDGE = re.compile(
    r"(?:(?:most\s+|very\s+)?(?:likely|probably)|indeed|therefore|thus|clearly|definitely|certainly|actually|simply|"
    r"perhaps|possibly)(?:,\s*|\s+)(?:to\s+be\s+)?",
    re.IGNORECASE,
)
# Words that begin a reason, not an option's text.
_REASON = re.compile(
    r"(?:because|since|as|due|it|its|it's|this|that|these|those|which|explanation|reason(?:ing)?|therefore|so|the|in|"
    r"based|given|while|although|when|if|i|we|my|he|she|they|there|option|answer)\b",
    re.IGNORECASE,
)
# Words that say that nothing is named.
_NONE = re.compile(
    r"(?:not|none|no|nothing|neither|unknown|unclear|uncertain|undetermined|n/a|impossible|unable|sorry|i|we|cannot|"
    r"can't|can not|both|there|as an ai|hard to|difficult to|unfortunately|"
    r"(?:first|second|third|fourth|fifth|last)\s+(?:option|choice|answer|one))\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|never|no|neither|nor|without|except|unlikely|incorrect|wrong|false|contraindicated|rather\s+than)\b|n't\b",
    re.IGNORECASE,
)
_ANOTHER = re.compile(r"\s*(?:,?\s*(?:and|or)\b|[,/&+;]|[(\[]\s*(?:(?:option|choice|letter)\s+)?)\s*", re.IGNORECASE)
_EXPLICIT = re.compile(r"(?:(?:option|choice|letter|answer)\s+|(?=[(\[]))", re.IGNORECASE)
# An option's text that stands somewhere in a sentence counts if it can't be a common word.
_LEAST_MENTION = 4
# Words that an invented option may have more than the longest that is there.
_EXTRA_WORDS = 3
# Articles and hedges before a name; a model that repeats them without end names nothing.
_MAX_FILLERS = 8
# Characters of an answer that are read: more are written by models that came to no end.
_MAX_READ = 20_000


class Names(StrEnum):
    """What an answer names, as it stands in status."""

    OPTION = "Option"
    NO_SUCH_OPTION = "NoSuchOption"
    NOTHING = "Nothing"


@dataclass(frozen=True)
class Reading:
    """What an answer names; ``option`` is the index of the option."""

    names: Names
    option: int | None = None


NOTHING = Reading(Names.NOTHING)
TWO = Reading(Names.NOTHING)  # compared by identity: no other place in the answer tells more
NO_SUCH_OPTION = Reading(Names.NO_SUCH_OPTION)


def read_answer(text: str, choices: Choices, template: str, cut: bool = False) -> Reading:
    """Reads an answer to a question with ``choices``, trained with the response ``template``.

    An option is named by its text, by its key, or by both ('B: text'). Where a text is both, as in options that are
    letters themselves, it is what the template asks for: the text if it has {answer}, else the key. Key and text of two
    different options, or two options, name none. ``cut`` says that the answer ended at the longest length: what it had
    not yet ended may have become something else.
    """
    last = NOTHING
    if len(text) > _MAX_READ:
        text, cut = text[:_MAX_READ], True
    if text.lstrip().startswith("<think>"):  # thoughts that never came to an end
        return last
    for normalise in NORMALISERS:
        last = _Reader(choices, template, normalise, cut).read(text)
        if last.names is Names.OPTION:
            return last
    return last


class _Reader:
    """Reads answers with one way of making texts comparable."""

    def __init__(self, choices: Choices, template: str, normalise: Normaliser, cut: bool) -> None:
        self.normalise, self.template, self.cut = normalise, template, cut
        self.texts = [_flat(normalise(option.text)) for option in choices.options]
        self.keys = [_flat(normalise(option.letter)) for option in choices.options]
        self.responses = [_flat(normalise(option.response)) for option in choices.options]
        self.bare = [text[match.end() :] if (match := _ARTICLE.match(text)) else text for text in self.texts]
        self.same = [self.texts.index(text) for text in self.texts]
        # Texts that this way can't tell apart, though they differ, name nothing.
        originals = [option.text for option in choices.options]
        self.clear = [
            all(originals[other] == originals[index] for other, text in enumerate(self.texts) if text == own)
            for index, own in enumerate(self.texts)
        ]
        self.text_first = "{answer}" in template

    def read(self, text: str) -> Reading:
        text = self.normalise(text)
        if (whole := self._response(_flat(text))) is not None:
            return Reading(Names.OPTION, whole)
        is_list, verdict = self._lists(text), False
        for statement in statements(text, self.template, self.normalise, self.cut):
            if self._lists(statement.text) or (is_list and not statement.framed):
                continue
            found = self._statement(statement)
            if found.names is not Names.NOTHING or found is TWO:
                return found
            verdict |= statement.framed
            if statement.framed and not statement.ended:  # the verdict itself was cut
                return NOTHING
        return NOTHING if is_list or verdict else self._mention(text)

    def _response(self, text: str) -> int | None:
        """An option whose whole filled template the answer is, or begins with and goes on in a new sentence."""
        for index in self._longest_first(self.responses):
            response = self.responses[index]
            ended = response[-1:] in ".!?\"'}])" and text[len(response) : len(response) + 1] in ("", " ")
            if self.clear[index] and text.startswith(response) and (text == response or ended):
                return None if self.cut and self._goes_on(text) else index
        return None

    def _goes_on(self, text: str) -> bool:
        return any(response.startswith(text) and response != text for response in self.responses)

    def _statement(self, statement: Statement) -> Reading:
        text = _without_quotes(statement.text)
        readers = (self._by_text, self._by_key) if self.text_first else (self._by_key, self._by_text)
        for _ in range(_MAX_FILLERS):
            if not text:
                return NOTHING
            for read in (self._whole, self._by_both, *readers, self._by_unknown_key):
                if found := read(text, statement.ended):
                    return found
            if not (filler := _ARTICLE.match(text) or _HEDGE.match(text)):
                break
            text = _without_quotes(text[filler.end() :])
        ended = statement.ended or _SENTENCE.search(text) is not None
        says = any(character.isalnum() for character in text) and not _NONE.match(text)
        return NO_SUCH_OPTION if says and ended and (statement.framed or self._is_name(text)) else NOTHING

    def _whole(self, text: str, ended: bool) -> Reading | None:
        """Nothing but an option's text."""
        bare = text.rstrip(" .!")
        if not self.text_first and bare in self.keys:
            return None
        for own in (text, bare, bare.strip("()[]")):
            if own in self.texts and self.clear[index := self.texts.index(own)]:
                if not ended and own == text and any(len(t) > len(own) and t.startswith(own) for t in self.texts):
                    return NOTHING
                return Reading(Names.OPTION, index)
        # 'Heart' for 'The heart'.
        named = {self.same[index] for index, own in enumerate(self.bare) if own == bare and self.clear[index]}
        return Reading(Names.OPTION, named.pop()) if ended and len(named) == 1 else None

    def _by_both(self, text: str, ended: bool) -> Reading | None:
        """A key and then its option's text, or the beginning of it; with another option's, two are named."""
        for index, behind, rest in self._after_key(text):
            own, said = self.texts[index], _flat(_SENTENCE.split(rest)[0])
            if rest.startswith(own) and not self._is_longer(rest, own):
                # What it goes on to say may take it back, but is no part of the name: the key says where that ends.
                return NOTHING if _NEGATION.search(said[len(own) :]) else Reading(Names.OPTION, index)
            others = (text for other, text in enumerate(self.texts) if self.same[other] != self.same[index])
            if behind[:1] != " " and any(rest.startswith(text) and _END.match(rest[len(text) :]) for text in others):
                return TWO
            if ended and len(said) >= _LEAST_MENTION and own.startswith(said) and behind[:1] != " ":
                return Reading(Names.OPTION, index)
        return None

    def _is_longer(self, rest: str, own: str) -> bool:
        """Whether a text that begins with an option's goes on within a word, or is another option's."""
        others = (text for text in self.texts if len(text) > len(own) and text.startswith(own))
        return rest[len(own) :][:1].isalnum() or any(rest.startswith(text) for text in others)

    def _by_text(self, text: str, ended: bool) -> Reading | None:
        """An option's text, and then something that is no part of it."""
        for index in self._longest_first(self.texts):
            own = self.texts[index]
            if not (self.clear[index] and text.startswith(own)):
                continue
            rest = text[len(own) :]
            if self._names_another(rest, index):
                return TWO
            if rest and _END.match(rest):
                return Reading(Names.OPTION, self.same[index])
        return None

    def _by_key(self, text: str, ended: bool) -> Reading | None:
        """A key, with a reason behind it or nothing."""
        for index, behind, rest in self._after_key(text):
            if self._names_another(behind, index):
                return TWO
            if not _END.match(behind):
                continue
            if not behind.strip():
                return Reading(Names.OPTION, index) if ended else NOTHING
            if not rest or behind.lstrip()[0] not in ".:)]-–—" or _REASON.match(rest):
                return Reading(Names.OPTION, index)
            # 'B: something else' is an option that isn't there.
            return NO_SUCH_OPTION if ended or _SENTENCE.search(rest) else NOTHING
        return None

    def _by_unknown_key(self, text: str, ended: bool) -> Reading | None:
        """What looks like a key of this question and is none; with an option's text behind it, that text counts."""
        shape = self._shape()
        match = shape and re.match(rf"(?:(?:option|choice|letter|answer)\s+)?[(\[]?({shape})(?=$|[)\].:])", text)
        if not match or match[1] in self.keys:
            return None
        behind = text[match.end() :]
        rest = _DELIMITER.sub("", behind, count=1) if behind else ""
        for index in self._longest_first(self.texts):
            own = self.texts[index]
            if self.clear[index] and rest.startswith(own) and _END.match(rest[len(own) :]):
                return Reading(Names.OPTION, self.same[index])
        return NO_SUCH_OPTION if ended or behind else NOTHING

    def _shape(self) -> str:
        if all(len(key) == 1 and key.isalpha() for key in self.keys):
            return r"[^\W\d_]"
        return r"\d{1,3}" if all(key.isdigit() for key in self.keys) else ""

    def _after_key(self, text: str) -> Iterator[tuple[int, str, str]]:
        """Options whose key a text begins with, what stands behind the key, and that without a delimiter."""
        text = text[match.end() :] if (match := _EXPLICIT.match(text)) else text
        for index in self._longest_first(self.keys):
            behind = _strip_key(text, self.keys[index])
            if behind != text and not behind[:1].isalnum():
                delimiter = _DELIMITER.match(behind)
                yield index, behind, behind[delimiter.end() :] if delimiter else behind

    def _names_another(self, rest: str, index: int) -> bool:
        """Whether a second option follows: 'A or B', 'A, C and D'."""
        match = _ANOTHER.match(rest)
        if not match:
            return False
        second = rest[match.end() :]
        return any(
            other not in (index, self.same[index]) and second.startswith(name) and _END.match(second[len(name) :])
            for names in (self.texts, self.keys)
            for other, name in enumerate(names)
        )

    def _lists(self, text: str) -> bool:
        """Whether a text lists several options, as 'A. text', or a line each: that repeats the question."""

        def listed(key: str, own: str) -> bool:
            keyed = rf"[(\[]?{re.escape(key)}[)\].:]+\s+"
            alone = re.escape(own) if key in self.texts else rf"{re.escape(own)}|{re.escape(key)}"
            lines = (rf"^\W*{keyed}", rf"^[\W\d]*(?:{alone})\W*$")
            forms = (rf"(?<!\w){keyed}{re.escape(own)}(?!\w)", *lines)
            return any(re.search(form, text, re.MULTILINE) for form in forms)

        pairs = enumerate(zip(self.keys, self.texts, strict=True))
        return len({self.same[index] for index, (key, own) in pairs if listed(key, own)}) > 1

    def _mention(self, text: str) -> Reading:
        """The only option whose text stands in free words that deny nothing."""
        if self.cut:  # the last sentence may have gone on
            text = "".join(_SENTENCE.split(text)[:-1])
        if _NEGATION.search(text):
            return NOTHING
        found: set[int] = set()
        for index in self._longest_first(self.texts):
            own = self.texts[index]
            pattern = rf"(?<!\w){re.escape(own)}(?!\w)"
            if len(own) >= _LEAST_MENTION and self.clear[index] and re.search(pattern, text):
                text = re.sub(pattern, "\n", text)
                found.add(self.same[index])
        return Reading(Names.OPTION, found.pop()) if len(found) == 1 else NOTHING

    def _is_name(self, text: str) -> bool:
        """Whether an answer in a template that has no words of its own is a name, and no sentence."""
        longest = max(len(own.split()) for own in self.texts)
        return self.template.strip(" .!") in ("{answer}", "{letter}") and len(text.split()) <= longest + _EXTRA_WORDS

    @staticmethod
    def _longest_first(texts: list[str]) -> list[int]:
        return sorted(range(len(texts)), key=lambda index: -len(texts[index]))


def _without_quotes(text: str) -> str:
    return text.strip(" \"'").lstrip(":, ")


def _flat(text: str) -> str:
    return " ".join(text.split())


def _strip_key(text: str, key: str) -> str:
    """What stands behind a key, which may be in brackets; the text itself when it doesn't begin with the key."""
    match = re.match(rf"[(\[]\s*{re.escape(key)}\s*[)\]]|{re.escape(key)}", text)
    return text[match.end() :] if match else text
