"""Loads base models, tokenizers and adapters, with the same checks for training and evaluation.

The evaluation loads by plain transformers and PEFT, as anyone who uses the adapter would: what is measured is what was
shipped. The training engine loads by its own library inside :func:`checked_load`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, cast

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.hub_errors import config_fault, model_fault, rejected_status
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError, causes, first_line
from finetune_trainer.stage.protocols import Tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

# How many tensors of a broken checkpoint a message names.
_NAMED = 3
_SHAPE = "has in another shape than its configuration says"


def load_config(source: ModelSource) -> PretrainedConfig:
    """A model's configuration, without its weights. Raises StageError (ModelNotFound) when it can't be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            source.name, revision=source.revision, trust_remote_code=source.trust_remote_code, token=source.token
        )
    except Exception as error:
        raise _not_found(source, error, config_fault) from error


def context_of(config: PretrainedConfig) -> int | None:
    """Tokens that a model has positions for; None where its configuration names no number.

    Architectures with learned positions have names of their own for it.
    """
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length"):
        if isinstance(length := getattr(text, name, None), int) and length > 0:
            return length
    return None


def skeleton(source: ModelSource, config: PretrainedConfig) -> CausalLM | None:
    """The model without weights, to count layers before anything is loaded; None where its code wants weights."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=source.trust_remote_code)
    except Exception:  # a model's own code may do anything in its constructor; loading tells what is wrong with it
        return None
    return cast(CausalLM, model)


def embedding_rows(model: CausalLM) -> int:
    """How many token ids a model has vectors for."""
    weight: Any = model.get_input_embeddings().weight
    return int(weight.shape[0])


def load_tokenizer(source: ModelSource) -> Tokenizer:
    """A model's or an adapter's tokenizer. Raises StageError (ModelNotFound) when there is none that can be read."""
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(
            source.name, revision=source.revision, trust_remote_code=source.trust_remote_code, token=source.token
        )
    except Exception as error:
        raise _not_found(source, error, config_fault, "its tokenizer") from error
    return text_tokenizer(loaded, source)


def tokenizer_bytes(source: ModelSource) -> int:
    """Size of a model's tokenizer on disk, as it will be saved beside the adapter."""
    with tempfile.TemporaryDirectory(prefix="finetune-") as scratch:
        load_tokenizer(source).save_pretrained(scratch)
        return sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file())


def text_tokenizer(loaded: Any, source: ModelSource) -> Tokenizer:
    """The tokenizer in what a library loaded, which for multimodal models is a processor.

    Raises StageError (ModelNotFound) for a processor without one.
    """
    tokenizer = getattr(loaded, "tokenizer", loaded)
    if tokenizer is not loaded and tokenizer is not None and not getattr(tokenizer, "chat_template", None):
        tokenizer.chat_template = getattr(loaded, "chat_template", None)  # processors keep it to themselves
    if tokenizer is None or not callable(getattr(tokenizer, "decode", None)):
        raise StageError(
            Reason.MODEL_NOT_FOUND,
            f"{source.name} brings a {type(loaded).__name__} without a text tokenizer: only text models can be trained",
        )
    return cast(Tokenizer, tokenizer)


def load_base(source: ModelSource, device: Device, quantised: bool = True) -> CausalLM:
    """A model in NF4 or in the device's type, in evaluation mode.

    Raises StageError (ModelNotFound) when it isn't whole.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, device.dtype)
    with checked_load(source):
        model = AutoModelForCausalLM.from_pretrained(
            source.name,
            revision=source.revision,
            token=source.token,
            trust_remote_code=source.trust_remote_code,
            dtype=dtype,
            device_map={"": device.index},
            # As Unsloth quantises for training.
            quantization_config=BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
            if quantised
            else None,
        )
    check_shapes(model, source)
    _keep_compute_type(model)
    return cast(CausalLM, model.eval())


def linear_weights(source: ModelSource) -> dict[str, torch.Tensor]:
    """The weights [out, in] of a model's linear layers by name, in the checkpoint's own type, on the host.

    Raises StageError (ModelNotFound) when it isn't whole.
    """
    from torch.nn import Linear
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    with checked_load(source):
        model = AutoModelForCausalLM.from_pretrained(
            source.name,
            revision=source.revision,
            token=source.token,
            trust_remote_code=source.trust_remote_code,
            dtype="auto",
        )
    return {
        # GPT-2's lie the other way round, which the shape of a square one doesn't tell.
        name: module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
        for name, module in model.named_modules()
        if isinstance(module, Linear | Conv1D)
    }


def _keep_compute_type(model: Any) -> None:
    """On a CPU with AVX512-BF16, bitsandbytes computes in bfloat16 outside of training, whatever it was told."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def check_shapes(model: CausalLM, source: ModelSource) -> None:
    """Raises StageError (ModelNotFound) for tensors of another shape than the architecture gives them.

    transformers takes them as they are when it quantises, and the first pass would end in a crash, or worse. So it
    does with a checkpoint in 4 bit whose scales have lost their own.
    """
    bare = skeleton(source, load_config(source))
    expected = {name: value.shape for name, value in bare.named_parameters()} if bare else {}
    wrong, without_scale = [], []
    for prefix, module in model.named_modules():
        layer: Any = module
        for name, value in module.named_parameters(prefix, recurse=False):
            state = getattr(value, "quant_state", None)
            if state is not None:  # a quantised layer knows its own shape; GPT-2's is turned round
                fits = tuple(state.shape) == (layer.out_features, layer.in_features)
                if not state.nested and not state.absmax.is_floating_point():
                    without_scale.append(f"{name}.nested_absmax")
            else:
                fits = value.shape == expected.get(name, value.shape)
            if not fits:
                wrong.append(name)
    _refuse_incomplete(source, _tensors("lacks", without_scale), _tensors(_SHAPE, wrong))


def attach_adapter(base: CausalLM, folder: Path) -> CausalLM:
    """The tuned model: ``base`` itself with the adapter in ``folder`` on it, in evaluation mode.

    From then on ``base`` is lost, even with the adapter off: trained biases take the place of its own.
    """
    from peft import PeftModel

    return cast(CausalLM, PeftModel.from_pretrained(base, folder).eval())


def release(model: CausalLM) -> None:
    """Gives up a model's weights, whoever still holds it. Those in 4 bit can't be moved to ``meta``."""
    for module in model.modules():
        module._parameters.clear()
        module._buffers.clear()


@contextmanager
def checked_load(source: ModelSource) -> Iterator[None]:
    """What a library loads inside must fill the architecture exactly.

    transformers would give a tensor that the checkpoint lacks random values, and leave out one that it does not know,
    with no more than a warning. Raises StageError (ModelNotFound) that names the tensors, and for all else that is the
    checkpoint's fault. Tied weights and what an architecture is known to ignore don't count.
    """
    from safetensors import SafetensorError
    from transformers import modeling_utils

    report = modeling_utils.log_state_dict_report

    def check(*args: Any, loading_info: Any, **kwargs: Any) -> None:
        _refuse_incomplete(
            source,
            _tensors("lacks", loading_info.missing_keys),
            _tensors("has, though the architecture does not,", loading_info.unexpected_keys),
            _tensors(_SHAPE, (key for key, *_ in loading_info.mismatched_keys)),
        )
        report(*args, loading_info=loading_info, **kwargs)

    modeling_utils.log_state_dict_report = check
    try:
        yield
    except (SafetensorError, UnpicklingError, EOFError) as error:  # cut off, or no weights at all
        raise StageError(Reason.MODEL_NOT_FOUND, f"{source.name} can't be read: {first_line(error)}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise _not_found(source, error, model_fault) from error
    finally:
        modeling_utils.log_state_dict_report = report


def _refuse_incomplete(source: ModelSource, *problems: str) -> None:
    """Raises StageError (ModelNotFound) for what :func:`_tensors` found."""
    if text := "; it ".join(filter(None, problems)):
        raise StageError(Reason.MODEL_NOT_FOUND, f"{source.name} is not whole: it {text}")


def _tensors(verb: str, names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return f"{verb} {', '.join(ordered[:_NAMED])}{more}" if ordered else ""


def _not_found(source: ModelSource, error: Exception, find_fault: Any, what: str = "") -> Exception:
    """ModelNotFound where the source is to blame, else the error itself."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    for cause in causes(error):  # libraries wrap what was raised inside of them
        if isinstance(cause, StageError):
            return cause
    if status := rejected_status(error):
        sent = "with the token that was sent" if source.token else "without a token"
        text = f"the hub does not give {source.name} {sent} (HTTP {status}): it is private or gated"
        return StageError(Reason.CREDENTIALS_REJECTED, text)
    fault = find_fault(error, HF_HUB_OFFLINE)
    if not fault:
        return error
    name = f"{source.name}: {what}" if what else source.name
    return StageError(Reason.MODEL_NOT_FOUND, f"{name} can't be loaded: {cut(fault, 512)}")
