"""Packed against unpacked steps on this machine's CPU: ``python tests/bench/packing.py`` prints a line for each.

SmolLM2-135M (``make models``) in NF4, eight random rows a step, in an exam's lengths (mean 272 tokens) or ``--scale``
times as long; ``--spread 0.2`` makes their lengths as alike as those of the demo's rows. Both are trained from the same
adapter, one after the other, in one process; the ratio is of CPU time, which other work on the machine changes less
than the clock. ``--model tiny --steps 4`` tries the script.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests/helpers")]
os.environ |= {
    "UNSLOTH_FORCE_CPU": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
}

from finetune_trainer.stage.device import Device  # noqa: E402
from finetune_trainer.training.packing import saved_share  # noqa: E402
from packing_steps import Bench, exam_rows  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--spread", type=float, default=1.0)
    arguments = parser.parse_args()
    state = Path(os.environ.get("FINETUNE_STATE_DIR", "/var/lib/finetune-operator"))
    device = Device("cpu", "CPU", 0, "float32")
    model = state / "cache/models" / arguments.model
    bench = Bench(model, device, arguments.batch, arguments.micro_batch, arguments.steps, warm_up=1)
    rows = exam_rows(arguments.batch * arguments.steps, 40_000, arguments.scale, arguments.spread)
    saved = saved_share(rows.lengths, arguments.batch, arguments.micro_batch)
    print(f"rows: mean {rows.lengths.mean():.0f} tokens, longest {rows.longest}; packing saves {saved:.1%} of tokens")
    print(f"proof: {bench.prove(rows)}")
    plain, packed = bench.run(rows, None), bench.run(rows, "Rows")
    print(plain.line(), packed.line(), sep="\n")
    away = max(abs(one - other) / one for one, other in zip(plain.losses, packed.losses, strict=True))
    print(f"CPU time of a packed step over an unpacked one: {packed.cpu_seconds / plain.cpu_seconds:.2f}")
    print(f"losses differ by at most {away:.2g} of the unpacked one")


if __name__ == "__main__":
    main()
