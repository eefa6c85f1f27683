"""Check the installation: one line for each supported or missing feature, with advice."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from stackgan.networks.fast_parts import onednn_works
from stackgan.runtime.allocator import keep_pages
from stackgan.runtime.compiler import cpp_compiler
from stackgan.runtime.precision import bf16_is_fast
from stackgan.version import __version__

__all__ = ["Finding", "doctor", "examine"]

# Optional packages, their purpose, and the extra that installs them.
OPTIONAL = {
    "gradio": ("the web page", "stackgan[app]"),
    "tensorboard": ("TensorBoard files of training runs", "stackgan[train]"),
    "transformers": ("pretrained text encoders", "stackgan"),
    "torchvision": ("its classifiers in discriminator.features, and --clip", "stackgan[features]"),
    "torch_fidelity": ("evaluation with Inception features", "stackgan[eval]"),
    "matplotlib": ("the studies' figures", "stackgan[study]"),
    "zuko": ("flow-2d's comparison", "stackgan[study]"),
    "efficientnet_lite_pytorch": ("training with discriminator.features", "stackgan[features]"),
    "datasets": ("prepare datasets", "stackgan[datasets]"),
    "imageio": ("interpolations as MP4", "stackgan[video]"),
}


@dataclass(frozen=True)
class Finding:
    """Result of a check: ``good`` is None for an optional feature; ``advice`` is shown unless ``good``."""

    name: str
    found: str
    good: bool | None = None
    advice: str = ""


def doctor(checkpoint: str | Path) -> int:
    """Print the findings of :func:`examine`; returns 0, or 1 if something required is missing."""
    findings = examine(checkpoint)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = {True: "✓", False: "✗", None: " "}[finding.good]
        print(f"{mark} {finding.name:<{width}}  {finding.found}")
        if not finding.good and finding.advice:
            print(f"  {'':<{width}}  → {finding.advice}")
    return int(any(finding.good is False for finding in findings))


def examine(checkpoint: str | Path) -> list[Finding]:
    """Check everything that determines whether and how fast the program runs, required parts first."""
    return [
        *_versions(),
        *_processor(),
        *_cuda(),
        _checkpoint(checkpoint),
        _compiler(),
        *(_package(name, purpose, extra) for name, (purpose, extra) in OPTIONAL.items()),
    ]


def _versions() -> list[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    return [
        Finding("stackgan", f"{__version__}, Python {platform.python_version()}, {system}"),
        Finding("torch", torch.__version__),
    ]


def _processor() -> list[Finding]:
    kept = keep_pages()
    packs = [name for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)) if onednn_works(dtype)]
    capability = torch.backends.cpu.get_cpu_capability()
    fast = bf16_is_fast(torch.device("cpu"))
    return [
        Finding("processor", f"{os.cpu_count()} cores, {capability}; PyTorch uses {torch.get_num_threads()} threads"),
        Finding(
            "allocator",
            "freed pages are kept (command line and app; 1.5 to 2 times faster at batch sizes from 8)"
            if kept
            else "freed pages are returned to the system: glibc's malloc is not in use",
            kept or None,
        ),
        Finding(
            "oneDNN",
            f"convolutions with packed weights in {' and '.join(packs)}"
            if packs
            else "not available: plain convolutions",
            bool(packs) or None,
        ),
        Finding("bf16", "in hardware" if fast else "no hardware support found: --precision fp32 is faster", None),
    ]


def _cuda() -> list[Finding]:
    if not torch.cuda.is_available():
        return [Finding("GPU", "none found by PyTorch: everything runs on the CPU")]
    found = []
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        found.append(Finding(f"GPU {i}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB", True))
    return found


def _checkpoint(name: str | Path) -> Finding:
    from stackgan.checkpoint import load_checkpoint

    try:
        checkpoint = load_checkpoint(name)
    except (OSError, ValueError) as error:
        return Finding("checkpoint", str(error), False, "pass another with --checkpoint")
    sizes = ", ".join(map(str, checkpoint.config.tree.sizes))
    return Finding("checkpoint", f"{checkpoint.folder}: {checkpoint.config.preset}, {sizes} px", True)


def _compiler() -> Finding:
    found = cpp_compiler()
    shown = found or "none: optim.compile and compiled generators are not available"
    return Finding("C++ compiler", shown, bool(found) or None)


def _package(module: str, purpose: str, extra: str) -> Finding:
    name = f"optional: {module}"
    if find_spec(module) is None:
        return Finding(name, f"not installed, for {purpose}", None, f'pip install "{extra}"')
    try:
        return Finding(name, f"{version(module.replace('_', '-'))}, for {purpose}", True)
    except PackageNotFoundError:
        return Finding(name, f"installed, for {purpose}", True)
