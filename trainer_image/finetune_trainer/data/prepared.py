"""Training rows, ready to be trained on: from the cache, or through the pipeline, then mixed and told of."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune_api.base import sha256_of
from finetune_api.config import RunConfig
from finetune_api.dataset import Dataset, datasets_of
from finetune_api.reasons import Reason
from finetune_api.replay import REPLAY
from finetune_api.results import Advice, DatasetStatus
from finetune_api.run_folder import ROW_CACHE
from finetune_api.uris import parse_claim
from finetune_api.validation import held_out_of
from finetune_trainer import __version__
from finetune_trainer.data.duplicates import Overlap
from finetune_trainer.data.gate_advice import gate_advice
from finetune_trainer.data.load import Rows, check_overlap, find_overlap, load_examples, overlap_facts
from finetune_trainer.data.mixture import mixed, replayed, shares
from finetune_trainer.data.pipeline import Reading, run_pipeline
from finetune_trainer.data.prepare import shared_advice
from finetune_trainer.data.row_cache import RowCache
from finetune_trainer.data.row_facts import OverlapFacts, RowFacts
from finetune_trainer.data.row_report import dataset_status, document, row_advice, trained_rows
from finetune_trainer.data.token_store import Numbers, TokenStore, TokenWriter
from finetune_trainer.data.tokenize import tokenise
from finetune_trainer.data.validation import count_aside, measured_rows, set_aside
from finetune_trainer.sources.locate import RETENTION, VALIDATION, Sources
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError
from finetune_trainer.stage.files import sha256_of_file
from finetune_trainer.stage.protocols import Tokenizer

_ROWS, _FACTS, _OVERLAP = "rows.arrow", "facts.json", "overlap.json"
_LIBRARIES = ("transformers", "tokenizers", "rensa")
# What makes no difference to the tokens of a row.
_INDIFFERENT = {
    *("source", "revision", "config", "split", "secret_ref", "workers", "packing", "weight", "mixture"),
    *("validation", "replay", "fraction"),
}


_FEW_SHARED = 0.1  # of the rows; some datasets repeat a few of one split in another


@dataclass(frozen=True)
class Prepared:
    """Rows to train on, and what is told of them."""

    store: TokenStore
    facts: RowFacts
    overlap: OverlapFacts
    status: DatasetStatus
    advice: list[Advice]
    document: dict[str, Any]  # dataset.json
    cache: RowCache  # in which the rows lie, in use as long as this lives
    general: TokenStore  # all rows of dataset.replay, also those that are not trained on
    validation: TokenStore | None = None
    retention: TokenStore | None = None
    validation_sha256: str | None = None  # of rows with a source of their own
    retention_sha256: str | None = None

    @property
    def measured_examples(self) -> int:
        """Examples that are scored while training goes on."""
        return len(self.validation or ()) + len(self.retention or ())


def prepare_rows(
    config: RunConfig, sources: Sources, held_out: Rows | None, reading: Reading, report_uri: str | None = None
) -> Prepared:
    """The training rows of a run.

    Raises StageError: DatasetInvalid where the filters allow less than was found, or nothing is left to train on;
    InvalidSpec where labels are not the responses' ids, or an id lies beyond the model's embedding.
    """
    dataset, seed = config.spec.training_rows, config.spec.training.seed
    cache = RowCache(cache_folder(config))
    facts, stored, overlap, cached = _from_cache_or_pipeline(config, sources, held_out, reading, cache)
    if held_out:
        check_overlap(overlap, held_out, dataset.filters)
    store = stored.select(_places(dataset, facts, stored, seed))
    if not len(store):
        raise StageError(
            Reason.DATASET_INVALID,
            f"none of {sum(one.read for one in facts.sources):,} rows is left to train on: "
            f"{', '.join(f'{rows:,} {kind}' for kind, rows in facts.dropped().items()) or 'a dataset of it is empty'}",
            "name other rows, or change spec.dataset.filters or the weights",
        )
    validation = retention = aside = None
    measured = {
        name: load_examples(source, shape)
        for name, source, shape in (
            (VALIDATION, sources.validation, held_out_of(dataset.validation) if dataset.validation else None),
            (RETENTION, sources.retention, config.spec.evaluation.retention if config.spec.evaluation else None),
        )
        if source and shape
    }
    if rows := measured.get(VALIDATION):
        _check_apart(rows, held_out)
        validation = measured_rows(rows, reading)
    elif dataset.validation and dataset.validation.fraction:
        store, aside = set_aside(store, facts.kept, Fraction(dataset.validation.fraction), seed)
        validation = aside
    if rows := measured.get(RETENTION):
        retention = measured_rows(rows, reading)
    status = dataset_status(facts, store, aside, overlap, bool(dataset.mixture or dataset.replay), cached, report_uri)
    if validation:
        status = status.model_copy(update={"validation_examples": len(validation)})
    replay = _replay_advice(dataset, facts, store)
    few_rows = gate_advice(config.spec.evaluation, len(held_out.examples)) if held_out else []
    advice = [*shared_advice(overlap.exact, held_out), *few_rows, *replay]
    advice += row_advice(facts, store)
    return Prepared(
        store,
        facts,
        overlap,
        status,
        advice,
        document(facts, store, aside, overlap, status, _weights(dataset)),
        cache,
        _general(facts, stored),
        validation,
        retention,
        measured[VALIDATION].sha256 if VALIDATION in measured else None,
        measured[RETENTION].sha256 if RETENTION in measured else None,
    )


def _general(facts: RowFacts, stored: TokenStore) -> TokenStore:
    first = sum(count for name, count in facts.kept.items() if name != REPLAY)  # replay's rows come last
    return stored.select((stored.sources >= first).nonzero()[0])


def _check_apart(validation: Rows, held_out: Rows | None) -> None:
    """Raises StageError (DatasetInvalid) when what training is chosen by is what the evaluation scores."""
    if not held_out:
        return
    scored = {example.sha256 for example in held_out.examples}
    shared = [example.where for example in validation.examples if example.sha256 in scored]
    if len(shared) > _FEW_SHARED * min(len(validation.examples), len(scored)):
        raise StageError(
            Reason.DATASET_INVALID,
            f"{validation.field} holds {len(shared):,} of the {len(held_out.examples):,} rows that the evaluation "
            f"scores ({held_out.name}), such as {', '.join(shared[:2])}; a training chosen by them scores too well",
            f"name other rows in {validation.field}, or a fraction of the training rows",
        )


def _replay_advice(dataset: Dataset, facts: RowFacts, store: TokenStore) -> list[Advice]:
    """What to say when there are fewer rows to replay than were asked for."""
    if not dataset.replay:
        return []
    trained = trained_rows(facts, store)
    total, found = sum(trained.values()), trained[REPLAY]
    if found >= int(Fraction(dataset.replay.fraction) * total):
        return []
    text = (
        f"spec.dataset.replay has {found:,} rows, {found / max(1, total):.1%} of all, where fraction asks for "
        f"{float(dataset.replay.fraction):.1%}: name a larger dataset"
    )
    return [Advice(reason="FewReplayRows", message=text)]


def cache_folder(config: RunConfig) -> Path:
    """Where prepared rows are kept: on the cache claim where there is one, else beside the run folders."""
    if config.cache_directory:
        return Path(config.cache_directory) / ROW_CACHE
    return config.local_path(parse_claim(config.spec.output.destination)) / ROW_CACHE


def check_same_tokens(facts: RowFacts, store: TokenStore, first: Reading) -> None:
    """Raises StageError (InvalidSpec) unless another tokenizer gives the ids of the first rows that were prepared."""
    made = tokenise([row.example for row in facts.first], first.chat, first.limit, first.loss_on)
    numbers = dict(zip(store.sources.tolist(), range(len(store)), strict=True))
    for number, one in enumerate(made):
        place = numbers.get(number)
        if place is not None and (not one.rows or one.rows[-1] != store[place]):
            raise StageError(
                Reason.INVALID_SPEC,
                "the training library loads another tokenizer than the model's folder holds: the first rows come out "
                "as other tokens",
                "report it with the model's name; take another model meanwhile",
            )


def _from_cache_or_pipeline(
    config: RunConfig, sources: Sources, held_out: Rows | None, reading: Reading, cache: RowCache
) -> tuple[RowFacts, TokenStore, OverlapFacts, bool]:
    dataset, key = config.spec.training_rows, row_key(config, sources, reading)
    overlap_key = sha256_of([key, held_out.sha256]) if held_out else None
    if (entry := cache.find(key)) and (facts := _read(entry / _FACTS, RowFacts)):
        say(f"prepared rows: those of an earlier run, {entry}")
        overlap = OverlapFacts()
        if overlap_key and held_out:
            known = cache.find(overlap_key)
            found = _read(known / _OVERLAP, OverlapFacts) if known else None
            overlap = found or find_overlap(dataset, sources.training, held_out)
            if not found:
                _add_overlap(cache, overlap_key, overlap)
        return facts, TokenStore.open(entry / _ROWS), overlap, True
    seen = Overlap(held_out.examples if held_out else [])
    with tempfile.TemporaryDirectory(prefix="finetune-") as scratch:
        path = Path(scratch)
        with TokenWriter(path / _ROWS) as writer:
            facts = run_pipeline(dataset, sources.training, reading, seen, writer)
        (path / _FACTS).write_text(facts.model_dump_json(by_alias=True), encoding="utf-8")
        entry = _add(cache, key, path)
        overlap = overlap_facts(seen)
        if entry and overlap_key:
            _add_overlap(cache, overlap_key, overlap)
        # Mapped into memory, a file stays readable when its name is gone.
        return facts, TokenStore.open((entry or path) / _ROWS), overlap, False


def _add_overlap(cache: RowCache, key: str, overlap: OverlapFacts) -> None:
    text = overlap.model_dump_json(by_alias=True)
    cache.add(key, len(text), lambda draft: (draft / _OVERLAP).write_text(text, encoding="utf-8"))


def _add(cache: RowCache, key: str, folder: Path) -> Path | None:
    size = sum(file.stat().st_size for file in folder.iterdir())
    return cache.add(key, size, lambda draft: shutil.copytree(folder, draft, dirs_exist_ok=True))


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def row_key(config: RunConfig, sources: Sources, reading: Reading) -> str:
    """A digest of all that decides the tokens of the rows: the rows, how they are read, and what reads them."""
    shapes = datasets_of(config.spec.training_rows)
    return sha256_of(
        [
            [
                [name, source.content_key(), shapes[name].model_dump(mode="json", exclude=_INDIFFERENT)]
                for name, source in sources.training.items()
            ],
            [reading.limit, reading.loss_on, reading.chat.embedding_rows],
            config.spec.model.model_dump(mode="json", exclude={"source", "revision", "secret_ref", "adapter"}),
            _tokenizer_key(reading.chat.tokenizer),
            [__version__, _own_code(), *(importlib.metadata.version(name) for name in _LIBRARIES)],
        ]
    )


@cache
def _own_code() -> str:
    """Digest of the modules that read and prepare rows: another version of any may read a row otherwise."""
    package = Path(__file__).parent.parent
    files = sorted(file for layer in ("data", "sources") for file in (package / layer).rglob("*.py"))
    return sha256_of([[file.relative_to(package).as_posix(), sha256_of_file(file)] for file in files])


def _tokenizer_key(tokenizer: Tokenizer) -> str:
    if tokenizer.is_fast:
        written = tokenizer.backend_tokenizer.to_str()
    else:
        written = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    added = [
        [id_, vars(token) if hasattr(token, "__dict__") else str(token)]
        for id_, token in tokenizer.added_tokens_decoder.items()
    ]
    ends = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    return sha256_of([written, added, ends, tokenizer.chat_template])


def _weights(dataset: Dataset) -> dict[str, str]:
    named = {name: getattr(one, "weight", None) for name, one in datasets_of(dataset).items()}  # replay has none
    return {name: weight for name, weight in named.items() if weight is not None}


def _places(dataset: Dataset, facts: RowFacts, store: TokenStore, seed: int) -> Numbers:
    """Which token rows are trained on or set aside, in order. Without a mixture that is the rows' own."""
    rows = store.sources
    if not dataset.mixture and not dataset.replay:
        return _range(len(rows))
    counts: Mapping[str, int] = facts.kept
    weights = {name: Fraction(weight) for name, weight in _weights(dataset).items()}
    own = {name: count for name, count in counts.items() if name != REPLAY}
    taken = shares(own, weights) if weights else own
    if dataset.replay:
        trained = sum(taken.values())
        if dataset.validation and dataset.validation.fraction:
            trained -= count_aside(trained, Fraction(dataset.validation.fraction))
        taken = {**taken, REPLAY: replayed(trained, counts[REPLAY], Fraction(dataset.replay.fraction))}
    order = mixed(counts, taken, seed)
    starts, ends = rows.searchsorted(order), rows.searchsorted(order, side="right")
    places = [place for start, end in zip(starts, ends, strict=True) for place in range(start, end)]
    return _range(len(rows))[places]


def _range(count: int) -> Numbers:
    import numpy as np

    return np.arange(count)
