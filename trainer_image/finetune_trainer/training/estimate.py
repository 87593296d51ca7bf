"""How much memory of a GPU a run would take, estimated from the model's shape alone. Pure.

No more than arithmetic: kernels, fragmentation and what else runs on the GPU are not in it. Sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_api.defaults import ResolvedTraining
from finetune_trainer.models.methods import Method
from finetune_trainer.models.sizes import MOMENT_BYTES, TRAINED_BYTES, Sizes
from finetune_trainer.training.plan import ModelShape, StepPlan, plan_step

GIB = 1 << 30
USUAL_GPUS = (16 * GIB, 24 * GIB, 40 * GIB, 80 * GIB)
# What the CUDA context and its libraries take for themselves.
CUDA_BYTES = GIB // 2
# A weight in NF4 is half a byte; the scales of its block, quantised once more, make it 0.53. In hundredths.
_NF4 = 53
_OTHER = 2  # what isn't quantised, in 16 bit
_GRADIENT = 4  # as what is trained
_FISHER, _REFERENCE = 2, 4  # training/consolidation.py


@dataclass(frozen=True)
class Parameters:
    """How many parameters there are of each kind."""

    quantised: int  # in linear layers that are loaded in 4 bit
    other: int  # that stay as they are, too
    trained: int
    held: int = 0  # whose change elastic weight consolidation holds back; counted above, too

    @property
    def total(self) -> int:
        """All of base model and adapter."""
        return self.quantised + self.other + self.trained


def parameters_of(method: Method, sizes: Sizes, linear: int, held: int = 0) -> Parameters:
    """The parameters of a model as a method trains it; ``linear`` of them are weights of layers that NF4 takes."""
    if not method.adapter:
        return Parameters(0, 0, sizes.trained, held)
    quantised = linear if method.quantised else 0
    return Parameters(quantised, sizes.base - quantised, sizes.trained, held)


@dataclass(frozen=True)
class Estimate:
    """What a run would take of a GPU, and how its steps would be split there."""

    gpu: int
    frozen: int  # the weights that stay as they are
    trained: int  # those that are trained, their gradients and the optimizer's moments
    activations: int
    step: StepPlan
    consolidation: int = 0  # what mattered to general rows, and where it was

    @property
    def together(self) -> int:
        """All of it, with what CUDA takes."""
        return self.frozen + self.trained + self.activations + self.consolidation + CUDA_BYTES

    @property
    def fits(self) -> bool:
        """Whether the GPU has so much."""
        return self.together <= self.gpu


def estimate(parameters: Parameters, shape: ModelShape, training: ResolvedTraining, longest: int, gpu: int) -> Estimate:
    """What a run would take of a GPU with ``gpu`` bytes. ``longest`` is the longest row in tokens."""
    frozen = frozen_bytes(parameters)
    # As the trainer does it: by what is free once the model is loaded. An adapter comes later.
    loaded = frozen or parameters.trained * TRAINED_BYTES
    fisher = parameters.held * _FISHER  # looked for before the model is loaded
    step = plan_step(training, shape, longest, max(0, gpu - CUDA_BYTES - loaded - fisher))
    activations = step.micro_batch * longest * shape.bytes_per_token(step.checkpointing != "Disabled")
    reference = parameters.trained * _REFERENCE if fisher else 0
    return Estimate(gpu, frozen, trained_bytes(parameters, training), activations, step, fisher + reference)


def frozen_bytes(parameters: Parameters) -> int:
    """The weights that stay as they are."""
    return parameters.quantised * _NF4 // 100 + parameters.other * _OTHER


def trained_bytes(parameters: Parameters, training: ResolvedTraining) -> int:
    """The weights that are trained, with gradients and moments."""
    return parameters.trained * (TRAINED_BYTES + _GRADIENT + MOMENT_BYTES[training.optimizer])
