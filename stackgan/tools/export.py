"""Export of a checkpoint as ONNX files that generate images without PyTorch, checked against the pipeline."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stackgan.captions.lexicon import BASIC_COLOURS
from stackgan.images.pixels import LEVELS_PER_UNIT
from stackgan.io.files import atomic_folder
from stackgan.networks.onnx_generator import generator_graph
from stackgan.networks.onnx_graph import OPSET, PRECISIONS, OnnxModel
from stackgan.pipeline import StackGANPipeline
from stackgan.runtime.engines import Session, onnx_session
from stackgan.text.compact import CompactEncoder
from stackgan.text.pretrained import TransformersEncoder
from stackgan.tools import onnx_example
from stackgan.tools.onnx_parts import latent_graph, text_free_graph, text_graph
from stackgan.tools.web_page import EXAMPLES, check_packages, write_page
from stackgan.version import __version__

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ExportError", "export"]

GENERATOR, LATENT, TEXT, TEXT_FREE = "generator.onnx", "latent.onnx", "text.onnx", "text_free.onnx"
CHECKED, BATCH = 100, 4  # captions compared with the pipeline; at a time
LEAST_NOISE = 16  # numbers below which torch.randn draws in another way, which the example does not have


LARGEST = 1e-3  # permitted difference from PyTorch's images in fp32, at any place, of [−1, 1]
MEAN = 1.5  # permitted mean difference in the other precisions, in levels of 255


@dataclass(frozen=True)
class ExportError:
    """Difference of exported from the pipeline's images over all stages.

    Attributes:
        largest: absolute difference at any place, in [−1, 1].
        mean: absolute difference in levels of 255.
        images: compared.
    """

    largest: float
    mean: float
    images: int

    def __str__(self) -> str:
        return (
            f"{self.images} images differ from PyTorch's by {self.mean:.2g} of 255 levels on average, "
            f"{self.largest:.2g} of the range from -1 to 1 at most"
        )


def export(
    checkpoint: str | Path, out: Path, *, precision: str = "fp32", page: str | Path | None = None
) -> ExportError:
    """Write a checkpoint as ONNX files with a tokenizer, an example and a README to ``out``.

    ``text.onnx`` (token ids -> embedding), ``latent.onnx`` (embedding, noise, truncation -> z, c), ``text_free.onnx``
    (noise, truncation -> z, c) and ``generator.onnx`` (z, c -> images). The batch is dynamic.

    Args:
        precision: of the generator's weights, see :class:`~stackgan.networks.onnx_graph.OnnxGraph`; the other files
            are float32.
        page: npm's folder ``node_modules`` with the packages of :mod:`stackgan.tools.web_page`, to write a static
            page that generates in the browser as well; None for no page.

    Returns:
        The difference from PyTorch's images over 100 captions.

    Raises:
        FileNotFoundError: no such checkpoint, or ``page`` lacks a package.
        FileExistsError: ``out`` exists and is not an export.
        ValueError: an unknown precision, a missing package, a part that ONNX does not support, or images
            that differ from PyTorch's by more than the precision permits; a page for a checkpoint that takes
            embeddings.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown: it must be {', '.join(PRECISIONS)}")
    if out.exists() and not (out / GENERATOR).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: exists and is not an export, so it is not replaced; name another folder")
    packages = {} if page is None else check_packages(Path(page))
    pipe = StackGANPipeline.from_pretrained(checkpoint, device="cpu")
    if page is not None and pipe.conditional and pipe.text_encoder is None:
        raise ValueError(f"{checkpoint}: has no text encoder for the captions of a page: export without --page")
    facts = _metadata(pipe, precision)
    if int(facts["z"]) + int(facts["c"]) < LEAST_NOISE:
        raise ValueError(
            f"{checkpoint}: latent.dim and text.code_dim add up to less than {LEAST_NOISE}: not exported"
        )
    with atomic_folder(out) as partial:
        _save(generator_graph(pipe.model.generator, precision=precision, metadata=facts), partial / GENERATOR)
        _save(latent_graph(pipe.model, facts), partial / LATENT)
        if pipe.conditional:
            _save(text_free_graph(pipe.model, facts), partial / TEXT_FREE)
        if pipe.text_encoder is not None:
            _save(text_graph(pipe.text_encoder, facts), partial / TEXT)
            _tokenizer(pipe.text_encoder).save(str(partial / "tokenizer.json"), pretty=False)
        shutil.copyfile(Path(onnx_example.__file__), partial / "example.py")
        if page is not None:
            write_page(partial, Path(page), _page_facts(pipe))
        error = _compare(pipe, partial)
        if not (error.largest <= LARGEST if precision == "fp32" else error.mean <= MEAN):  # also NaN
            limit = f"{LARGEST} of the range" if precision == "fp32" else f"{MEAN} levels on average"
            raise ValueError(f"{checkpoint}: not exported in {precision}, which permits {limit}: {error}")
        (partial / "README.md").write_text(_readme(pipe, facts, error, packages), "utf-8")
    return error


def _save(model: OnnxModel, file: Path) -> None:
    file.write_bytes(model.SerializeToString())


def _metadata(pipe: StackGANPipeline, precision: str) -> dict[str, str]:
    return {
        "stackgan": __version__,
        "fingerprint": pipe.fingerprint,
        "sizes": " ".join(map(str, pipe.sizes)),
        "embedding": str(pipe.config.text.dim if pipe.conditional else 0),
        "z": str(pipe.config.latent.dim),
        "c": str(pipe.model.code_dim),
        "truncation": str(pipe.truncation),
        "precision": precision,
    }


def _page_facts(pipe: StackGANPipeline) -> dict[str, Any]:
    return {
        "name": pipe.name,
        "fingerprint": pipe.fingerprint,
        "sizes": list(pipe.sizes),
        "z": pipe.config.latent.dim,
        "c": pipe.model.code_dim,
        "truncation": pipe.truncation,
        "text": pipe.conditional,
        "examples": list(pipe.examples[:EXAMPLES]) if pipe.conditional else [],
    }


def _tokenizer(encoder: Any) -> Tokenizer:
    """A copy of the encoder's tokenizer that truncates, and pads the captions of a batch."""
    from tokenizers import Tokenizer

    own = encoder.tokenizer if isinstance(encoder, CompactEncoder) else encoder.tokenizer.backend_tokenizer
    tokenizer = Tokenizer.from_str(own.to_str())
    tokenizer.enable_truncation(encoder.max_tokens)
    if isinstance(encoder, TransformersEncoder):
        pad, token = encoder.tokenizer.pad_token_id or 0, encoder.tokenizer.pad_token or ""
    else:
        pad, token = encoder.config["pad_token_id"], own.id_to_token(encoder.config["pad_token_id"])
    tokenizer.enable_padding(pad_id=pad, pad_token=token)
    return tokenizer


# --- comparison with the pipeline ------------------------------------------------------------------------------


@torch.inference_mode()
def _compare(pipe: StackGANPipeline, folder: Path) -> ExportError:
    latent, generator = (onnx_session(folder / name, torch.get_num_threads()) for name in (LATENT, GENERATOR))
    largest, total, values = 0.0, 0.0, 0
    for seeds, embeddings, embedding in _embeddings(pipe, folder):
        wanted = pipe.generate(embeddings, seeds)
        z, c = (noise.numpy() for noise in pipe.noise(seeds))
        latents = latent(_feed(embedding, z, c))
        found = generator(latents)
        for size, images in zip(pipe.sizes, wanted, strict=True):
            difference = np.abs(found[f"image_{size}"].astype(np.float64) - images.numpy())
            largest = float(np.maximum(largest, difference.max()))  # NaN stays
            total, values = total + float(difference.sum()), values + difference.size
    return ExportError(largest, LEVELS_PER_UNIT * total / values, CHECKED)


def _feed(embedding: Any, z: Any, c: Any) -> dict[str, Any]:
    feed = {"noise_z": z, "noise_c": c, "truncation": np.array(1, np.float32)}
    return feed if embedding is None else feed | {"embedding": embedding}


def _embeddings(pipe: StackGANPipeline, folder: Path) -> Iterator[tuple[list[int], Tensor | None, Any]]:
    """Batches of seeds, PyTorch's embeddings, and those of the exported files; None without text."""
    text: Session | None = onnx_session(folder / TEXT, torch.get_num_threads()) if (folder / TEXT).is_file() else None
    captions = _captions(pipe)
    tokenizer = _tokenizer(pipe.text_encoder) if text else None
    for start in range(0, CHECKED, BATCH):
        seeds = list(range(start, start + BATCH))
        if not pipe.conditional:
            yield seeds, None, None
        elif text is None or tokenizer is None:  # embeddings are stored: any have to do
            numbers = torch.randn(BATCH, pipe.config.text.dim, generator=torch.Generator().manual_seed(start))
            e = pipe.model.standardise.mean + numbers * pipe.model.standardise.scale
            yield seeds, e, e.numpy()
        else:
            batch = captions[start : start + BATCH]
            rows = tokenizer.encode_batch(batch)
            ids, mask = np.array([row.ids for row in rows]), np.array([row.attention_mask for row in rows])
            yield seeds, pipe.encode(batch), text({"ids": ids, "mask": mask})["embedding"]


def _captions(pipe: StackGANPipeline) -> list[str]:
    """The checkpoint's examples, then others of several lengths."""
    pairs = itertools.product(BASIC_COLOURS, BASIC_COLOURS)
    others = [f"a {a} bird with a {b} head and {b} wings"[: 12 + i % 30] for i, (a, b) in enumerate(pairs)]
    return [*pipe.examples, *others][:CHECKED]


# --- README ----------------------------------------------------------------------------------------------------


def _readme(pipe: StackGANPipeline, facts: Mapping[str, str], error: ExportError, packages: Mapping[str, str]) -> str:
    images = ", ".join(f"`image_{size}` (batch, 3, {size}, {size})" for size in pipe.sizes)
    z, c = f"(batch, {facts['z']})", f"(batch, {facts['c']})"
    latents, noise = (f"`z` {z}", f"`noise_z` {z}")
    if pipe.conditional:
        latents, noise = f"{latents}, `c` {c}", f"{noise}, `noise_c` {c}"
    rows = [(GENERATOR, latents, f"{images}, in [−1, 1]")]
    e = f"`embedding` (batch, {facts['embedding']})"
    if pipe.conditional:
        rows = [(LATENT, f"{e}, {noise}, `truncation` ()", latents), *rows]
        rows.append((TEXT_FREE, f"{noise}, `truncation` ()", f"{latents}, without a caption"))
    else:
        rows = [(LATENT, f"{noise}, `truncation` ()", latents), *rows]
    if pipe.text_encoder is not None:
        rows = [(TEXT, "`ids`, `mask` (batch, tokens) int64, from `tokenizer.json`", e), *rows]
    table = "\n".join(f"| `{name}` | {given} | {gives} |" for name, given, gives in rows)
    given = '"a small red bird with black wings"' if pipe.text_encoder is not None else "embedding.npy"
    return _README.format(
        table=table,
        given=given if pipe.conditional else '""',
        opset=OPSET,
        error=error,
        weights=PRECISIONS[facts["precision"]],
        page=_PAGE.format(packages=", ".join(f"{name} {version}" for name, version in packages.items()))
        if packages
        else "",
        facts="\n".join(f"| `{name}` | {value} |" for name, value in facts.items()),
    )


_README = """# A StackGAN++ checkpoint as ONNX files

Written by `stackgan export`. Images without PyTorch, on the packages onnxruntime, tokenizers, numpy and pillow:

```sh
python example.py {given} --seed 0 --out image.png
```

| file | inputs | outputs |
|---|---|---|
{table}

Opset {opset}; the batch is dynamic; inputs and outputs are float32 unless named otherwise. The generator's weights
are {weights}. Checked when it was written: {error}.

- Noise is N(0, I), `truncation` scales it: 1 is the distribution of the model, 0 its mean. `example.py` draws the
  noise of a seed as PyTorch does, so that a seed gives the same image as `stackgan generate` with this checkpoint.
- Levels of 255 are round((x + 1) · 127.5), clipped to 0 … 255.
- Every file has these facts in its metadata:

| | |
|---|---|
{facts}
{page}"""
_PAGE = """
## The page

`index.html` generates images in the browser and sends nothing. `vendor/` has what it runs on: {packages}.
Browsers do not run it from a file: it needs a server of static files, and any will do.

```sh
python -m http.server --bind 127.0.0.1
```

- To publish it, copy this folder to any host of static files; `example.py` and `text_free.onnx` are not needed.
- It computes by WebAssembly in one thread. With the response headers `Cross-Origin-Opener-Policy: same-origin` and
  `Cross-Origin-Embedder-Policy: require-corp`, browsers admit more: ONNX Runtime takes half of the cores, at most 4.
- A caption and a seed give the image of `stackgan generate` with this checkpoint, up to the difference above. With
  signs that are new in Unicode, or ideographs beyond U+20000, a caption can get other token ids.
"""
