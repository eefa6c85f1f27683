"""What the latent modules make of a caption: plots of q(c | e), pictures of its codes, place among the captions."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from stackgan.app import charts
from stackgan.app.components import CONCURRENT, GENERATION, html, html_text, reporting_errors
from stackgan.app.data_urls import jpeg_url
from stackgan.app.image_request import DEFAULT_SEED
from stackgan.app.understanding import (
    CodeNumbers,
    Domain,
    Picture,
    Pictures,
    code_numbers,
    domain,
    pictures,
    usable_caption,
)
from stackgan.config import Config
from stackgan.pipeline import StackGANPipeline

__all__ = ["analysis", "available", "build", "numbers_html", "pictures_html"]

NEAREST = 5  # example captions listed
WAITING = '<p class="hint">Pictures of this caption appear once it has changed or Analyse is pressed.</p>'


def available(config: Config) -> bool:
    return config.text.conditional


def build(pipe: StackGANPipeline) -> None:
    example = pipe.examples[0] if pipe.examples else ""
    with gr.Row(elem_classes="pair", equal_height=False):
        with gr.Column():
            caption = gr.Textbox(example, label="Caption to analyse", elem_id="understand-caption", max_lines=4)
            seed = gr.Number(DEFAULT_SEED, label="Seed of z", precision=0, elem_id="understand-seed")
            button = gr.Button("Analyse", variant="primary", elem_id="understand")
        with gr.Column():
            first = numbers_html(code_numbers(pipe, example), domain(pipe, example)) if example else ""
            numbers = html(first, elem_id="understand-numbers", elem_classes="understand")
            shown = html(WAITING, elem_id="understand-pictures", elem_classes="understand")

    def on_change(caption: str, seed: float | None) -> Iterator[Any]:
        """The numbers first, then the pictures."""
        yield gr.skip(), gr.skip()  # Gradio takes a generator without values for one that failed
        if not caption.strip():
            return
        found = reporting_errors(lambda: numbers_html(code_numbers(pipe, caption), domain(pipe, caption)), None)
        if found is None:
            return
        yield found, gr.skip()
        yield gr.skip(), reporting_errors(lambda: pictures_html(pictures(pipe, caption, seed)), gr.skip())

    def on_request(caption: str) -> dict[str, Any]:
        try:
            return analysis(pipe, caption)
        except ValueError as error:
            raise gr.Error(str(error)) from None

    gr.on(
        [caption.input, seed.input, button.click, caption.submit],
        on_change,
        [caption, seed],
        [numbers, shown],
        trigger_mode="always_last",
        api_visibility="private",
        show_progress="hidden",
        **GENERATION,
    )
    gr.api(on_request, api_name="understand", **CONCURRENT)


def analysis(pipe: StackGANPipeline, caption: str) -> dict[str, Any]:
    """The numbers of a caption as a JSON object, KL and densities in nats.

    Raises:
        ValueError: the caption is empty or too long.
    """
    text = usable_caption(caption)
    code, place = code_numbers(pipe, text), domain(pipe, text)
    return {
        "caption": text,
        "mu": code.mu,
        "sigma": code.sigma,
        "kl": code.kl,
        "kl_total": code.total,
        "score": place.score,
        "threshold": place.threshold,
        "in_domain": place.inside,
        "words": dict(place.words),
        "log_prob": place.log_prob,
        "log_prob_quantile": place.share,
        "nearest_examples": [{"caption": other, "cosine": likeness} for other, likeness in place.nearest],
    }


def numbers_html(code: CodeNumbers, place: Domain) -> str:
    """Plots and tables of a caption's numbers."""
    return _code_html(code) + _domain_html(place)


def _code_html(code: CodeNumbers) -> str:
    size, order = len(code.kl), code.order
    largest = order[0]
    curve = charts.bars(
        [code.kl[dim] for dim in order],
        "kl-plot",
        "KL by dimension",
        f"Bars sorted from {code.kl[largest]:.3f} nats in dimension {largest} to {code.kl[order[-1]]:.3f} nats.",
    )
    spread = charts.intervals(
        code.mu,
        code.sigma,
        "code-plot",
        "Mean and standard deviation by dimension",
        f"Means from {min(code.mu):.2f} to {max(code.mu):.2f}, "
        f"standard deviations from {min(code.sigma):.2f} to {max(code.sigma):.2f}, in {size} dimensions.",
    )
    rows = [[str(d), f"{code.mu[d]:.3f}", f"{code.sigma[d]:.3f}", f"{code.kl[d]:.4f}"] for d in order]
    return (
        "<section><h3>Conditioning augmentation</h3>"
        f'<p class="figure"><strong>{code.total:.2f} nats</strong> KL(N(μ, σ²) ‖ N(0, I)) of {size} dimensions; '
        f"half of it is in {code.for_half} of them.</p>"
        f"<h4>KL by dimension, sorted (nats)</h4>{curve}"
        f"<h4>μ ± σ by dimension</h4>{spread}"
        '<p class="hint">The shaded band is ±1, the standard deviation of N(0, I).</p>'
        f"<details><summary>Table of the numbers</summary>{_table(('Dimension', 'μ', 'σ', 'KL'), rows)}</details>"
        "</section>"
    )


def _domain_html(place: Domain) -> str:
    parts = ["<section><h3>Among the training captions</h3>"]
    if place.score is None or place.threshold is None:
        why = "The caption has no words" if place.captions else "This checkpoint has no word statistics"
        parts.append(f"<p>{why}: its distance from the training captions is not measured.</p>")
    else:
        verdict = "In the domain" if place.inside else "Out of the domain"
        sign = "≥" if place.inside else "<"
        parts.append(
            f'<p class="figure"><strong>{verdict}</strong> mean log document frequency of its words '
            f"{place.score:.2f} {sign.replace('<', '&lt;')} {place.threshold:.2f}, "
            "the least for a caption of its length.</p>"
        )
        rows = [[html_text(word), f"{count:,}"] for word, count in place.words]
        table = _table(("Word", f"Training captions of {place.captions:,}"), rows)
        parts.append(f"<details><summary>Words of the caption</summary>{table}</details>")
    parts.append(f"<p>{_density(place)}</p>")
    if place.nearest:
        rows = [[html_text(other), f"{likeness:.2f}"] for other, likeness in place.nearest[:NEAREST]]
        parts.append(
            "<h4>Nearest example captions</h4><p class='hint'>Checkpoints do not store their training captions; "
            "these are the example captions of this one, by cosine similarity of the embeddings.</p>"
            + _table(("Example caption", "Cosine"), rows)
        )
    return "".join(parts) + "</section>"


def _density(place: Domain) -> str:
    text = f"log p(c) = {place.log_prob:.1f} nats"
    if place.share is None:
        return f"{text} under N(0, I): this checkpoint has no flow p(c), so there is no quantile."
    return (
        f"{text}; {place.share:.0%} of the training captions have at most this density. It falls with the distance "
        "from whole training captions, so short captions have a low one, too."
    )


def pictures_html(found: Pictures) -> str:
    """Three rows of pictures."""
    return (
        _row("Codes c ~ q(c | e), one z", "Every picture has the same noise of z.", found.samples)
        + _row("Truncation of c", "The noise of code 1, multiplied by the truncation.", found.levels)
        + _row("Latent modules switched off", "The same caption and seed, with parts replaced.", found.modules)
    )


def _row(title: str, hint: str, row: Sequence[Picture]) -> str:
    cells = "".join(
        f'<li><img src="{jpeg_url(picture.image)}" alt="{title}: {picture.label}"><span>{picture.label}'
        + (f"<small>‖c − μ‖ = {picture.distance:.2f}</small>" if picture.distance is not None else "")
        + "</span></li>"
        for picture in row
    )
    return f'<section><h3>{title}</h3><p class="hint">{hint}</p><ul class="pictures">{cells}</ul></section>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="numbers"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
