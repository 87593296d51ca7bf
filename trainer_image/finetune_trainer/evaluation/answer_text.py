"""Texts made comparable, and an answer split into what it says: the words before reading begins."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Normaliser = Callable[[str], str]

_LATEX = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_TAG = re.compile(r"</?(?:b|i|em|strong|u|p|br|code)\s*/?>", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*```\w*[ \t]*$|```", re.MULTILINE)
_MARKUP = re.compile(r"[*_`#$>~\\]+")
_TRANSLATED = {**dict.fromkeys(map(ord, "\"'“”„‟‘’‚‛«»‹›「」『』"), ""), ord("。"): ". ", ord("、"): ", "}

# What introduces an answer in free words. Behind the first kind something is named for certain.
_FRAME = re.compile(
    r"\b(?:(?:correct|right|best|final|likeliest|most\s+likely)\s+)*(?:answer|option|choice)(?:\s+(?:choice|option))?"
    r"(?:\s+here|\s+to\s+(?:this|the)\s+question)?[ \t]*"
    r"(?:\s(?:is|would\s+be|should\s+be|must\s+be)\b|[:=]|\n)\s*[:\-]?\s*",
    re.IGNORECASE,
)
_SOFT_FRAME = re.compile(
    r"\b(?:(?:it|this)(?:\s+is|'s|s|\s+must\s+be|\s+should\s+be)|(?:i|we)(?:\s+would|'d|\s+will)?\s+"
    r"(?:choose|pick|select|say|go\s+with)|(?:most|best)\s[^.:\n]{1,100}?\s(?:is|would\s+be)\b:?)\s+",
    re.IGNORECASE,
)


def exact(text: str) -> str:
    """Composed characters and single spaces; case, quotes and markup count."""
    return "\n".join(" ".join(line.split()) for line in unicodedata.normalize("NFC", text).strip().splitlines())


def caseless(text: str) -> str:
    """The same without case."""
    return exact(text).casefold()


def loose(text: str) -> str:
    """The same without markup, quotes, and differences of width or font."""
    text = _FENCE.sub("", text)
    for _ in range(2):  # \boxed{\text{B}}
        text = _LATEX.sub(r"\1", text)
    text = _MARKUP.sub("", _TAG.sub("", text)).translate(_TRANSLATED)
    return caseless(unicodedata.normalize("NFKC", text))


# From strict to loose: options that differ in case or markup alone are told apart by the first that can.
NORMALISERS: tuple[Normaliser, ...] = (exact, caseless, loose)


# 'Diagnosis: text', in whatever language.
_LABEL = re.compile(r"^\W*[^\W\d_]{3,}[ \t]*:[ \t]*", re.MULTILINE)


@dataclass(frozen=True)
class Statement:
    """What stands where an answer names an option, to the end of its line."""

    text: str
    framed: bool  # something is named here for certain, be it an option or not
    ended: bool  # whether anything follows, or the answer came to its own end


def statements(text: str, template: str, normalise: Normaliser, cut: bool) -> Iterator[Statement]:
    """The places of a normalised answer where an option may be named, the most telling first.

    ``template`` is the response template: where an answer follows it, what stands at its placeholders is meant. Next
    come words such as 'the answer is', the answer's first line, and what follows a label.
    """
    parts, tail = _parsed(template)
    tail = normalise(tail).rstrip(" .!")
    bare = not any(literal.strip(" .!") for literal, _ in parts) and not tail
    for closing in () if bare else dict.fromkeys((tail, "")):
        if match := _pattern(parts, closing, normalise).match(text):
            found = [_first(match, parts, name) for name in ("letter", "answer")]
            whole = bool(closing) or match.end() < len(text)
            yield Statement(": ".join(part for part in found if part), True, ended=whole or not cut)
            break
    for frame, framed in ((_FRAME, True), (_SOFT_FRAME, False)):
        for match in frame.finditer(text):
            statement = _first_line(text[match.end() :], framed, cut)
            if not _FRAME.search(statement.text):  # a heading: the statement itself follows
                yield statement
    yield _first_line(text, False, cut)
    for match in _LABEL.finditer(text):
        yield _first_line(text[match.end() :], False, cut)


def _first_line(text: str, framed: bool, cut: bool) -> Statement:
    line, _, rest = text.lstrip().partition("\n")
    return Statement(line.strip(), framed, ended=not cut or bool(rest.strip()))


Parts = list[tuple[str, str]]  # a literal and the placeholder that follows it


def _parsed(template: str) -> tuple[Parts, str]:
    """A template's parts, and the literal behind the last placeholder."""
    parts, literal = [], ""
    for text, name, _, _ in string.Formatter().parse(template):  # doubled braces come in pieces of their own
        literal += text
        if name is not None:
            parts.append((literal, name))
            literal = ""
    return parts, literal


def _pattern(parts: Parts, closing: str, normalise: Normaliser) -> re.Pattern[str]:
    """Matches a text that begins as the template does, whatever its white space, to ``closing`` or the line's end."""
    pattern = r"\W*?"
    for index, (literal, _) in enumerate(parts):
        last = index == len(parts) - 1
        pattern += _spaced(normalise(literal)) + f"(?P<part{index}>[^\n]+{'' if last and not closing else '?'})"
    return re.compile(pattern + _spaced(closing), re.IGNORECASE)


def _first(match: re.Match[str], parts: Parts, name: str) -> str | None:
    """What stands at the first placeholder of a name."""
    index = next((index for index, part in enumerate(parts) if part[1] == name), None)
    return None if index is None else match[f"part{index}"].strip()


def _spaced(literal: str) -> str:
    pieces = re.findall(r"\w+|[^\w\s]", literal)
    return r"\s*".join(["", *map(re.escape, pieces), ""]) if pieces else ""
