"""What a run leaves: written, loaded back as anyone would load it, and compared with the model that was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_api.defaults import ResolvedSpec
from finetune_api.output import MERGED
from finetune_api.results import AdapterStatus, ArtefactStatus, ModelStatus
from finetune_trainer.data.tokenize import TokenRow
from finetune_trainer.models.answers_alike import Answers, answers_of
from finetune_trainer.models.artefacts import save_adapter, save_model
from finetune_trainer.models.initialization import Beginning
from finetune_trainer.models.loading import attach_adapter
from finetune_trainer.models.merging import merged
from finetune_trainer.models.methods import METHODS
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.console import say
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.protocols import Tokenizer
from finetune_trainer.stage.run_folder import RunFolder
from finetune_trainer.training.memory import release_memory


@dataclass
class Tuned:
    """A model after its training."""

    model: CausalLM | None
    tokenizer: Tokenizer
    beginning: Beginning
    rows: Sequence[TokenRow]  # a few are asked of it, and of what was saved
    source: ModelSource  # its base
    device: Device

    def taken(self) -> CausalLM:
        """The model, which nothing here holds on to any more."""
        assert self.model is not None, "the model is taken once"
        model, self.model = self.model, None
        return model


@dataclass(frozen=True)
class Saved:
    """The artefacts of a run."""

    adapter: AdapterStatus | None
    model: ModelStatus | None


def save_artefacts(tuned: Tuned, spec: ResolvedSpec, folder: RunFolder) -> Saved:
    """Saves what the spec asks for, and proves each of it.

    Raises StageError: StorageFull and others for what can't be written, ArtifactMismatch for what, loaded back, answers
    otherwise. The trained model is gone afterwards.
    """
    method, device = METHODS[spec.method], tuned.device
    model = tuned.taken()
    adapter = whole = None
    if method.adapter:
        expected = answers_of(model, tuned.rows, device)
        adapter = save_adapter(model, tuned.tokenizer, folder, tuned.beginning.rewrite)
        say(_saved("adapter", adapter))
    else:
        whole = save_model(model, tuned.tokenizer, folder, device)
        say(_saved("model", whole))
        expected = answers_of(model, tuned.rows, device)  # as it is rounded now
    del model
    release_memory(device)
    artefact = folder.adapter if method.adapter else folder.model
    reloaded = method.reload(artefact, device, tuned.source.trust_remote_code)(method.load(tuned.source, device))
    _compare(expected, reloaded, tuned, "adapter" if method.adapter else "model")
    del reloaded
    release_memory(device)
    if method.adapter and MERGED in spec.output.formats:
        whole = _merge(tuned, folder)
    return Saved(adapter, whole)


def _merge(tuned: Tuned, folder: RunFolder) -> ModelStatus:
    device, source = tuned.device, tuned.source
    say(f"merging the adapter into {source.name} in 16 bit")
    model = merged(source, lambda base: attach_adapter(base, folder.adapter), device)
    status = save_model(model, tuned.tokenizer, folder, device)
    say(_saved("model", status))
    expected = answers_of(model, tuned.rows, device)  # as it is rounded now
    del model
    release_memory(device)
    full = METHODS["Full"]
    saved = ModelSource(str(folder.model), None, source.trust_remote_code)
    _compare(expected, full.load(saved, device), tuned, "model")
    return status


def _compare(expected: Answers, reloaded: CausalLM, tuned: Tuned, what: str) -> None:
    device = tuned.device
    found = expected.check(answers_of(reloaded, tuned.rows, device), device, what)
    say(f"loaded back: the saved {what} answers as the trained model (logits within {found:.2%} of their spread)")


def _saved(name: str, artefact: ArtefactStatus) -> str:
    return (
        f"saved: {name} {artefact.uri}, {artefact.files} files, {artefact.size_bytes / 1e6:.1f} MB, "
        f"sha256 {artefact.sha256}"
    )
