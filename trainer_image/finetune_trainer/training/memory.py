"""Memory of the GPU and of the host: before training, at its peak, and after."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

from finetune_api.base import number
from finetune_api.results import DeviceMemory, HostMemory, MemoryStatus
from finetune_trainer.stage.device import Device

_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT = 1 << 60  # cgroup v1 writes a huge number for "no limit"
GIB = 1 << 30


@dataclass(frozen=True)
class MemoryBefore:
    """What was taken when training began, in bytes."""

    reserved: int
    resident: int


def measure_before(device: Device) -> MemoryBefore:
    """Reads what is taken with the model loaded, and resets the GPU's peak: an old peak would hide the new one."""
    reserved = 0
    if device.kind == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        reserved = torch.cuda.memory_reserved()
    return MemoryBefore(reserved, _resident_bytes())


def measure_after(device: Device, before: MemoryBefore) -> MemoryStatus:
    """The memory section of a training result."""
    # The kernel sums both readings up from counters for each core, so that a peak may read some pages lower.
    peak_resident = max(_peak_resident_bytes(), before.resident)
    host = HostMemory(before_bytes=before.resident, peak_bytes=peak_resident, limit_bytes=_memory_limit())
    if device.kind == "cpu":
        total = host.limit_bytes or _installed_bytes()
        return MemoryStatus(summary=summarise(host.peak_bytes, total), host=host)
    import torch

    peak = torch.cuda.max_memory_reserved()
    memory = device_memory(device, before.reserved, peak, torch.cuda.memory_reserved())
    return MemoryStatus(summary=summarise(peak, device.total_bytes), devices=[memory], host=host)


def release_memory(device: Device) -> None:
    """Gives back what nothing holds on to any more."""
    gc.collect()
    if device.kind == "cuda":
        import torch

        torch.cuda.empty_cache()


def reserved_bytes(device: Device) -> int | None:
    """GPU memory that is reserved now; None on a CPU."""
    if device.kind == "cpu":
        return None
    import torch

    return torch.cuda.memory_reserved()


def device_memory(device: Device, before: int, peak: int, after: int) -> DeviceMemory:
    """One GPU's entry; all arguments in bytes."""
    return DeviceMemory(
        name=device.name[:256],
        total_bytes=device.total_bytes,
        reserved_before_bytes=before,
        peak_reserved_bytes=peak,
        peak_for_training_bytes=max(0, peak - before),
        reserved_after_bytes=after,
        peak_percent=number(100 * peak / device.total_bytes, 4),
    )


def summarise(peak: int, total: int) -> str:
    """Peak over total, such as '1.3/79 GiB (1.7%)'; both in bytes."""
    return f"{peak / GIB:.1f}/{total / GIB:.0f} GiB ({100 * peak / total:.1f}%)"


def before_lines(device: Device, before: MemoryBefore) -> list[str]:
    """What is taken before training, for people: a run that then runs out of memory has shown where it began."""
    if device.kind == "cpu":
        return [_line("host memory before training", before.resident, _memory_limit() or _installed_bytes())]
    return [
        f"GPU = {device.name}, {device.total_bytes / GIB:.3f} GiB",
        _line("reserved before training", before.reserved, device.total_bytes),
    ]


def report_lines(memory: MemoryStatus, runtime_seconds: float) -> list[str]:
    """Run time and peak memory for people, as the article's notebook prints them."""
    lines = [f"{runtime_seconds:.1f} seconds ({runtime_seconds / 60:.2f} minutes) used for training"]
    for device in memory.devices:
        total = device.total_bytes
        lines += [
            f"GPU = {device.name}, {total / GIB:.3f} GiB",
            _line("reserved before training", device.reserved_before_bytes, total),
            _line("peak reserved", device.peak_reserved_bytes, total),
            _line("peak reserved for training", device.peak_for_training_bytes, total),
            _line("reserved after training", device.reserved_after_bytes, total),
        ]
    if memory.host and not memory.devices:
        total = memory.host.limit_bytes or _installed_bytes()
        lines += [
            _line("host memory before training", memory.host.before_bytes, total),
            _line("host memory at its peak", memory.host.peak_bytes, total),
        ]
    return lines


def _line(what: str, size: int, total: int) -> str:
    return f"  {what:<28} {size / GIB:8.3f} GiB  {100 * size / total:6.2f} %"


def _resident_bytes() -> int:
    return _status_bytes("VmRSS")


def _peak_resident_bytes() -> int:
    # Not getrusage: its maximum outlives exec, so it may be that of the process that started this one.
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _memory_limit() -> int | None:
    for path in _LIMIT_FILES:
        if path.is_file() and (text := path.read_text().strip()).isdigit() and int(text) < _NO_LIMIT:
            return int(text)
    return None


def _installed_bytes() -> int:
    line = Path("/proc/meminfo").read_text().splitlines()[0]
    return int(line.split()[1]) * 1024
