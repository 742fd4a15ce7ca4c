"""What this machine has, and what limbeck would make of it."""

import os
import platform
import shutil
from importlib import metadata, util
from pathlib import Path
from typing import Any

from limbeck import __version__
from limbeck.processes import cores

# A CPU's flags, as Linux spells them, that decide how fast products of matrices are.
_FLAGS = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8",
    "asimd", "bf16", "i8mm",
)  # fmt: skip
_PACKAGES = (
    "torch", "transformers", "tokenizers", "accelerate", "datasets", "safetensors", "pyarrow",
    "numpy", "onnxruntime", "openvino", "pydantic", "typer", "seqeval",
)  # fmt: skip


def facts(folder: Path = Path()) -> dict[str, Any]:
    """Give what decides whether and how fast limbeck runs here.

    Args:
        folder: Where the free disk space is looked up.

    Returns:
        `limbeck`, `python`, `platform`, `cpu`, `cores` (that this process may use), `cpu_flags`,
        `memory_bytes` and `disk_free_bytes` (None where unknown), `packages` (None where not
        installed), `devices`, and `precision`: what `auto` would choose, and why.
    """
    devices, precision = _with_torch()
    return {
        "limbeck": __version__,
        **machine(),
        "disk_free_bytes": shutil.disk_usage(folder).free,
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": devices,
        "precision": precision,
    }


def machine() -> dict[str, Any]:
    """Give what a measured time goes with: `python` to `memory_bytes` of `facts`; no torch."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": cores(),
        "cpu_flags": _cpu_flags(),
        "memory_bytes": _memory_bytes(),
    }


def _with_torch() -> tuple[list[str], str]:
    """Give the devices that torch sees, and what `machine.precision = "auto"` would choose."""
    if util.find_spec("torch") is None:
        return [], "torch is not installed; pip install 'limbeck[train]'"
    import torch
    from transformers import BertConfig

    from limbeck.training import choose_device, choose_precision

    devices = ["cpu"]
    devices += [
        f"cuda:{number} ({torch.cuda.get_device_name(number)})"
        for number in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append("mps")
    # BERT stands for the architectures that bear bf16.
    return devices, choose_precision("auto", choose_device("auto"), BertConfig()).reason


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_facts() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _cpu_model() -> str:
    found = _cpu_facts()
    return found.get("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    found = _cpu_facts()
    present = set((found.get("flags") or found.get("Features") or "").split())
    return [flag for flag in _FLAGS if flag in present]


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
