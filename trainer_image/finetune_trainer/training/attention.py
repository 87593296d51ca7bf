"""Which attention kernel runs. The backward passes of flash and memory-efficient attention add up in another order
each time; cuDNN's and the plain one repeat to the byte, so that a spec gives the same adapter again.
"""

from __future__ import annotations

from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.device import Device

# cuDNN's attention wants Ampere or newer.
_CUDNN_CAPABILITY = (8, 0)
CUDNN, MATH = "cuDNN", "Math"


def fix_attention(device: Device) -> None:
    """Leaves PyTorch the kernels that repeat. Call it before training."""
    if device.kind == "cpu":  # its only fused kernel repeats
        return
    import torch

    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(torch.cuda.get_device_capability(0) >= _CUDNN_CAPABILITY)
    torch.backends.cuda.enable_math_sdp(True)


def attention_of(model: CausalLM, device: Device) -> str | None:
    """The kernel that PyTorch takes for this model's heads after :func:`fix_attention`; None on a CPU."""
    if device.kind == "cpu":
        return None
    import torch

    config = model.config.get_text_config()
    heads: int = getattr(config, "num_attention_heads", 0) or 1
    size: int = getattr(config, "head_dim", None) or config.hidden_size // heads
    query = torch.empty(1, heads, 128, size, device=device.index, dtype=getattr(torch, device.dtype))
    query.requires_grad_(True)
    parameters = torch.backends.cuda.SDPAParams(query, query, query, None, 0.0, True, False)
    return CUDNN if torch.backends.cuda.can_use_cudnn_attention(parameters) else MATH
