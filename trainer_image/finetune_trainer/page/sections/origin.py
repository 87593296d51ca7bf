"""Sections of what the figures were made from, and how to have them again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from finetune_api.names import API_VERSION, KIND
from finetune_api.results import LineageStatus, StageLineage
from finetune_trainer.page.reading import Inputs
from finetune_trainer.page.sections.base import Section
from finetune_trainer.page.text import excerpt, sentence, short, words

_CPU = "CPU"
_LONGEST_JOB = 20_000  # characters


def lineage(inputs: Inputs) -> Section | None:
    """Digests, commits, images, packages and devices."""
    made_from = next((one.lineage for one in (inputs.result, inputs.training) if one and one.lineage), None)
    groups = [("Made from", list(_made_from(made_from)))] if made_from else []
    for title, result in (("Training ran on", inputs.training), ("Evaluation ran on", inputs.result)):
        if result and result.stage_lineage:
            groups.append((title, list(_ran(result.stage_lineage))))
    trained = inputs.training
    saved = (("Adapter", trained.adapter), ("Model", trained.model)) if trained else ()
    for name, one in saved:
        if one:
            groups.append((f"{name} that came of it", [("Lies in", short(one.uri, 300)), ("SHA-256", one.sha256)]))
    groups = [(title, facts) for title, facts in groups if facts]
    return Section("lineage", "Where it comes from", {"groups": groups}) if groups else None


def _made_from(made_from: LineageStatus) -> Iterator[tuple[str, str]]:
    document = made_from.to_api()
    for name, value in document.items():
        if isinstance(value, list):
            for one in value:
                yield short(f"{one.get('name')}", 64), short(str(one.get("revision")), 64)
        elif isinstance(value, str | int):
            yield sentence(words(name)).replace(" sha256", " SHA-256"), short(str(value), 80)


def _ran(runner: StageLineage) -> Iterator[tuple[str, str]]:
    for name, value in (
        ("Device", runner.device),
        ("Trainer", runner.trainer_version),
        ("Image", runner.image),
        ("Profile SHA-256", runner.profile_sha256),
        ("Packages", ", ".join(one.replace("==", " ") for one in (runner.packages or "").split())),
    ):
        if value:
            yield name, short(value, 600)


def repeat(inputs: Inputs) -> Section | None:
    """The commands that check the figures, and that make them anew; below, the whole job."""
    report_uri = inputs.report.evaluation.report_uri
    if not report_uri:
        return None
    folder = PurePosixPath(report_uri.removeprefix("pvc://")).parent
    verify = f"finetune verify {shlex.quote(str(PurePosixPath(*folder.parts[-3:])))}"
    file = f"{short(inputs.job, 63) or 'job'}.yaml"
    return Section(
        "repeat",
        "How to repeat it",
        {
            "verify": short(verify, 400),
            "apply": f"kubectl apply -f {shlex.quote(file)}",
            "file": file,
            "job": excerpt(_job(inputs), _LONGEST_JOB),
        },
    )


def _job(inputs: Inputs) -> str:
    """The job as YAML, with every default filled in; empty where its spec isn't known."""
    import yaml

    if inputs.spec is None:
        return ""
    trained = inputs.training
    saved = (trained.adapter or trained.model) if trained else None
    spec: dict[str, Any] = dict(inputs.spec)
    if saved:
        parts = PurePosixPath(saved.uri.removeprefix("pvc://")).parts[:-2]
        spec["output"] = {"destination": f"pvc://{'/'.join(parts)}"}
    ran = inputs.result.stage_lineage if inputs.result else None
    if ran and ran.device == _CPU:
        spec["runtime"] = {"gpusPerNode": 0}
    job = inputs.report.job
    metadata = {"name": job.name[:253], "namespace": job.namespace[:63]} if job else {"name": "job"}
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
