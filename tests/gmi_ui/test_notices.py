"""What a person reads when something goes wrong."""

import errno
import logging

import pytest

from engine.errors import ModelError, SaveError
from engine.settings import SettingsError
from gmi_ui.notices import Notice, NotPossibleError, explain


@pytest.mark.parametrize("error", [ModelError("no such file"), SaveError("not there"), SettingsError("n: 0")])
def test_the_engines_own_words_are_passed_on(error: Exception) -> None:
    assert explain(error).text == str(error) and explain(error).kind == "error"


def test_what_cannot_be_done_now_is_no_error() -> None:
    assert explain(NotPossibleError("wait")).kind == "warning"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried"),
        RuntimeError("can't allocate memory: you tried"),
    ],
)
def test_full_memory_says_what_to_do(error: Exception) -> None:
    assert "fewer pictures" in explain(error).text


def test_a_full_disk_names_the_place() -> None:
    notice = explain(OSError(errno.ENOSPC, "No space left on device", "/data/a.png"))
    assert "Free some space" in notice.text and "/data/a.png" in notice.text


def test_what_nobody_foresaw_is_named_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert "KeyError" in explain(KeyError("left")).text
    assert caplog.records[0].exc_info


def test_numbers_rise() -> None:
    assert Notice("a").number < Notice("a").number
