"""A saved picture back to the settings that made it, and to the picture it was made from."""

import base64
import binascii
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import MetadataError
from engine.settings import (
    EditSettings,
    GenerateSettings,
    InpaintSettings,
    RunSettings,
    TranslateSettings,
    settings_from_dict,
)
from gmi_ui.models.models import Models
from gmi_ui.notices import Notice
from gmi_ui.runs.steering import repels

CANNOT_BE_DRAWN = " What the edit began at cannot be drawn by this version, so the saved picture itself was opened."


@dataclass(frozen=True)
class Restored:
    """What a PNG holds: settings, what to say about them, and what its task needs besides."""

    settings: RunSettings
    notice: Notice
    extra: dict[str, Any]
    made_by: str | None = None  # the hash of the generator that made it

    @property
    def text(self) -> str:
        """What the picture was called that the run began at."""
        text = self.extra.get("text")
        return text[:200] if isinstance(text, str) else "Restored"

    @property
    def parent(self) -> str:
        """The sha256 of the saved picture that it was made from; "" where it was made from none."""
        from engine.pictures import png_files

        return png_files.parent_of(self.extra)

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
    settings = settings_from_dict(metadata["settings"])
    settings = without_equal_side(settings, fills_holes=models.family(settings.model).fills_holes)
    notice = _notice(metadata, settings, models)
    for told in filter(None, (png_files.left_out_of(metadata), _other_threads(metadata))):
        notice = Notice(f"{notice.text} {told}", "warning")
    extra = {name: value for name, value in metadata.get("extra", {}).items() if name != png_files.THREADS}
    return Restored(settings, notice, extra, metadata["models"].get(settings.model))


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


def without_equal_side(settings: RunSettings, *, fills_holes: bool = False) -> RunSettings:
    """The same alone, where what would run beside it is the same once more: a picture of the baseline was saved.

    fills_holes: of the model's family; the baseline of an inpainting is then the model alone.
    """
    if not settings.is_compared or settings.other is not None:
        return settings
    chosen: Any = settings
    has_method = isinstance(settings, EditSettings | TranslateSettings)
    beside = chosen.baseline if has_method else "no repulsion"
    is_beside_model = isinstance(settings, InpaintSettings) and fills_holes
    if is_beside_model or (isinstance(settings, GenerateSettings) and not settings.prompt):
        is_equal = settings.flow.until == 0
    else:
        is_equal = not repels(settings.flow) if beside == "no repulsion" else chosen.method == beside
    return replace(chosen, baseline="none" if has_method else False) if is_equal else settings


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
        opened = "" if settings.model not in different or not isinstance(settings, EditSettings) else CANNOT_BE_DRAWN
        return Notice(
            f"Settings restored from {place}. It was made with another version of {', '.join(different)}: "
            f"the same settings will give other pictures.{opened}",
            "warning",
        )
    if settings.flow.until is not None:
        return Notice(
            f"Settings restored from {place}, which is step {settings.flow.until} of {settings.flow.steps}. Run "
            "makes it again and stops there; change any control, and the run goes to its end."
        )
    return Notice(f"Settings restored from {place}. Press Run to make it again.")
