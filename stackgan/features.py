"""Feature networks for distances between pictures, given by the user; none is fetched and none comes with us."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

__all__ = ["Features", "load_features"]


class Features:
    """A feature network: pictures (N, 3, H, W) in [−1, 1] -> features (N, D).

    Args:
        net: uint8 pictures (B, 3, H, W) -> features (B, D), or a tuple that begins with them.
        name: under which distances are reported.
    """

    def __init__(self, net: Callable[[Tensor], Tensor | tuple[Tensor, ...]], name: str) -> None:
        self.net, self.name = net, name

    @torch.inference_mode()
    def __call__(self, images: Tensor, batch_size: int = 64) -> Tensor:
        found = []
        for part in tqdm(images.split(batch_size), desc=f"features ({self.name})", unit="batch", leave=False):
            levels = ((part.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            out = self.net(levels)
            found.append((out[0] if isinstance(out, tuple) else out).float().cpu())
        return torch.cat(found)


def load_features(folder: Path) -> Features:
    """The network in a folder: ``feature_net.py`` with a class ``FeatureNet(path of the weights)``, and one
    ``.safetensors``. The file is Python code and is run: give only folders that you trust.

    Raises:
        FileNotFoundError: no such folder or file. ValueError: no class, several weights.
    """
    code = folder / "feature_net.py"
    if not code.is_file():
        raise FileNotFoundError(f"{code}: not there; --features is a folder with feature_net.py and its weights")
    weights = sorted(folder.glob("*.safetensors"))
    if len(weights) != 1:
        raise ValueError(f"{folder}: holds {len(weights)} .safetensors files, exactly one is expected")
    spec = importlib.util.spec_from_file_location("stackgan_feature_net", code)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "FeatureNet"):
        raise ValueError(f"{code}: has no class FeatureNet")
    return Features(module.FeatureNet(weights[0]).eval(), weights[0].stem)
