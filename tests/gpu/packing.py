"""Packed against unpacked steps: ``python tests/gpu/packing.py`` on a GPU, in about five minutes.

Llama-3.2-1B's shape with random weights in NF4 by the trainer's own engine and attention, rows of random tokens in the
lengths of a medical exam (mean 272), 8 and 64 of them a step, all at once. For each it prints milliseconds a step,
tokens a second, padding and peak memory, unpacked and packed as the model's attention takes it; how far the losses of
the same steps are apart, beside how far two unpacked runs are, the second in halves of the batch; and how far apart two
packed runs are. ``--tiny`` tries the script on a CPU; ``--json FILE`` writes the figures.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "helpers")]
if "--tiny" in sys.argv:
    os.environ |= {"UNSLOTH_FORCE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
os.environ |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(Path(tempfile.gettempdir()) / "unsloth_compiled_cache"))

from finetune_trainer.stage.device import Device  # noqa: E402
from finetune_trainer.training.engines import load_engine  # noqa: E402
from finetune_trainer.training.packing import saved_share  # noqa: E402
from llama_shape import LLAMA_1B, SMALL, save_random  # noqa: E402
from packing_steps import Bench, Measured, exam_rows  # noqa: E402

WARM_UP = 8


def find_device() -> Device:
    """The first GPU, or the CPU."""
    import torch

    if not torch.cuda.is_available():
        return Device("cpu", "CPU", 0, "float32")
    properties = torch.cuda.get_device_properties(0)
    dtype: Any = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return Device("cuda", properties.name, properties.total_memory, dtype)


def farthest(one: Measured, other: Measured) -> float:
    """The largest distance of two runs' losses at the same step, relative to the loss."""
    return max(abs(left - right) / abs(left) for left, right in zip(one.losses, other.losses, strict=True))


def measure(bench: Bench, scale: float) -> dict[str, Any]:
    """Prints and returns the figures of one batch size."""
    rows = exam_rows(bench.batch * bench.steps, 49_000, scale)
    saved = saved_share(rows.lengths, bench.batch, bench.micro_batch)
    print(f"\n{bench.batch} rows a step, mean {rows.lengths.mean():.0f} tokens; packing in Rows saves {saved:.1%}")
    proof = bench.prove(rows)
    print(f"proof: {proof}", flush=True)
    found: dict[str, Any] = {"batch": bench.batch, "layout": proof.layout, "problem": proof.problem, "saved": saved}

    def run(bench: Bench, layout: Any) -> Measured:
        gc.collect()
        measured = bench.run(rows, layout)
        print(f"{measured.line()}  {bench.micro_batch} rows at a time", flush=True)
        return measured

    plain = run(bench, None)
    halved = run(replace(bench, micro_batch=bench.batch // 2), None)
    found |= {"unpacked": asdict(plain), "noise": farthest(plain, halved)}
    if proof.layout:
        packed, again = run(bench, proof.layout), run(bench, proof.layout)
        found |= {
            "packed": asdict(packed),
            "apart": farthest(plain, packed),
            "repeats": packed.losses == again.losses,
            "again": farthest(packed, again),
            "speedup": plain.step_seconds / packed.step_seconds,
        }
        print(
            f"packed steps are {found['speedup']:.2f} times as fast; losses differ by at most {found['apart']:.2g}, "
            f"those of two unpacked runs by {found['noise']:.2g}; a packed run again {found['again']:.2g}",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--steps", type=int, default=WARM_UP + 21, help=f"the first {WARM_UP} are not timed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a small shape and short rows, for a try on a CPU")
    arguments = parser.parse_args()
    load_engine()  # before transformers
    import torch

    from finetune_trainer.training.attention import fix_attention

    device = find_device()
    fix_attention(device)
    print(f"{device.name}, torch {torch.__version__}, {device.dtype}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        where = "cpu" if device.kind == "cpu" else "cuda"
        model = save_random(SMALL if arguments.tiny else LLAMA_1B, Path(scratch), where)
        gc.collect()
        if device.kind == "cuda":
            torch.cuda.empty_cache()
        benches = [Bench(model, device, batch, batch, arguments.steps, WARM_UP) for batch in arguments.batches]
        figures = [measure(bench, 0.1 if arguments.tiny else 1.0) for bench in benches]
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": device.name, "batches": figures}, indent=1))


if __name__ == "__main__":
    main()
