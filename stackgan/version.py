"""Version of this package, used by ``pyproject.toml`` and checkpoints."""

__all__ = ["__version__"]

__version__ = "0.1.0"
