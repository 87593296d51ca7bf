"""Small tokenizers of every kind, and chat templates that behave as those of well-known models."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from finetune_api.model import ModelSpec
from finetune_trainer.data.chat_format import ChatFormat, read_chat_format

TEMPLATES = Path(__file__).parent.parent / "data" / "chat_templates"
# With what the tests write, so that merges form where templates and rows meet.
CORPUS = [
    "Where does an old otter live?\n\nOptions:\nA. old barn\nB. river bank\n\nPlease choose the correct answer.",
    "The correct answer is river bank.",
    "[INST] Which café is it? [/INST] USER: Who? ASSISTANT: The one by the pine wood.",
    "<|user|>\nsystem assistant user model\n</s>\n<|assistant|>\n<think>\n\n</think>\n\n<|im_end|>",
    "Knowledge until: December 2023\nToday: 26 Jul 2024\n\nYou are a language model.",
] * 3


@dataclass(frozen=True)
class Chat:
    """A chat template with the tokens that it is made of."""

    name: str
    template: str
    special: tuple[str, ...] = ()  # added tokens that are flagged special, besides BOS and EOS
    plain: tuple[str, ...] = ()  # added tokens that are not
    bos: str | None = None
    eos: str = "</s>"
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        # Without the file's last newline, as transformers saves and loads templates.
        return (TEMPLATES / f"{self.template}.jinja").read_text().removesuffix("\n")


THINK = ("<think>", "</think>")
IM = ("<|im_start|>",)
CHATS = {
    chat.name: chat
    for chat in (
        Chat("Llama 3", "llama3", ("<|start_header_id|>", "<|end_header_id|>"), (), "<|begin_of_text|>", "<|eot_id|>"),
        Chat("Llama 2", "llama2", bos="<s>"),
        Chat("Mistral v0.3", "mistral_v03", ("[INST]", "[/INST]"), bos="<s>"),
        Chat("Qwen2.5", "qwen25", IM, ("<tool_call>",), eos="<|im_end|>"),
        Chat("Qwen3", "qwen3", IM, THINK, eos="<|im_end|>"),
        Chat("Qwen3 without thinking", "qwen3", IM, THINK, eos="<|im_end|>", variables=(("enable_thinking", "false"),)),
        Chat(
            "DeepSeek-R1-Distill",
            "deepseek_r1_distill",
            (),
            ("<｜User｜>", "<｜Assistant｜>", *THINK),
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
        ),
        Chat("Gemma", "gemma", ("<start_of_turn>", "<end_of_turn>"), ("<b>", "\n\n", "\n\n\n"), "<bos>", "<eos>"),
        Chat("Phi", "phi3", ("<|user|>", "<|assistant|>", "<|end|>", "<|system|>"), (), None, "<|endoftext|>"),
        Chat("gpt-oss", "gpt_oss", ("<|start|>", "<|message|>", "<|channel|>", "<|end|>"), (), None, "<|return|>"),
        Chat("Vicuna", "vicuna", bos="<s>"),
        Chat("ChatML", "chatml", IM, eos="<|im_end|>"),
        Chat("Zephyr", "zephyr", bos="<s>"),
    )
}

# As GPT-4's and Llama 3's: letters with what stands before them, short runs of digits, punctuation, white space.
_WORDS = r"'s|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _byte_level(normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet))
    return tokenizer


def _sentencepiece(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    document = json.loads(tokenizer.to_str())
    # The trainer adds the words for bytes as tokens, which they are not in a converted SentencePiece model.
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] == "<unk>"]
    return Tokenizer.from_str(json.dumps(document))


_BYTES = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]


def _sentencepiece_bpe() -> Tokenizer:
    """Words begin with their space, so that no token ends in one."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    return _sentencepiece(tokenizer, trainers.BpeTrainer(vocab_size=420, special_tokens=_BYTES))


def _prepended() -> Tokenizer:
    """As Llama 2 was first converted: every stretch of text gets a space in front."""
    document = json.loads(_sentencepiece_bpe().to_str()) | {"pre_tokenizer": None}
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def _metaspace(scheme: str) -> Tokenizer:
    tokenizer = _sentencepiece_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split=False)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    trainer = trainers.UnigramTrainer(vocab_size=180, special_tokens=["<unk>"], unk_token="<unk>")
    return _sentencepiece(tokenizer, trainer)


_BACKENDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level BPE": _byte_level,
    "NFC-normalising": lambda: _byte_level(normalizers.NFC()),
    "NFKC-normalising": lambda: _byte_level(normalizers.NFKC()),
    "Metaspace, prepended": _prepended,
    "Metaspace, first": lambda: _metaspace("first"),
    "Metaspace, always": lambda: _metaspace("always"),
    "Metaspace, never": lambda: _metaspace("never"),
    "Unigram": _unigram,
}


@cache
def _trained(kind: str) -> str:
    return _BACKENDS[kind]().to_str()


def make_tokenizer(
    kind: str,
    chat: Chat,
    *,
    adds_bos: bool = True,
    pad_is_eos: bool = False,
    strips: bool = False,
    known_words: bool = False,
) -> Any:
    """A tokenizer of a kind with a chat's tokens and template.

    ``adds_bos``: it puts its BOS before whatever it encodes. ``strips``: its special tokens swallow the white space
    that follows them. ``known_words``: the model itself has them as words, too.
    """
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_trained(kind))
    # NFKC-normalising ones find their plain tokens in what the normaliser leaves.
    plain = [AddedToken(token, normalized="NFKC" in kind) for token in chat.plain]
    pad = chat.eos if pad_is_eos else "<pad>"
    names = dict.fromkeys(filter(None, (chat.bos, chat.eos, pad, *chat.special)))
    if known_words:
        backend = _with_words(backend, [*names, *chat.plain])
    backend.add_special_tokens([AddedToken(name, rstrip=strips) for name in names])
    backend.add_tokens(plain)
    if chat.bos and adds_bos:
        bos = (chat.bos, backend.token_to_id(chat.bos))
        backend.post_processor = processors.TemplateProcessing(
            single=f"{chat.bos} $A", pair=f"{chat.bos} $A $B", special_tokens=[bos]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=chat.bos,
        eos_token=chat.eos,
        pad_token=pad,
        unk_token="<unk>" if backend.token_to_id("<unk>") is not None else None,
    )
    tokenizer.chat_template = chat.text
    return tokenizer


def _with_words(backend: Tokenizer, words: list[str]) -> Tokenizer:
    document = json.loads(backend.to_str())
    vocabulary = document["model"]["vocab"]
    for word in words:
        if isinstance(vocabulary, list):
            vocabulary.append([word, 0.0])
        else:
            vocabulary.setdefault(word, len(vocabulary))
    return Tokenizer.from_str(json.dumps(document))


def make_python_tokenizer(chat: Chat, folder: Path) -> Any:
    """A tokenizer that splits at added tokens in Python, and the rest by SentencePiece's own library."""
    import sentencepiece
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=400, model_type="bpe", byte_fallback=True
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    tokenizer = SentencePieceBackend(
        vocab_file=str(folder / "tokenizer.model"),
        bos_token=chat.bos,
        eos_token=chat.eos,
        unk_token="<unk>",
        pad_token="<pad>",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(chat.special)})
    tokenizer.add_tokens(list(chat.plain))
    tokenizer.chat_template = chat.text
    return tokenizer


KINDS = tuple(_BACKENDS)


def read_format(tokenizer: Any, template: str = "", rows: int | None = None, **variables: str) -> ChatFormat:
    """The format of a tokenizer, as spec.model and the rows of the model's embedding say."""
    model = ModelSpec(source="pvc://models/tiny", chat_template=template, chat_template_kwargs=variables)
    return read_chat_format(tokenizer, model, rows)
