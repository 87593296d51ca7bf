"""What the stage computes on: the GPU that the job asked for, or the CPU when it asked for none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetune_api.model import ModelSpec
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError

Dtype = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True)
class Device:
    """A device and the type that models compute in on it."""

    kind: Literal["cuda", "cpu"]
    name: str
    total_bytes: int  # 0 on the CPU
    dtype: Dtype

    @property
    def index(self) -> str:
        """The device in PyTorch's words."""
        return "cuda:0" if self.kind == "cuda" else "cpu"


def find_device(gpus: int, model: ModelSpec) -> Device:
    """The device for ``spec.runtime.gpusPerNode`` GPUs.

    Raises StageError (DeviceUnsupported) when a GPU was asked for and PyTorch finds none, or when it lacks the dtype.
    """
    if not gpus:
        # Every CPU computes float32 at full speed, and all of them alike.
        return Device("cpu", "CPU", 0, "float32")
    import torch

    if not torch.cuda.is_available():
        raise StageError(
            Reason.DEVICE_UNSUPPORTED,
            f"the job asks for {gpus} GPU, but PyTorch {torch.__version__} finds no CUDA device here",
            "check the driver, in a cluster the profile's GPU resource, too; or set spec.runtime.gpusPerNode: 0 for a "
            "trial on the CPU",
        )
    properties = torch.cuda.get_device_properties(0)
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Device("cuda", properties.name, properties.total_memory, _dtype(model.dtype, has_bfloat16, properties.name))


def _dtype(wanted: str, has_bfloat16: bool, name: str) -> Dtype:
    if wanted == "BFloat16" and not has_bfloat16:
        raise StageError(Reason.DEVICE_UNSUPPORTED, f"spec.model.dtype BFloat16: {name} has none; set Auto or Float16")
    return "float16" if wanted == "Float16" or not has_bfloat16 else "bfloat16"
