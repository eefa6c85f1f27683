"""StackGAN++ text-to-image generation: captions -> images.

>>> import stackgan
>>> stackgan.__version__
'0.1.0'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stackgan.version import __version__ as __version__

if TYPE_CHECKING:
    from stackgan.config import Config as Config
    from stackgan.model import StackGAN as StackGAN
    from stackgan.pipeline import StackGANPipeline as StackGANPipeline

# Imported at first use, so that ``import stackgan`` (and data preparation) does not import torch.
_HOMES = {"Config": "stackgan.config", "StackGAN": "stackgan.model", "StackGANPipeline": "stackgan.pipeline"}
__all__ = ["Config", "StackGAN", "StackGANPipeline"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stackgan' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
