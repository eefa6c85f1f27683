"""Colours and fonts of the page, light and dark."""

import gradio as gr

__all__ = ["theme"]

SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Teal on warm white, with system fonts only: none is downloaded."""
    base = gr.themes.Base(
        primary_hue="teal", neutral_hue="stone", radius_size="lg", font=list(SANS), font_mono=list(MONO)
    )
    return base.set(
        body_background_fill="#f7f4ee",
        body_background_fill_dark="#191715",
        body_text_color_subdued="#6b645a",
        body_text_color_subdued_dark="#b0a89c",
        link_text_color="#0f766e",
        link_text_color_dark="#5eead4",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_label_background_fill="transparent",
        block_shadow="none",
        input_background_fill="#ffffff",
        input_background_fill_dark="#24211e",
        input_border_width="1px",
        checkbox_border_radius="5px",
        slider_color="#0f766e",
        slider_color_dark="#0d9488",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_hover_dark="#115e59",
        button_primary_border_color="#0f766e",
        button_primary_border_color_dark="#0f766e",
        button_primary_border_color_hover="#115e59",
        button_primary_border_color_hover_dark="#115e59",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_border_color="*border_color_primary",
    )
