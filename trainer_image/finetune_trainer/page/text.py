"""Text from rows, models and files made safe to show, and numbers made short. Pure.

HTML's own characters are the template's affair, which escapes them. Here go those that a browser obeys: controls, and
characters that turn the direction of what follows or hide it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from finetune_api.base import in_words

_JOINERS = "\u200c\u200d"  # scripts and emoji need them
_LINES = "\n\t"
# Controls, format characters, lone surrogates, private use and what is no character: none of them has a look.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Excerpt:
    """A text as it is shown."""

    text: str
    left_out: int = 0  # characters that are not shown


def clean(text: str) -> str:
    """The text with each invisible character as its number, such as ⟨U+202E⟩; lines stay lines."""
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if _is_shown(one) else f"⟨U+{ord(one):04X}⟩" for one in text)


def excerpt(text: str, length: int) -> Excerpt:
    """The first ``length`` characters, cleaned, and how many follow that are not shown."""
    return Excerpt(clean(text[:length]), max(0, len(text) - length))


def short(text: str, length: int) -> str:
    """One cleaned line of at most ``length`` characters, before invisible ones are written out."""
    line = " ".join(text[: length * 4].split())
    return clean(line if len(line) <= length else line[: length - 1] + "…")


def words(name: str) -> str:
    """A name of the API for people: LetterAccuracy becomes 'letter accuracy', BLEU stays."""
    return clean(name if name.isupper() else in_words(name))


def sentence(text: str) -> str:
    """The text with a capital in front."""
    return text[:1].upper() + text[1:]


def size(count: int) -> str:
    """Bytes for people, in powers of 1024."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Such as '1 row' and '1,272 rows'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: int) -> str:
    """Such as '1 h 02 min', '3 min 20 s' or '41 s'."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {left:02} s" if minutes else f"{left} s"


def _is_shown(character: str) -> bool:
    return character in _LINES or character in _JOINERS or unicodedata.category(character) not in _UNSEEN
