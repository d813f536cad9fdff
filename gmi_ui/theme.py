"""The studio's look in gradio's terms: system fonts only, colours from the variables of studio.css."""

import gradio as gr

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def studio_theme() -> gr.themes.Base:
    """No font is fetched from anywhere. Light and dark differ only in the variables of studio.css."""
    theme = gr.themes.Base(font=SANS, font_mono=MONO, radius_size="md", spacing_size="sm", text_size="md")
    both = {
        "body_background_fill": "var(--studio-page)",
        "body_text_color": "var(--studio-ink)",
        "body_text_color_subdued": "var(--studio-soft)",
        "background_fill_primary": "var(--studio-card)",
        "background_fill_secondary": "var(--studio-sunken)",
        "border_color_primary": "var(--studio-line)",
        "border_color_accent": "var(--studio-accent)",
        "block_background_fill": "var(--studio-card)",
        "block_border_color": "var(--studio-line)",
        "block_label_text_color": "var(--studio-soft)",
        "block_title_text_color": "var(--studio-ink)",
        "block_info_text_color": "var(--studio-soft)",
        "input_background_fill": "var(--studio-sunken)",
        "input_background_fill_focus": "var(--studio-card)",
        "input_border_color": "var(--studio-line)",
        "input_border_color_focus": "var(--studio-accent)",
        "input_placeholder_color": "var(--studio-soft)",
        "slider_color": "var(--studio-accent)",
        "checkbox_background_color": "var(--studio-sunken)",
        "checkbox_background_color_selected": "var(--studio-accent)",
        "checkbox_border_color": "var(--studio-edge)",
        "checkbox_border_color_selected": "var(--studio-accent)",
        "checkbox_label_background_fill": "transparent",
        "checkbox_label_background_fill_selected": "transparent",
        "checkbox_label_text_color": "var(--studio-ink)",
        "checkbox_label_text_color_selected": "var(--studio-ink)",
        "button_secondary_background_fill": "var(--studio-card)",
        "button_secondary_background_fill_hover": "var(--studio-sunken)",
        "button_secondary_border_color": "var(--studio-line)",
        "button_secondary_text_color": "var(--studio-ink)",
        "accordion_text_color": "var(--studio-ink)",
        "panel_background_fill": "transparent",
    }
    dark = {f"{name}_dark": value for name, value in both.items()}
    one = {
        "color_accent": "var(--studio-accent)",
        "block_shadow": "none",
        "block_title_text_weight": "550",
        "block_label_text_weight": "550",
        "block_info_text_size": "*text_xs",
        "block_title_text_size": "*text_sm",
        "checkbox_label_border_width": "0",
        "checkbox_label_padding": "0",
        "input_shadow": "none",
        "input_shadow_focus": "none",
    }
    return theme.set(**both, **known(dark), **one)


def known(values: dict[str, str]) -> dict[str, str]:
    """Those that gradio has: not every variable has a dark twin."""
    import inspect

    names = inspect.signature(gr.themes.Base.set).parameters
    return {name: value for name, value in values.items() if name in names}
