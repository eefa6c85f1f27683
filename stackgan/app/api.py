"""The endpoint ``/paint`` of the page's API and MCP server: image files for a caption."""

from __future__ import annotations

from typing import Any

import gradio as gr

from stackgan.app import painting
from stackgan.app.components import CONCURRENT
from stackgan.app.endpoints import endpoint
from stackgan.app.image_request import DEFAULT_COUNT, MAX_COUNT, ImageRequest, drawn_seed
from stackgan.app.pipelines import Pipelines
from stackgan.app.served_files import served_file

__all__ = ["add_paint"]


def add_paint(pipes: Pipelines) -> None:
    """Add the endpoint to the page that is being built; its components are not rendered."""
    pipe = pipes.first
    caption = gr.Textbox("", label="Caption", visible=False)
    count = gr.Number(DEFAULT_COUNT, label=f"Images, 1 to {MAX_COUNT}", visible=False)
    seed = gr.Number(None, label="Seed of the first image; none to draw it", visible=False)
    truncation = gr.Number(None, label="Truncation, 0 to 2; none for the recommended one", visible=False)
    sizes = ", ".join(map(str, pipe.sizes))
    size = gr.Number(None, label=f"Side in pixels ({sizes}); none for the largest", visible=False)
    strength = gr.Number(0, label="Variation strength, 0 to 1", visible=False)
    variation_seed = gr.Number(0, label="Variation seed", visible=False)
    checkpoint = gr.Textbox(pipes.names[0], label=f"Checkpoint: {', '.join(pipes.names)}", visible=False)
    files = gr.File(label="Images", file_count="multiple", visible=False)
    details = gr.JSON(label="Settings", visible=False)

    def paint(
        caption: str,
        count: float = DEFAULT_COUNT,
        seed: float | None = None,  # with the default None, clients may leave an argument out
        truncation: float | None = None,
        size: float | None = None,
        strength: float = 0,
        variation_seed: float = 0,
        checkpoint: str = "",
    ) -> tuple[list[str], dict[str, Any]]:
        """Generate images of a caption as PNG files, which hold their settings.

        Args:
            caption: what the images show.
            count: number of images.
            seed: of the first image, the others have the following ones; drawn if missing.
            truncation: variety, from 0 to 2; the checkpoint's recommended value if missing.
            size: side in pixels, one of the checkpoint's stages; the largest if missing.
            strength: above 0, the images are variations of one image, moved by this much towards other seeds.
            variation_seed: the first of these seeds.
            checkpoint: name of the checkpoint.

        Returns:
            The files, and the settings with seeds, warnings about the caption, and the query of a link to the images.
        """
        return _painted(
            pipes, caption, count, seed, truncation, size, strength, variation_seed, checkpoint or pipes.names[0]
        )

    inputs = [caption, count, seed, truncation, size, strength, variation_seed, checkpoint]
    endpoint("paint", paint, inputs, [files, details], **CONCURRENT)


def _painted(
    pipes: Pipelines,
    caption: str,
    count: float | None,
    seed: float | None,
    truncation: float | None,
    size: float | None,
    strength: float | None,
    variation_seed: float | None,
    checkpoint: str,
) -> tuple[list[str], dict[str, Any]]:
    pipe = pipes[checkpoint]
    request = ImageRequest(
        caption,
        count,
        drawn_seed() if seed is None else seed,
        pipe.truncation if truncation is None else truncation,
        pipe.sizes[-1] if size is None else int(size),
        strength,
        variation_seed,
    )
    result = painting.generate(pipe, request)
    files = []
    for image in result.images:
        content = painting.png_bytes(image, 0, result.truncation, result.checkpoint)
        files.append(served_file(f"{image.name}.png", content))
    return files, {
        "caption": result.images[0].caption,
        "seeds": [image.seed for image in result.images],
        "truncation": result.truncation,
        "checkpoint": pipe.name,
        "fingerprint": pipe.fingerprint,
        "warnings": result.warnings,
        "query": result.query,
    }
