"""Initialise a run with the weights of another: for other data, another latent module, or an added stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from stackgan.checkpoint import load_checkpoint, stored_discriminators
from stackgan.config import Config
from stackgan.config.facts import TrainingFacts
from stackgan.io.files import copy_folder
from stackgan.io.json_reader import read_json
from stackgan.io.run_state import has_state, newest_state
from stackgan.io.weights import compare_weights
from stackgan.latent.priors import trainable

__all__ = ["InitialisationSource", "copy_text_encoder", "copy_weights", "open_initialisation_source"]


@dataclass(frozen=True)
class InitialisationSource:
    """Weights and settings of a run folder or checkpoint that a new run is initialised with.

    Attributes:
        config: its configuration, the base of the new run's; with N(0, I) in place of a tilted prior.
        model: EMA weights of the generator, CA_NET and latent modules.
        discriminators: None for a checkpoint without them.
        text: folder of its caption encoder, or None.
        trained: length of its training, if recorded.
    """

    folder: Path
    config: Config
    model: Mapping[str, Tensor]
    discriminators: Mapping[str, Tensor] | None
    text: Path | None
    trained: TrainingFacts


def open_initialisation_source(name: str | Path) -> InitialisationSource:
    """Read a run folder (``state.pt`` in it) or a checkpoint (:func:`stackgan.io.checkpoint_names.find_checkpoint`).

    Raises:
        FileNotFoundError: neither is there. ValueError: it cannot be read.
    """
    folder = Path(name)
    if has_state(folder):
        values = read_json(folder / "config.json", advice="name another run folder or a checkpoint")
        values.pop("data", None)
        config = Config.from_dict(values, str(folder / "config.json"))
        saved = newest_state(folder)
        assert saved is not None  # as the folder has one
        state = saved.state
        text = folder / "text"
        progress = state["progress"]
        trained = TrainingFacts(progress["step"], progress["images"], round(progress["seconds"]))
        return InitialisationSource(
            folder, config, state["average"], state["discriminators"], text if text.is_dir() else None, trained
        )
    checkpoint = load_checkpoint(name)
    folder = checkpoint.folder
    trained = checkpoint.facts.trained or TrainingFacts()
    config = replace(checkpoint.config, latent=trainable(checkpoint.config.latent))
    return InitialisationSource(
        folder, config, checkpoint.weights, stored_discriminators(folder), checkpoint.text_folder, trained
    )


def copy_text_encoder(start: InitialisationSource, run_folder: Path) -> None:
    """Copy the source's caption encoder to the run folder; an existing one is kept."""
    if start.text is not None and not (run_folder / "text").exists():
        copy_folder(start.text, run_folder / "text")


def copy_weights(weights: Mapping[str, Tensor], net: nn.Module, folder: Path) -> list[str]:
    """Load the entries of ``weights`` that ``net`` has; returns the missing names, which keep their initial values.

    Raises:
        ValueError: a tensor has another shape.
    """
    differs = compare_weights(net, weights)
    for name, (found, wanted) in differs.reshaped.items():
        raise ValueError(
            f"{folder}: {name} has shape {found}, this run needs {wanted}; "
            "keep the widths and dimensions of the run you start from"
        )
    net.load_state_dict({name: weights.get(name, tensor) for name, tensor in net.state_dict().items()})
    return list(differs.missing)
