"""Start a run from another one's weights: other data, another latent module, one more stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from stackgan.checkpoint import load_checkpoint, load_state, stored_discriminators
from stackgan.config import Config
from stackgan.config.facts import TrainingFacts
from stackgan.io.files import copy_folder
from stackgan.io.weights import compare_weights

__all__ = ["InitialisationSource", "copy_text_encoder", "copy_weights", "open_initialisation_source"]


@dataclass(frozen=True)
class InitialisationSource:
    """What a run folder or a checkpoint gives to a new run.

    Attributes:
        config: its configuration, which the new run's is made from.
        model: averaged weights of the generator with all that sampling needs.
        discriminators: None from a checkpoint that came without.
        text: folder of its caption encoder, None without one.
        trained: how long it was trained, as far as it says.
    """

    folder: Path
    config: Config
    model: Mapping[str, Tensor]
    discriminators: Mapping[str, Tensor] | None
    text: Path | None
    trained: TrainingFacts


def open_initialisation_source(folder: Path) -> InitialisationSource:
    """Read a run folder (``state.pt`` in it) or a checkpoint.

    Raises:
        FileNotFoundError: neither is there. ValueError: it cannot be read.
    """
    if (folder / "state.pt").is_file():
        try:
            values = json.loads((folder / "config.json").read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{folder / 'config.json'}: not valid JSON ({error})") from None
        values.pop("data", None)
        config = Config.from_dict(values, str(folder / "config.json"))
        state = load_state(folder / "state.pt")
        text = folder / "text"
        progress = state["progress"]
        trained = TrainingFacts(progress["step"], progress["images"], round(progress["seconds"]))
        return InitialisationSource(
            folder, config, state["average"], state["discriminators"], text if text.is_dir() else None, trained
        )
    checkpoint = load_checkpoint(folder)
    trained = checkpoint.facts.trained or TrainingFacts()
    return InitialisationSource(
        folder, checkpoint.config, checkpoint.weights, stored_discriminators(folder), checkpoint.text_folder, trained
    )


def copy_text_encoder(start: InitialisationSource, run_folder: Path) -> None:
    """Put the start's caption encoder where a run looks for its own; one that is there stays."""
    if start.text is not None and not (run_folder / "text").exists():
        copy_folder(start.text, run_folder / "text")


def copy_weights(weights: Mapping[str, Tensor], net: nn.Module, folder: Path) -> list[str]:
    """Load what ``weights`` has of ``net``'s; returns the names that it has not, which keep their fresh values.

    Raises:
        ValueError: a tensor of another shape.
    """
    differs = compare_weights(net, weights)
    for name, (found, wanted) in differs.reshaped.items():
        raise ValueError(
            f"{folder}: {name} has shape {found}, this run asks for {wanted}; "
            "keep the widths and dimensions of the run you start from"
        )
    net.load_state_dict({name: weights.get(name, tensor) for name, tensor in net.state_dict().items()})
    return list(differs.missing)
