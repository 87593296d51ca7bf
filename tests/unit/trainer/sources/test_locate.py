"""Where the sources of a run lie, and what is pinned of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from finetune_api.reasons import Reason
from finetune_api.uris import HubSource
from finetune_trainer.sources.hub import HubRows
from finetune_trainer.sources.locate import locate
from finetune_trainer.sources.model import fingerprint
from finetune_trainer.sources.pins import Pins, check_unchanged, read_pins, write_pins
from trainer_inputs import make_config, refusal, run_config

SPEC = {
    "model": {"source": "hf://acme/tiny"},
    "dataset": {"source": "hf://acme/rows", "config": "small"},
    "evaluation": {"dataset": {"source": "hf://acme/rows", "config": "small"}},
    "output": {"destination": "pvc://work/out"},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def pins(**fields: str) -> Pins:
    return Pins(job_uid="uid-1", training_sha256="0" * 64, **fields)


def test_a_claim_becomes_a_path_and_a_model_on_it_gets_a_fingerprint(tmp_path: Path, model: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text("{}\n")
    sources = locate(make_config(tmp_path), None)
    assert (sources.model.name, sources.model.revision, sources.model.sha256) == (str(model), None, fingerprint(model))
    assert [(name, rows.name) for name, rows in sources.training.items()] == [("dataset", "train.jsonl")]
    assert sources.held_out is None


def test_an_earlier_attempts_commits_are_taken_again(tmp_path: Path) -> None:
    config = run_config(SPEC, {"work": tmp_path})
    earlier = pins(
        evaluation_sha256=config.evaluation_sha256 or "",
        model_revision="m1",
        dataset_revision="d1",
        evaluation_dataset_revision="e1",
    )
    sources = locate(config, earlier)  # asks no hub
    assert (sources.model.name, sources.model.revision, sources.model.sha256) == ("acme/tiny", "m1", None)
    training, held_out = sources.training["dataset"], sources.held_out
    assert isinstance(training, HubRows)
    assert (training.repository, training.commit, training.config) == ("acme/rows", "d1", "small")
    assert isinstance(held_out, HubRows)
    assert (held_out.commit, held_out.split, held_out.field) == ("e1", "test", "spec.evaluation.dataset")


def test_a_commit_of_another_evaluations_rows_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def resolve(location: HubSource, revision: str, kind: str, token: str | None) -> str:
        asked.append((location.repository, revision, kind))
        return "now"

    monkeypatch.setattr("finetune_trainer.sources.locate.resolve_revision", resolve)
    config = run_config(SPEC, {"work": tmp_path})
    earlier = pins(
        evaluation_sha256="f" * 64, model_revision="m1", dataset_revision="d1", evaluation_dataset_revision="e1"
    )
    sources = locate(config, earlier)
    assert sources.held_out
    assert sources.held_out.commit == "now"
    assert asked == [("acme/rows", "main", "dataset")]


def test_a_claim_that_is_not_mounted_and_a_folder_without_a_model_are_told_with_the_field(tmp_path: Path) -> None:
    elsewhere = run_config({**SPEC, "model": {"source": "pvc://elsewhere/model"}}, {"work": tmp_path})
    text = refusal(lambda: locate(elsewhere, None), Reason.MODEL_NOT_FOUND)
    assert text.startswith("spec.model.source pvc://elsewhere/model: claim 'elsewhere' is not mounted")
    text = refusal(lambda: locate(make_config(tmp_path), None), Reason.MODEL_NOT_FOUND)
    assert text == "pvc://work/model is not there: it must be a folder that save_pretrained wrote"


def test_a_fingerprint_tells_contents_names_and_sub_folders_and_ignores_what_is_not_loaded(model: Path) -> None:
    before = fingerprint(model)
    (model / "README.md").write_text("about")
    (model / ".cache").mkdir()
    (model / ".cache" / "note.json").write_text("{}")
    assert fingerprint(model) == before
    moved = model.parent / "moved"
    shutil.copytree(model, moved)
    assert fingerprint(moved) == before
    (model / "model.safetensors").write_bytes(b"WEIGHTS")  # of the same size
    changed = fingerprint(model)
    assert changed != before
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "rag.jinja").write_text("{{ messages }}")
    assert fingerprint(model) != changed


def test_pins_are_read_back_by_the_job_and_the_training_that_wrote_them_only(tmp_path: Path) -> None:
    path = tmp_path / "run.lock.json"
    assert read_pins(path, "uid-1", "0" * 64) is None
    write_pins(path, pins(model_revision="m1"))
    assert read_pins(path, "uid-1", "0" * 64) == pins(model_revision="m1")
    assert read_pins(path, "uid-2", "0" * 64) is None
    assert read_pins(path, "uid-1", "1" * 64) is None
    path.write_text("{half")
    assert read_pins(path, "uid-1", "0" * 64) is None


@pytest.mark.parametrize(
    ("field", "reason", "words"),
    [
        (
            "model_sha256",
            Reason.MODEL_NOT_FOUND,
            "the base model changed since the run began (sha256 aaaaaaaaaaaa then",
        ),
        ("dataset_sha256", Reason.DATASET_INVALID, "the training rows changed since the run began"),
        ("evaluation_dataset_sha256", Reason.DATASET_INVALID, "the held-out rows changed since the run began"),
    ],
)
def test_what_changed_since_an_earlier_attempt_is_refused(field: str, reason: Reason, words: str) -> None:
    earlier, now = pins(**{field: "a" * 64}), pins(**{field: "b" * 64})
    assert words in refusal(lambda: check_unchanged(earlier, now), reason)
    check_unchanged(earlier, earlier)
    check_unchanged(None, now)
    check_unchanged(pins(), now)


def test_held_out_rows_are_compared_for_the_same_evaluation_only() -> None:
    earlier = pins(evaluation_sha256="e" * 64, evaluation_dataset_sha256="a" * 64)
    check_unchanged(earlier, pins(evaluation_sha256="f" * 64, evaluation_dataset_sha256="b" * 64))
