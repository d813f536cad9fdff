"""The studio: a page in the browser that drives the engine. The engine knows nothing of it."""

import os

# Nothing is asked of the network. Gradio and the hub read these when they are imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from gmi_ui.listening import without_proxies

with without_proxies():  # gradio makes a client when it is imported, which fails for some proxies
    import gradio  # noqa: F401
