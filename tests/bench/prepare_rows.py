"""How long the preparation of Chat rows takes beside the tokenizer alone, and how much memory it needs.

    PYTHONPATH=operator:trainer_image python tests/bench/prepare_rows.py --model FOLDER [--rows 100000] [--workers 2]

Both are measured in processes of their own, one after the other, over the same rows with the same threads: first the
preparation as `finetune train` does it (read, parse, deduplicate, tokenise, store), then the tokenizer on the rendered
texts of the same rows, in lists. The rows are synthetic: conversations of varied length, 3% of them repeated exactly
and 3% with a few words changed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.defaults import resolve
from finetune_api.spec import FineTuneJobSpec

SEED = 7
VOCABULARY = 20_000
BATCH = 1000


def make_rows(count: int) -> Iterator[dict[str, Any]]:
    """Conversations of one to four turns, about 600 tokens each."""
    chance = random.Random(SEED)
    syllables = [first + last for first in "bdfghklmnprstvwz" for last in ("a", "e", "i", "o", "u", "an", "er", "in")]
    words = ["".join(chance.choices(syllables, k=chance.choice((1, 1, 2, 2, 2, 3)))) for _ in range(VOCABULARY)]
    weights = [1 / (rank + 10) for rank in range(VOCABULARY)]  # few words are most of a text, as in any language
    cumulative = list(accumulate(weights))

    def text(length: int) -> str:
        size = max(4, int(chance.lognormvariate(0, 0.6) * length))
        found = chance.choices(words, cum_weights=cumulative, k=size)
        return " ".join(word if place % 11 else f"{word.capitalize()}." for place, word in enumerate(found, 1))

    earlier: list[dict[str, Any]] = []
    for _ in range(count):
        kind = chance.random()
        if earlier and kind < 0.03:
            yield chance.choice(earlier)
            continue
        if earlier and kind < 0.06:
            row = json.loads(json.dumps(chance.choice(earlier)))
            row["messages"][-1]["content"] += " " + chance.choice(words)
            yield row
            continue
        turns = [{"role": "system", "content": "You help people with their questions."}]
        for _ in range(chance.choice((1, 1, 2, 2, 3, 4))):
            turns += [{"role": "user", "content": text(45)}, {"role": "assistant", "content": text(75)}]
        row = {"messages": turns}
        if len(earlier) < 1000:
            earlier.append(row)
        yield row


def configuration(folder: Path, model: Path, workers: int) -> RunConfig:
    """The run that prepares the rows in a folder."""
    spec = resolve(
        FineTuneJobSpec.model_validate(
            {
                "model": {"source": f"pvc://models/{model.name}", "maxSequenceLength": 4096},
                "dataset": {"source": "pvc://work/train.jsonl", "format": "Chat", "workers": workers},
                "output": {"destination": "pvc://work/out"},
                "runtime": {"gpusPerNode": 0},
            }
        )
    )
    mounts = [ClaimMount(claim="work", path=str(folder)), ClaimMount(claim="models", path=str(model.parent))]
    job = JobReference(namespace="bench", name="rows", uid="bench")
    return RunConfig(job=job, spec=spec, training_sha256=spec.training_sha256(), mounts=mounts)


def prepare(config: RunConfig) -> dict[str, Any]:
    """Seconds and memory of the preparation, from the first row to the store."""
    from finetune_trainer.data.prepared import prepare_rows
    from finetune_trainer.models.reading import read_model
    from finetune_trainer.sources.locate import locate

    sources = locate(config, None, with_weights=False)
    reading = read_model(sources.model, config.spec)
    started, cpu = time.monotonic(), time.process_time()
    prepared = prepare_rows(config, sources, None, reading)
    spent = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
    return (
        spent
        | {"cached": prepared.status.cached, "summary": prepared.status.summary}
        | {one.name: one.rows for one in prepared.status.dropped}
    )


def tokenizer_alone(config: RunConfig, count: int) -> dict[str, Any]:
    """Seconds that the tokenizer takes on the rendered texts, rendering not counted."""
    from finetune_trainer.models.loading import load_tokenizer
    from finetune_trainer.sources.locate import locate

    # Its own threads, which the preparation replaces by others.
    os.environ |= {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(config.spec.dataset.workers)}
    tokenizer: Any = load_tokenizer(locate(config, None, with_weights=False).model)
    seconds, cpu_seconds, tokens, texts = 0.0, 0.0, 0, []
    for number, row in enumerate(make_rows(count), 1):
        texts.append(tokenizer.apply_chat_template(row["messages"], tokenize=False))
        if len(texts) == BATCH or number == count:
            started, cpu = time.monotonic(), time.process_time()
            ids = tokenizer(texts, add_special_tokens=False).input_ids
            seconds += time.monotonic() - started
            cpu_seconds += time.process_time() - cpu
            tokens += sum(map(len, ids))
            texts = []
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "tokens": tokens}


def _measure(what: str, config: Path, rows: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", what, "--config", str(config), "--rows", str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _one(what: str, file: Path, rows: int) -> None:
    from finetune_trainer.stage.environment import prepare_environment

    config = RunConfig.model_validate_json(file.read_text())
    prepare_environment(config)
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    found = tokenizer_alone(config, rows) if what == "tokenizer" else prepare(config)
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


def main() -> None:
    """Makes the rows, measures both, and prints what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, help="a folder with a tokenizer and a configuration")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--config", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one(options.one, options.config, options.rows)
        return
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as scratch:
        folder = Path(scratch)
        (folder / "out").mkdir()
        with (folder / "train.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in make_rows(options.rows))
        config = folder / "config.json"
        config.write_text(
            configuration(folder, options.model.resolve(), options.workers).model_dump_json(by_alias=True)
        )
        print(f"{options.rows:,} rows, {(folder / 'train.jsonl').stat().st_size / 1e6:.0f} MB", flush=True)
        ours = _measure("prepare", config, options.rows)
        alone = _measure("tokenizer", config, options.rows)
        again = _measure("prepare", config, options.rows)
    print(json.dumps({"preparation": ours, "tokenizer": alone, "from the cache": again}, indent=2))
    ratio, of_cpu = (ours[name] / alone[name] for name in ("seconds", "cpu_seconds"))
    print(
        f"preparation {ours['seconds']:.1f} s, tokenizer alone {alone['seconds']:.1f} s over "
        f"{alone['tokens'] / 1e6:.1f}M tokens: ratio {ratio:.2f} (of CPU time {of_cpu:.2f}); peak "
        f"{ours['peak_gib']:.2f} GiB; from the cache {again['seconds']:.1f} s; "
        f"{options.workers} threads on {os.cpu_count()} cores of {_processor()}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
