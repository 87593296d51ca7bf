"""Asks NVIDIA's NeMo Evaluator what it says of paired outcomes, and writes verdicts.json beside this file.

It is no dependency of the tests: nemo-evaluator 0.3.0, the first release with `nel compare` and `nel gate`, wants
Python 3.12 or 3.13, and pins nothing of what the trainer pins. Where that is at hand:

    python3.12 -m venv nemo && nemo/bin/pip install nemo-evaluator==0.3.0 scipy
    nemo/bin/python tests/data/nemo_evaluator/make_verdicts.py
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

from nemo_evaluator.config.gate_policy import GatePolicy
from nemo_evaluator.engine.comparison import compare_runs
from nemo_evaluator.engine.gate import gate_runs

BENCHMARK = "rows"
# Rows that only the candidate, or only the baseline, has right, of how many, and what may be lost.
OUTCOMES = [
    (better, worse, n, margin)
    for n in (100, 400, 1273)
    for margin in (0.01, 0.02, 0.05)
    for share in (0.05, 0.2)
    for lean in (0.3, 0.4, 0.5, 0.6, 0.7)
    for worse in [round(n * share * lean)]
    for better in [round(n * share) - worse]
]


def write_run(folder: Path, right: list[bool]) -> None:
    """A finished run as `nel eval run` leaves it."""
    folder.mkdir()
    score = sum(right) / len(right)
    bundle = {"run_id": folder.name, "benchmark": {"name": BENCHMARK, "scores": {"mean_reward": {"value": score}}}}
    (folder / f"eval-{folder.name}.json").write_text(json.dumps(bundle))
    rows = ({"problem_idx": index, "repeat": 0, "reward": float(one)} for index, one in enumerate(right))
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def asked(better: int, worse: int, n: int, margin: float) -> dict[str, Any]:
    """What `nel gate` and `nel compare` say."""
    both = (n - better - worse) // 2
    baseline = [True] * both + [False] * better + [True] * worse + [False] * (n - both - better - worse)
    candidate = [True] * both + [True] * better + [False] * worse + [False] * (n - both - better - worse)
    with tempfile.TemporaryDirectory() as scratch:
        base, cand = Path(scratch) / "baseline", Path(scratch) / "candidate"
        write_run(base, baseline)
        write_run(cand, candidate)
        entry = {"metric": "mean_reward", "max_drop": margin, "tier": "critical"}
        report = gate_runs(base, cand, GatePolicy.model_validate({"benchmarks": {BENCHMARK: entry}}))
        compared = compare_runs(base / "eval-baseline.json", cand / "eval-candidate.json")
    (found,) = report.benchmarks
    return {
        "better": better,
        "worse": worse,
        "rows": n,
        "margin": margin,
        "verdict": report.verdict,
        "status": found.status,
        "low": found.delta_ci_lower,
        "high": found.delta_ci_upper,
        "oneSidedP": compared["mcnemar"]["p_value"],
    }


if __name__ == "__main__":
    document = {
        "nemo-evaluator": importlib.metadata.version("nemo-evaluator"),
        "outcomes": [asked(*outcome) for outcome in dict.fromkeys(OUTCOMES)],
    }
    lines = ",\n    ".join(json.dumps(one) for one in document["outcomes"])
    text = f'{{\n  "nemo-evaluator": "{document["nemo-evaluator"]}",\n  "outcomes": [\n    {lines}\n  ]\n}}\n'
    (Path(__file__).parent / "verdicts.json").write_text(text)
