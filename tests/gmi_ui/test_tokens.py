"""Tokens of the browser tabs: nobody but the studio makes one, and each is of one login."""

import os
from pathlib import Path

import pytest

from gmi_ui.tokens import KEY_FILE, Tokens, is_token


def test_a_token_is_of_one_login_and_one_studio() -> None:
    tokens = Tokens()
    token = tokens.issue("ann")
    assert is_token(token) and tokens.is_issued(token, "ann")
    assert not tokens.is_issued(token, "") and not tokens.is_issued(token, "bob")
    assert not Tokens().is_issued(token, "ann")
    assert len({tokens.issue() for _ in range(1000)}) == 1000


def test_every_letter_counts() -> None:
    tokens = Tokens()
    token = tokens.issue()
    changed = [token[:i] + ("0" if token[i] != "0" else "1") + token[i + 1 :] for i in range(32)]
    assert not any(tokens.is_issued(one) for one in changed)


def test_all_of_a_studio_and_login_begin_alike() -> None:
    """By which a page knows whether one that it kept still counts."""
    tokens = Tokens()
    assert tokens.issue("ann")[:6] == tokens.issue("ann")[:6] != tokens.issue("bob")[:6]


def test_the_key_is_kept_for_the_user_alone(tmp_path: Path) -> None:
    token = Tokens(tmp_path / "cache").issue()
    assert Tokens(tmp_path / "cache").is_issued(token)
    if os.name != "nt":
        assert (tmp_path / "cache" / KEY_FILE).stat().st_mode & 0o077 == 0
        (tmp_path / "cache" / KEY_FILE).chmod(0o644)
        assert not Tokens(tmp_path / "cache").is_issued(token)  # others may have read it


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_key_is_not_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    (tmp_path / KEY_FILE).chmod(0o600)
    assert not Tokens(tmp_path).is_issued(Tokens(tmp_path).issue())
