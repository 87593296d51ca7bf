"""Base and tuned model in one comparison: whose scores they are, and what is said when there are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.data.chat_template import read_chat_format
from finetune_trainer.data.formats.multiple_choice import ChoiceRow
from finetune_trainer.evaluation.questions import make_questions
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError, failure_of

CPU = Device("cpu", "CPU", 0, "float32")
ROWS = [
    ChoiceRow("Where?", {"A": "old barn", "B": "river bank"}, "B"),
    ChoiceRow("Who?", {letter: f"number {letter}" for letter in "ABCDE"}, "E"),
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
    from finetune_trainer.models.evaluation_model import attach, load_base, load_tokenizer

    base = load_base(ModelSource(str(model), None, False), CPU)
    chat = read_chat_format(load_tokenizer(adapter))
    contestants = Contestants(base, lambda loaded: attach(loaded, adapter), chat, CPU)
    return compare(contestants, ROWS, config.spec, lambda done, total: None)


def test_base_scores_are_the_untouched_models_when_the_adapter_brings_trained_biases(
    qwen: Path, save_adapter: Callable[[float, float], Path], make_config: Any, tmp_path: Path
) -> None:
    from finetune_trainer.evaluation.generation import answer
    from finetune_trainer.evaluation.likelihood import score
    from finetune_trainer.models.evaluation_model import load_base, load_tokenizer

    adapter = save_adapter(0.5, 0.0)
    config = make_config(tmp_path)
    outcome = compare_models(qwen, adapter, config)
    untouched = load_base(ModelSource(str(qwen), None, False), CPU)
    chat = read_chat_format(load_tokenizer(adapter))
    dataset, evaluation = config.spec.dataset, config.spec.evaluation
    questions = make_questions(ROWS, dataset.prompt_template, dataset.response_template, chat)
    pad = chat.tokenizer.pad_token_id
    assert outcome.base == score(untouched, questions, pad, 8192)
    prompts = [question.prompt for question in questions[: evaluation.sample_prompts]]
    expected = answer(untouched, prompts, chat, pad, evaluation.max_new_tokens, 8192)
    assert [sample.base for sample in outcome.samples] == expected
    for base, tuned in zip(outcome.base, outcome.tuned, strict=True):
        assert base.right_log_likelihood != pytest.approx(tuned.right_log_likelihood, abs=0.1)


def test_a_tuned_model_whose_numbers_overflow_has_no_accuracy(
    qwen: Path, save_adapter: Callable[[float, float], Path], make_config: Any, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="the tuned model's likelihoods are not finite in float32 on CPU: ") as caught:
        compare_models(qwen, save_adapter(0.0, 3e38), make_config(tmp_path))
    assert caught.value.reason is Reason.EVALUATION_FAILED


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

    message = not_finite(name, Device("cuda", "Tesla T4", 1, dtype))
    assert message.startswith(f"the {name} model's likelihoods are not finite in {dtype} on Tesla T4: ")
    assert advice in message


def test_a_question_that_does_not_fit_the_gpu_fails_the_evaluation_with_advice_of_its_own(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from finetune_trainer.evaluation import comparison
    from finetune_trainer.evaluation.evaluate import evaluate

    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. If reserved but unallocated memory")

    monkeypatch.setattr(comparison, "score", full)
    (run.folder / "report" / "result.json").rename(run.folder / "kept.json")
    try:
        with pytest.raises(StageError) as caught:
            evaluate(run.config, None)
    finally:
        (run.folder / "kept.json").rename(run.folder / "report" / "result.json")
    message = failure_of(caught.value).message
    assert caught.value.reason is Reason.EVALUATION_FAILED
    assert "Tried to allocate 2 GiB; take a GPU with more memory, or shorten the held-out rows" in message
    assert "If reserved" not in message
    assert "microBatchSize" not in message
