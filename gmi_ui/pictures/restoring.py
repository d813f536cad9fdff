"""A saved picture back to the settings that made it, and to the picture it was made from."""

import base64
import binascii
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import MetadataError
from engine.settings import EditSettings, RunSettings, settings_from_dict
from gmi_ui.models.models import Models
from gmi_ui.notices import Notice
from gmi_ui.runs.steering import repels


@dataclass(frozen=True)
class Restored:
    """What a PNG holds: settings, what to say about them, and what its task needs besides."""

    settings: RunSettings
    notice: Notice
    extra: dict[str, Any]

    @property
    def text(self) -> str:
        """What the picture was called that the run began at."""
        text = self.extra.get("text")
        return text[:200] if isinstance(text, str) else "Restored"

    @property
    def scale(self) -> int:
        """How many times as large the picture was saved as it was made."""
        scale = self.extra.get("scale", 1)
        return scale if type(scale) is int and 1 <= scale <= 8 else 1

    @property
    def mask(self) -> bytes | None:
        """The mask of an inpainting. Raises MetadataError for a forged one."""
        try:
            return base64.b64decode(self.extra["mask"], validate=True) if "mask" in self.extra else None
        except (TypeError, ValueError, binascii.Error) as error:
            raise MetadataError("The mask inside the picture is damaged.") from error


def restored(path: str | Path, models: Models) -> Restored:
    """What is inside a PNG that was saved here.

    Raises engine.errors.MetadataError or SettingsError for a file that carries nothing, or that was forged.
    """
    from engine.pictures import png_files

    metadata = png_files.read_metadata(Path(path))
    settings = without_equal_side(settings_from_dict(metadata["settings"]))
    notice = _notice(metadata, settings, models)
    for told in filter(None, (png_files.left_out_of(metadata), _other_threads(metadata))):
        notice = Notice(f"{notice.text} {told}", "warning")
    extra = {name: value for name, value in metadata.get("extra", {}).items() if name != png_files.THREADS}
    return Restored(settings, notice, extra)


def _other_threads(metadata: dict[str, Any]) -> str:
    """What is not exact where another number of threads computes."""
    from engine.pictures import png_files
    from engine.system.runtime import threads_in_use

    made, here = png_files.threads_of(metadata), threads_in_use()
    if made in (None, here):
        return ""
    return (
        f"It was computed by {made} thread{'s' if made != 1 else ''}, here {here} would: the pictures can differ by a "
        f"few levels. Start the studio with --threads {made} for the same ones."
    )


def without_equal_side(settings: RunSettings) -> RunSettings:
    """The same alone, where what would run beside it is the same once more: a picture of the baseline was saved."""
    if not settings.is_compared or settings.other is not None:
        return settings
    chosen: Any = settings
    is_edit = isinstance(settings, EditSettings)
    beside = chosen.baseline if is_edit else "no repulsion"
    is_equal = not repels(settings.flow) if beside == "no repulsion" else chosen.method == beside
    return replace(chosen, baseline="none" if is_edit else False) if is_equal else settings


def carries_settings(path: str | Path) -> bool:
    """Whether a file is a PNG that was saved here."""
    from engine.pictures import png_files

    try:
        png_files.read_metadata(Path(path))
    except MetadataError:
        return False
    return True


def _notice(metadata: dict[str, Any], settings: RunSettings, models: Models) -> Notice:
    place = f"picture {metadata['index'] + 1} of {len(metadata['seeds'])}"
    different = sorted(
        name for name, sha256 in metadata["models"].items() if models.hash_of(name) not in (None, sha256)
    )
    if different:
        return Notice(
            f"Settings restored from {place}. It was made with another version of {', '.join(different)}: "
            "the same settings will give other pictures.",
            "warning",
        )
    if settings.flow.until is not None:
        return Notice(
            f"Settings restored from {place}, which is step {settings.flow.until} of {settings.flow.steps}. Run "
            "makes it again and stops there; change any control, and the run goes to its end."
        )
    return Notice(f"Settings restored from {place}. Press Run to make it again.")
