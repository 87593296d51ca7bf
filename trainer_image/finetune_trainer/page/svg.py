"""From a matplotlib figure to SVG that stands in a page under a strict policy: no style attributes, no ids that clash.

A figure is drawn in the colours of light paper; the page's style sheet finds them by their attributes and replaces them
in the dark, so that one drawing serves both. Text stays text: it can be selected, searched and read aloud.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

INK, MUTED, RULE, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#ffffff"
BASE, TUNED, RIGHT = "#6e7781", "#0b5cad", "#b35c00"
WIDTH = 360  # CSS pixels that a figure is drawn at: a phone's width; it may grow to half a page
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT_SIZE = re.compile(r"([\d.]+)px")
# What SVG takes as an attribute of its own. Fonts are the page's.
_ATTRIBUTES = {
    "fill", "fill-opacity", "fill-rule", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray",
    "stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "opacity", "text-anchor",
    "clip-path", "clip-rule", "font-size",
}  # fmt: skip
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "finetune",
    "text.parse_math": False,  # a name from outside may have dollars
    "font.family": "DejaVu Sans",  # its widths decide where text stands; matplotlib brings it
    "font.size": 10.0,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 8.0,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.6,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Drawing:
    """A figure on the page."""

    name: str  # one word, unique on the page
    title: str
    description: str  # what it shows, for who can't see it
    svg: Markup


def draw(
    name: str, title: str, description: str, height: int, paint: Callable[[Any], None], width: int = WIDTH
) -> Drawing:
    """Paints on the axes of a new figure of ``width`` × ``height`` CSS pixels. The same strokes give the same text."""
    from matplotlib import rc_context  # half a second to import
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a character that the font lacks: the browser has another one
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        paint(figure.add_subplot())
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Drawing(name, title, description, Markup(for_page(text.getvalue(), name, title, description)))


def for_page(text: str, name: str, title: str, description: str) -> str:
    """matplotlib's SVG as an element of the page. ``name`` makes its ids unique there."""
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(text)
    for part in ("metadata", "defs/style", "defs"):
        _remove(root, part)
    references = set(_REFERENCE.findall(text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in root.iter():
        _tidy(element, name, references)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    for place, (tag, said) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{'title' if place == 0 else 'description'}"})
        element.text = said
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _remove(root: ElementTree.Element, path: str) -> None:
    """Removes what is empty or unwanted at a path below the root: metadata, the global style, and its empty defs."""
    *above, last = path.split("/")
    parents = root.findall("/".join(f"{{{_SVG}}}{one}" for one in above)) if above else [root]
    for parent in parents:
        for child in parent.findall(f"{{{_SVG}}}{last}"):
            if last != "defs" or not len(child):
                parent.remove(child)


def _tidy(element: ElementTree.Element, name: str, references: set[str]) -> None:
    found = dict(element.attrib)
    element.attrib.clear()
    for key, value in found.items():
        if key == "style":
            element.attrib |= _presentation(value, name)
        elif key == "id":
            if value in references:
                element.set("id", f"{name}-{value}")
        elif key in (f"{{{_XLINK}}}href", "href"):
            element.set("href", f"#{name}-{value.removeprefix('#')}")
        elif key != "type":
            element.set(key, _shorter(_local(value, name)))
    element.tail = None
    if element.text and not element.text.strip():
        element.text = None


def _presentation(style: str, name: str) -> dict[str, str]:
    """A style attribute's declarations as attributes."""
    attributes = {}
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font" and (size := _FONT_SIZE.search(value)):
            attributes["font-size"] = size[1]
        elif key == "font-size":
            attributes[key] = value.removesuffix("px")
        elif key in _ATTRIBUTES:
            attributes[key] = _shorter(_local(value, name))
    return attributes


def _local(value: str, name: str) -> str:
    return _REFERENCE.sub(lambda match: f"url(#{name}-{match[1]})", value)


def _shorter(value: str) -> str:
    return _NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value)
