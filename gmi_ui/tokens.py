"""The tokens by which a browser tab finds what is its own: made by the server for one login, and told from forged ones.

A token begins as all of this studio and login do, by which a page knows whether one that it kept still counts. Then
come a number drawn at random, and a mark that only this studio can make of both and the login's name. The studio's key
is kept, so that a page that is open while the studio starts anew goes on.
"""

import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

KEY_FILE = "studio.key"
_KEY_BYTES = 32
_BEGINNING, _HALF = 6, 16  # hexadecimal digits: of what all have in common, and of all before the mark
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Tokens:
    """folder: where the key is kept; without one it lasts as long as the program."""

    def __init__(self, folder: Path | None = None) -> None:
        self._key = (folder and _kept_key(folder)) or secrets.token_bytes(_KEY_BYTES)

    def issue(self, login: str = "") -> str:
        """A new token for a login; "" where none is asked for."""
        begins = self._mark("tokens", login)[:_BEGINNING]
        number = begins + secrets.token_hex((_HALF - _BEGINNING) // 2)
        return number + self._mark(number, login)

    def is_issued(self, token: object, login: str = "") -> bool:
        """Whether this studio made the token for that login."""
        if not is_token(token):
            return False
        text = str(token)
        return hmac.compare_digest(text[_HALF:], self._mark(text[:_HALF], login))

    def _mark(self, number: str, login: str) -> str:
        return hmac.new(self._key, f"{number} {login}".encode(), hashlib.sha256).hexdigest()[:_HALF]


def is_token(token: object) -> bool:
    """Whether `token` looks like one."""
    return isinstance(token, str) and _TOKEN.fullmatch(token) is not None


def _kept_key(folder: Path) -> bytes | None:
    """The key in a folder, made if it is not there; None where it can neither be read nor made."""
    path = folder / KEY_FILE
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
    try:
        is_private = os.name == "nt" or path.stat().st_mode & 0o077 == 0
        key = path.read_bytes()
    except OSError:
        return None
    return key if is_private and len(key) == _KEY_BYTES else None
