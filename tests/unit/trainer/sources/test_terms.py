"""Files of terms: what counts in them, and what is said of those that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.sources.terms import read_terms, sha256_of_terms
from finetune_trainer.stage.failure import StageError
from trainer_inputs import run_config


def config(folder: Path) -> RunConfig:
    checks = [
        {"name": "NoSlurs", "termsFrom": {"source": "pvc://lists/slurs.txt"}, "expect": "NoMatch"},
        {"name": "Refuses", "termsFrom": {"builtIn": "Refusals"}},
    ]
    document = {
        "model": {"source": "pvc://lists/model"},
        "dataset": {"source": "pvc://lists/rows"},
        "evaluation": {"dataset": {"source": "pvc://lists/rows"}, "checks": checks},
        "output": {"destination": "pvc://lists/out"},
    }
    return run_config(document, {"lists": folder}, "uid")


def test_a_line_is_a_term_but_for_empty_ones_and_comments(tmp_path: Path) -> None:
    (tmp_path / "slurs.txt").write_bytes("\ufeff# of June\r\none\r\n\r\n  two words \nC# \n".encode())
    terms = read_terms(config(tmp_path))
    assert terms == {"NoSlurs": ["one", "two words", "C#"]}
    before = sha256_of_terms(terms)
    (tmp_path / "slurs.txt").write_text("one\n")
    assert sha256_of_terms(read_terms(config(tmp_path))) != before
    assert sha256_of_terms({}) is None


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (None, Reason.DATASET_NOT_FOUND, "pvc://lists/slurs.txt is no file that is there"),
        (b"\xff\xfe", Reason.DATASET_INVALID, "no text in UTF-8"),
        (b"# nothing\n", Reason.DATASET_INVALID, "has no term"),
        (b"a\n" * 10_001, Reason.DATASET_INVALID, "more than 10,000 terms"),
        (b"a" * 257, Reason.DATASET_INVALID, "a term of 257 characters"),
    ],
)
def test_a_file_that_cant_be_used_is_named_with_its_field(
    tmp_path: Path, content: bytes | None, reason: Reason, said: str
) -> None:
    if content is not None:
        (tmp_path / "slurs.txt").write_bytes(content)
    with pytest.raises(StageError) as caught:
        read_terms(config(tmp_path))
    assert caught.value.reason is reason
    assert "spec.evaluation.checks[NoSlurs].termsFrom.source" in str(caught.value)
    assert said in str(caught.value)
