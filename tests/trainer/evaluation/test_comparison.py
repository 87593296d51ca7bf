"""Base and tuned model in one comparison: whose scores they are, and what is said when there are none."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_api.uris import parse_claim
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.example import Choice, Choices, Example, Message
from finetune_trainer.evaluation.metrics import METRICS, groups_of, metrics_of
from finetune_trainer.evaluation.questions import make_questions
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError, failure_of
from trainer_inputs import run_config

CPU = Device("cpu", "CPU", 0, "float32")


def example_of(question: str, options: dict[str, str], right: str) -> Example:
    choices = tuple(Choice(letter, text, f"The correct answer is {text}.") for letter, text in options.items())
    index = list(options).index(right)
    messages = (Message("user", f"{question} {options}"), Message("assistant", choices[index].response))
    return Example(messages, Choices(choices, index), question=question, sha256=question)


EXAMPLES = [
    example_of("Where?", {"A": "old barn", "B": "river bank"}, "B"),
    example_of("Who?", {letter: f"number {letter}" for letter in "ABCDE"}, "E"),
]


@pytest.fixture(scope="module")
def qwen(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of two layers, whose attention has biases, with the tiny model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("models") / "qwen"
    torch.manual_seed(3)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, initializer_range=0.2, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def save_adapter(qwen: Path, tmp_path: Path) -> Callable[[float, float], Path]:
    """Saves an adapter whose biases are the model's plus ``bias``, and whose B matrices are filled with ``weight``."""

    def save(bias: float, weight: float) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        settings = LoraConfig(r=4, bias="all", target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(qwen), settings)
        with torch.no_grad():
            for name, values in model.named_parameters():
                if name.endswith(".bias"):
                    values += bias
                elif "lora_B" in name:
                    values.fill_(weight)
        model.save_pretrained(tmp_path / "adapter")
        AutoTokenizer.from_pretrained(qwen).save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    return save


def compare_models(model: Path, adapter: Path, config: RunConfig) -> Any:
    from finetune_trainer.evaluation.comparison import Contestants, compare
    from finetune_trainer.models.loading import attach_adapter, load_base, load_tokenizer

    base = load_base(ModelSource(str(model), None, False), CPU)
    chat = read_chat_format(load_tokenizer(ModelSource(str(adapter), None, False)), config.spec.model, None)
    contestants = Contestants(base, lambda loaded: attach_adapter(loaded, adapter), chat, CPU, 2048)
    assert config.spec.evaluation
    return compare(contestants, EXAMPLES, config.spec.evaluation, lambda done, total: None)


def test_base_scores_are_the_untouched_models_when_the_adapter_brings_trained_biases(
    qwen: Path, save_adapter: Callable[[float, float], Path], make_config: Any, tmp_path: Path
) -> None:
    from finetune_trainer.evaluation.generation import answer
    from finetune_trainer.evaluation.scoring import Scorer
    from finetune_trainer.models.loading import load_base, load_tokenizer

    adapter = save_adapter(0.5, 0.0)
    config = make_config(tmp_path)
    outcome = compare_models(qwen, adapter, config)
    untouched = load_base(ModelSource(str(qwen), None, False), CPU)
    chat = read_chat_format(load_tokenizer(ModelSource(str(adapter), None, False)), config.spec.model, None)
    evaluation = config.spec.evaluation
    groups = groups_of(metrics_of(evaluation.metrics))
    questions = make_questions(EXAMPLES, chat, groups)
    pad = chat.tokenizer.pad_token_id
    assert outcome.base.scores.table == Scorer(pad, 8192, lambda question, row: []).score(untouched, questions).table
    prompts = [question.prompt for question in questions[: evaluation.sample_prompts]]
    answers = answer(untouched, prompts, chat, pad, evaluation.max_new_tokens, 8192)
    assert [replace(one, reading=None) for one in outcome.base.answers] == answers
    for base, tuned in zip(outcome.base.scores.table, outcome.tuned.scores.table, strict=True):
        assert base[0][0] != pytest.approx(tuned[0][0], abs=0.01)


def test_a_tuned_model_whose_numbers_overflow_has_no_accuracy(
    qwen: Path, save_adapter: Callable[[float, float], Path], make_config: Any, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="the tuned model's likelihoods are not finite in float32 on CPU") as caught:
        compare_models(qwen, save_adapter(0.0, 3e38), make_config(tmp_path))
    assert caught.value.reason is Reason.EVALUATION_FAILED
    assert "lower spec.training.learningRate" in failure_of(caught.value).message


@pytest.mark.parametrize(
    ("name", "dtype", "advice"),
    [
        ("base", "float16", "spec.model.dtype BFloat16"),
        ("tuned", "float16", "spec.model.dtype BFloat16"),
        ("base", "bfloat16", "spec.model.source"),
        ("tuned", "bfloat16", "spec.training.learningRate"),
    ],
)
def test_what_helps_against_nan_depends_on_the_model_and_its_dtype(name: Any, dtype: Any, advice: str) -> None:
    from finetune_trainer.evaluation.comparison import not_finite

    message, todo = not_finite(name, Device("cuda", "Tesla T4", 1, dtype))
    assert message == f"the {name} model's likelihoods are not finite in {dtype} on Tesla T4"
    assert advice in todo


def test_a_question_that_does_not_fit_the_gpu_fails_the_evaluation_with_advice_of_its_own(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from finetune_trainer.evaluation import comparison
    from finetune_trainer.evaluation.evaluate import evaluate

    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. If reserved but unallocated memory")

    monkeypatch.setattr(comparison.Scorer, "score", full)
    result = run.evaluation_folder / "result.json"
    result.rename(run.folder / "kept.json")
    try:
        with pytest.raises(StageError) as caught:
            evaluate(run.config, None)
    finally:
        run.evaluation_folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "kept.json").rename(result)
    message = failure_of(caught.value).message
    assert caught.value.reason is Reason.EVALUATION_FAILED
    assert "Tried to allocate 2 GiB; take a GPU with more memory, or shorten the held-out rows" in message
    assert "If reserved" not in message
    assert "microBatchSize" not in message


def test_a_run_has_a_report_whose_rows_give_the_numbers_of_its_status(run: Any) -> None:
    document = json.loads((run.evaluation_folder / "report.json").read_text())
    status = run.evaluation.evaluation
    assert status.report_uri.endswith(f"/evaluations/{run.config.evaluation_sha256[:12]}/report.json")
    assert document["evaluationSha256"] == run.config.evaluation_sha256
    assert (status.examples, status.dropped_examples, status.shared_examples) == (12, 0, 12)
    assert len({row["sha256"] for row in document["rows"]}) == 12
    for metric in status.metrics[:2]:
        for model in ("base", "tuned"):
            right = [row[model][metric.name]["option"] == row["right"] for row in document["rows"]]
            assert float(getattr(metric, model).value) == pytest.approx(sum(right) / 12, abs=1e-6)
    loss = sum(-row["tuned"]["Perplexity"]["rightLogLikelihood"] for row in document["rows"])
    tokens = sum(row["tuned"]["Perplexity"]["rightTokens"] for row in document["rows"])
    assert float(status.metric("Perplexity").tuned.value) == pytest.approx(math.exp(loss / tokens), rel=1e-4)
    assert all(found["checked"] == 2 and found["different"] == 0 for found in document["agreement"].values())


def test_the_perplexity_of_a_run_is_the_exponential_of_transformers_own_loss(run: Any, tiny_model: Path) -> None:
    import torch

    from finetune_trainer.models.loading import attach_adapter, load_base, load_tokenizer

    base = load_base(ModelSource(str(tiny_model), None, False), CPU)
    tokenizer = load_tokenizer(ModelSource(str(run.adapter), None, False))
    tuned = attach_adapter(base, run.adapter)
    total, tokens = 0.0, 0
    for row in json.loads((run.evaluation_folder / "report.json").read_text())["rows"]:
        options = "\n".join(f"{letter}. {text}" for letter, text in row["options"].items())
        prompt = f"{row['question']}\n\nOptions:\n{options}\n\nPlease choose the correct answer."
        conversation = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True, strftime_now=str)
        before = tokenizer(text, add_special_tokens=False).input_ids
        answer = f"The correct answer is {row['options'][row['right']]}.<|im_end|>"
        after = tokenizer(answer, add_special_tokens=False).input_ids
        with torch.inference_mode():
            labels = torch.tensor([[-100] * len(before) + after])
            loss = tuned(input_ids=torch.tensor([before + after]), labels=labels).loss
        assert loss is not None
        total, tokens = total + float(loss) * len(after), tokens + len(after)
    found = run.evaluation.evaluation.metric("Perplexity").tuned.value
    assert float(found) == pytest.approx(math.exp(total / tokens), rel=1e-4)


def test_held_out_rows_longer_than_the_context_are_left_out_and_counted(
    make_config: Any, tmp_path: Path, tiny_model: Path
) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate
    from finetune_trainer.training.train import train

    short = tmp_path / "models" / "short"
    shutil.copytree(tiny_model, short)
    settings = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**settings, "max_position_embeddings": 128}))
    config = make_config(tmp_path, model=short)
    rows = tmp_path / "rows" / "test.jsonl"
    long = json.loads(rows.read_text().splitlines()[0])
    long["question"] = "Where does " + "a very " * 120 + "old heron live?"
    rows.write_text(rows.read_text() + json.dumps(long) + "\n")
    train(config, None)
    status = evaluate(config, None).evaluation
    assert status
    assert (status.examples, status.dropped_examples) == (12, 1)


def test_rows_with_one_letter_right_are_scored_by_all_metrics_and_the_status_says_what_that_is_worth(
    run: Any, tmp_path: Path
) -> None:
    from finetune_trainer.evaluation.evaluate import evaluate

    texts = ("river bank", "old barn", "pine wood", "pine wood")
    rows = [
        {"question": f"Where does {number} sleep?", "options": list(texts), "answer_idx": "A"} for number in range(5)
    ]
    rows[0]["options"] = ["river bank", "river bank", "old barn", "pine wood"]
    claims = {mount.claim: Path(mount.path) for mount in run.config.mounts} | {"other": tmp_path}
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = run.config.spec.to_api()
    document["evaluation"]["dataset"]["source"] = "pvc://other/one.jsonl"
    document["evaluation"] |= {"samplePrompts": 0, "metrics": [name for name in METRICS if name != "Perplexity"]}
    result = evaluate(run_config(document, claims), None)
    advice = {one.reason: one.message for one in result.advice}
    assert "A is right in all 5 held-out rows" in advice["OneRightLetter"]
    assert "1 of 5 held-out rows" in advice["RepeatedOptions"]
    assert not [metric.name for metric in result.evaluation.metrics if metric.omitted or not metric.tuned]
    report = json.loads(run.config.local_path(parse_claim(result.evaluation.report_uri)).read_text())
    assert report["baselines"] == {"guessing": 0.3, "mostFrequentLetter": {"letter": "A", "share": 1.0}}
    assert set(report["details"]) == {"CalibrationError", "OrderConsistency", "LetterOrderConsistency"}
    for name, how in (("OrderConsistency", "Accuracy"), ("LetterOrderConsistency", "LetterAccuracy")):
        metric = result.evaluation.metric(how)
        assert report["details"][name]["tuned"]["ownOrder"]["value"] == metric.tuned.value
        same = [row["tuned"][name]["same"] for row in report["rows"]]
        assert float(result.evaluation.metric(name).tuned.value) == sum(same) / 5
