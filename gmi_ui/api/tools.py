"""What tools for MCP answer: pictures that an assistant can see, then the report."""

import json
from pathlib import Path
from typing import Any

MOST_SHOWN = 6_000_000  # bytes of the pictures that are sent along; of more their addresses alone


def show_pictures(server: Any) -> None:
    """Has gradio's server for MCP send pictures as such: those in a list it would only name."""
    usual = server.postprocess_output_data

    def shown(data: Any, root_url: str) -> Any:
        return usual(parts_of(data), root_url)

    server.postprocess_output_data = shown


def parts_of(data: Any) -> list[Any]:
    """Every picture and the report by themselves. data: both, or as gradio has it at times, a list with both in it."""
    files, report = data if len(data) == 2 else data[0]
    size = sum(Path(file["path"]).stat().st_size for file in files)
    pictures = files if size <= MOST_SHOWN else [file["url"] for file in files]
    return [*pictures, json.dumps(report)]
