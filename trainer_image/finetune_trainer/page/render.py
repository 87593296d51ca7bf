"""From what a run's folder says to the page's text. The same inputs give the same bytes."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finetune_trainer.page.figures_of_metrics import Change
from finetune_trainer.page.reading import Inputs
from finetune_trainer.page.sections import SECTIONS
from finetune_trainer.page.text import clean, counted, short
from finetune_trainer.page.verdict import verdict_of

_PACKAGE = "finetune_trainer.page"
_LONGEST = 32_768  # characters of any one text: what is cut on purpose, and says so, is shorter
_MARKS = {Change.BETTER: "better", Change.WORSE: "worse", Change.OPEN: "open", Change.NONE: "open"}


def render(inputs: Inputs) -> str:
    """The page. Nothing in it comes from elsewhere or runs: the policy in its head allows one style sheet, its own."""
    style = (files(_PACKAGE) / "templates" / "page.css").read_text(encoding="utf-8")
    sections = [section for make in SECTIONS if (section := make(inputs))]
    verdict = verdict_of(inputs)
    return (
        _environment()
        .get_template("page.html")
        .render(
            policy=f"default-src 'none'; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'",
            style=Markup(style),
            title=inputs.job or "Fine-tune",
            facts=_facts(inputs),
            verdict=verdict,
            mark=_MARKS[verdict.change],
            gates=_gates(inputs),
            sections=sections,
            finished=_finished(inputs),
            version=_version(inputs),
        )
    )


def _environment() -> Environment:
    """Escapes all text, and writes out what of it is invisible, whatever a template forgets."""
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters |= {"short": short, "counted": counted}
    return environment


def _harmless(value: Any) -> Any:
    return clean(value[:_LONGEST]) if isinstance(value, str) and not isinstance(value, Markup) else value


def _hash(style: str) -> str:
    """As a Content-Security-Policy names the text of an element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


def _facts(inputs: Inputs) -> list[str]:
    """The line below the title: model, method, steps, rows, device."""
    facts = []
    if inputs.asked:
        facts += [short(inputs.asked.model.source, 120), short(inputs.asked.method, 20)]
    if inputs.training and inputs.training.training:
        facts.append(counted(inputs.training.training.steps, "step"))
    facts.append(counted(inputs.report.evaluation.examples, "held-out row"))
    if inputs.result and inputs.result.stage_lineage and inputs.result.stage_lineage.device:
        facts.append(short(inputs.result.stage_lineage.device, 60))
    return facts


def _gates(inputs: Inputs) -> str:
    """Such as 'Gates: 2 passed, 1 failed'; empty without gates."""
    verdicts = [one.verdict for one in inputs.report.gates]
    told = [f"{verdicts.count(one)} {short(one, 20).lower()}" for one in dict.fromkeys(verdicts)]
    return f"Gates: {', '.join(told)}" if told else ""


def _finished(inputs: Inputs) -> str:
    return inputs.result.finished_at.strftime("%-d %B %Y, %H:%M UTC") if inputs.result else ""


def _version(inputs: Inputs) -> str:
    runner = inputs.result.stage_lineage if inputs.result else None
    return short(runner.trainer_version or "", 40) if runner else ""
