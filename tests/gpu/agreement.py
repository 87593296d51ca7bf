"""How many rows the evaluator decides otherwise than a plain pass: ``python tests/gpu/agreement.py`` on a GPU.

Llama-3.2-1B's shape with random weights in NF4, rows of random tokens in the lengths of a medical exam; base, and
tuned by a random adapter. The plain pass is transformers' own forward: one option at a time, no batch, no padding, no
cache; its logits come from the head as it is, and from the head in 32 bit. Random weights make near-ties of most rows,
which is the worst case. ``--rows 12 --tiny`` tries the script on a CPU.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaConfig, LlamaForCausalLM

from finetune_trainer.data.example import Choice, Choices
from finetune_trainer.evaluation.comparison import TOKEN_BUDGET
from finetune_trainer.evaluation.metrics import METRICS
from finetune_trainer.evaluation.precision import Precision
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.scoring import Scorer
from finetune_trainer.models.loading import attach_adapter, load_base
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device

sys.path[:0] = [str(Path(__file__).parents[1] / "helpers")]

from llama_shape import LLAMA_1B  # noqa: E402

TINY = {**LLAMA_1B, "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# A limit of the evaluator's own: below 1 in 200.
LIMIT = 1 / 200
ACCURACY, LETTERS = METRICS["Accuracy"], METRICS["LetterAccuracy"]
VARIANTS = {
    "as it is": Precision(wide_head=False, settle_near_ties=False),
    "head in 32 bit": Precision(wide_head=True, settle_near_ties=False),
    "near-ties settled": Precision(wide_head=False, settle_near_ties=True),
    "head in 32 bit, near-ties settled": Precision(),
}


def make_rows(count: int, vocabulary: int) -> list[Question]:
    """Questions of five options, in a medical exam's lengths: prompts of 120 to 430 tokens, options of 1 to 12."""
    source = random.Random(7)

    def ids(length: int) -> list[int]:
        return [source.randrange(3, vocabulary) for _ in range(length)]

    letters = [[65 + number] for number in range(5)]
    choices = tuple(Choice(letter, letter, letter) for letter in "ABCDE")
    rows = []
    for _ in range(count):
        shared = ids(4)  # "The correct answer is"
        responses = [shared + ids(source.randrange(1, 13)) + [2] for _ in choices]
        rows.append(Question(ids(source.randrange(120, 430)), responses, letters, 1, Choices(choices, 0)))
    return rows


def plain(model: Any, rows: list[Question]) -> dict[str, list[list[list[float]]]]:
    """The reference: a table for each way of computing the head."""
    seen: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tables: dict[str, list[list[list[float]]]] = {"native": [], "wide": []}
    wide_weight = head.weight.float()
    with torch.inference_mode():
        for row in rows:
            for table in tables.values():
                table.append([])
            for ids in row.continuations:
                seen.clear()
                # The last token predicts nothing.
                sequence = torch.tensor([row.prompt + ids[:-1]], device=model.device)
                native = model(input_ids=sequence, use_cache=False).logits
                begin = len(row.prompt) - 1
                targets = torch.tensor(ids, device=model.device).unsqueeze(1)
                for name, logits in (("native", native[0]), ("wide", seen[0][0].float() @ wide_weight.T)):
                    piece = logits[begin : begin + len(ids)].float().log_softmax(-1)
                    tables[name][-1].append(piece.gather(1, targets).squeeze(1).tolist())
    hook.remove()
    return tables


def choices_of(rows: list[Question], table: list[list[list[float]]], metric: Any) -> list[int]:
    pairs = zip(rows, table, strict=True)
    return [metric.row(row, row.group_of(metric.needs, likelihoods)).option for row, likelihoods in pairs]


def margins(question: Question, likelihoods: list[list[float]]) -> list[list[float]]:
    return [metric.margin(question, question.group_of(metric.needs, likelihoods)) for metric in (ACCURACY, LETTERS)]


def measure(name: str, model: Any, rows: list[Question], device: Device, variants: dict[str, Precision]) -> float:
    """Prints a line per variant. Returns the share of rows that the evaluator as it ships decides otherwise."""
    started = time.monotonic()
    reference = plain(model, rows)
    print(f"{name}: plain pass over {len(rows)} rows in {time.monotonic() - started:.1f} s", flush=True)
    own = {
        metric.name: sum(
            one != other
            for one, other in zip(
                choices_of(rows, reference["native"], metric), choices_of(rows, reference["wide"], metric), strict=True
            )
        )
        for metric in (ACCURACY, LETTERS)
    }
    print(f"  the plain pass differs from itself, native against wide head, in {own}", flush=True)
    share = 0.0
    for variant, precision in variants.items():
        for backend in ("default", "math") if variant == "head in 32 bit" else ("default",):
            scorer = Scorer(0, TOKEN_BUDGET[device.kind], margins, precision)
            started = time.monotonic()
            if backend == "math":
                with sdpa_kernel([SDPBackend.MATH]):
                    scores = scorer.score(model, rows)
            else:
                scores = scorer.score(model, rows)
            seconds = time.monotonic() - started
            against = "wide" if precision.wide_head else "native"
            differ = {
                metric.name: sum(
                    one != other
                    for one, other in zip(
                        choices_of(rows, scores.table, metric),
                        choices_of(rows, reference[against], metric),
                        strict=True,
                    )
                )
                for metric in (ACCURACY, LETTERS)
            }
            print(f"  {variant}, {backend} attention: {differ} differ, {seconds:.1f} s, {scores.agreement}", flush=True)
            if precision == Precision():
                share = max(differ.values()) / len(rows)
    return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--shipped", action="store_true", help="measure the evaluator's own setting alone")
    parser.add_argument("--tiny", action="store_true", help="a small shape, for a try on a CPU")
    arguments = parser.parse_args()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        device = Device("cuda", properties.name, properties.total_memory, "bfloat16")
    else:
        device = Device("cpu", "CPU", 0, "float32")
    print(f"{device.name}, torch {torch.__version__}, {device.dtype}", flush=True)
    variants = {name: one for name, one in VARIANTS.items() if not arguments.shipped or one == Precision()}
    shape = TINY if arguments.tiny else LLAMA_1B
    rows = make_rows(arguments.rows, shape["vocab_size"])
    with tempfile.TemporaryDirectory() as scratch:
        torch.manual_seed(0)
        with torch.device(device.index):
            model = LlamaForCausalLM(LlamaConfig(**shape)).to(torch.bfloat16)
        model.save_pretrained(Path(scratch) / "base")
        settings = LoraConfig(r=16, target_modules=TARGETS, init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(model, settings).save_pretrained(Path(scratch) / "adapter")
        del model
        base = load_base(ModelSource(str(Path(scratch) / "base"), None, False), device)
        shares = [measure("base", base, rows, device, variants)]
        shares.append(measure("tuned", attach_adapter(base, Path(scratch) / "adapter"), rows, device, variants))
    print(f"largest share of rows decided otherwise: {max(shares):.4f} (limit {LIMIT})")
    sys.exit(max(shares) > LIMIT)


if __name__ == "__main__":
    main()
