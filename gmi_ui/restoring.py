"""A saved picture back to the settings that made it."""

from pathlib import Path

from engine.settings import GenerateSettings
from gmi_ui.models import Models
from gmi_ui.notices import Notice


def settings_of(path: str | Path, models: Models) -> tuple[GenerateSettings, Notice]:
    """The settings inside a PNG, and what to say about them.

    Raises engine.imaging.MetadataError or SettingsError for a file that carries none, or that was forged.
    """
    from engine import imaging

    metadata = imaging.read_metadata(Path(path))
    settings = GenerateSettings.from_dict(metadata["settings"])
    place = f"picture {metadata['index'] + 1} of {len(metadata['seeds'])}"
    different = sorted(
        name for name, sha256 in metadata["models"].items() if models.hash_of(name) not in (None, sha256)
    )
    if different:
        return settings, Notice(
            f"Settings restored from {place}. It was made with another version of {', '.join(different)}: "
            "the same settings will give other pictures.",
            "warning",
        )
    return settings, Notice(f"Settings restored from {place}. Press Run to make it again.")
