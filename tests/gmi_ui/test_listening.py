"""Where the studio listens, and that no proxy of the environment keeps it from starting."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gmi_ui import command_line, listening
from gmi_ui.listening import OptionsError, Place, free_place, without_proxies

ROOT = Path(__file__).resolve().parents[2]
PROXIES = {
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "nonsense://x",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "NO_PROXY": "fe80::/10",
}


@contextmanager
def taken_port(host: str = "127.0.0.1") -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as other:
        other.bind((host, 0))
        other.listen()
        yield other.getsockname()[1]


def has_ipv6() -> bool:
    try:
        with taken_port("::1"):
            return True
    except OSError:
        return False


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "http://127.0.0.1:{}/"), ("localhost", "http://localhost:{}/"), ("0.0.0.0", "http://localhost:{}/"),
     ("::1", "http://[::1]:{}/"), ("[::1]", "http://[::1]:{}/"), ("::", "http://[::1]:{}/")],
)  # fmt: skip
def test_every_way_to_write_this_machine_gives_an_address_to_open(host: str, address: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    place = free_place(host, None)
    assert place.address == address.format(place.port)
    assert place.host.startswith("[") == (":" in host)  # as gradio writes it


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_taken_port_is_said_in_one_sentence_that_names_the_option(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with taken_port(host) as port:
        with pytest.raises(OptionsError) as told:
            free_place(host, port)
        assert str(port) in str(told.value) and f"--port {port + 1}" in str(told.value)
        assert "GRADIO" not in str(told.value)


def test_without_a_port_the_first_free_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with taken_port() as port:
        monkeypatch.setattr(listening, "FIRST_PORT", port)
        monkeypatch.setattr(listening, "PORTS", 1)
        with pytest.raises(OptionsError, match=f"all ports from {port} to {port} are taken"):
            free_place("127.0.0.1", None)
        monkeypatch.setattr(listening, "PORTS", 20)
        assert free_place("127.0.0.1", None).port > port


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a b", "ü" * 70, "2001:db8::1"])
def test_a_host_that_is_not_this_machine_is_said(host: str) -> None:
    with pytest.raises(OptionsError, match=r"--host: .* is no address of this machine.* 127\.0\.0\.1.*--port"):
        free_place(host, None)


def test_a_port_that_this_user_may_not_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listening, "_can_bind", refuse)
    with pytest.raises(OptionsError, match="above 1023"):
        free_place("127.0.0.1", 80)


def test_the_command_says_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with taken_port() as port:
        monkeypatch.setattr("sys.argv", ["app.py", "--no-browser", "--port", str(port)])
        assert command_line.main() == 2
    assert capsys.readouterr().err.startswith("app.py: error: --port: ")


def test_no_proxy_stops_the_start() -> None:
    """Importing gradio makes one client, starting asks the server once: both fail for each of these proxies."""
    code = """
import os
from gmi_ui.models.models import Loaders, Models
from gmi_ui.studio import LaunchOptions, serve
def none(name): raise ValueError(name)
server = serve(Models(Loaders(generator=none, prompt_model=none, rows=list)), LaunchOptions(browser=False))
print(server.address, flush=True)
os._exit(0)
"""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**clean, **PROXIES}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0 and ended.stdout.startswith("http://127.0.0.1:"), ended.stderr[-500:]


def test_proxies_are_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"http_proxy": "http://proxy:1", "ALL_PROXY": "socks5://x:1", "NO_PROXY": "a.example"}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with without_proxies("[::1]"):
        assert not [name for name in os.environ if name.lower().endswith("_proxy")]
    assert dict(os.environ) == before
    with without_proxies("[::1]", besides_others=True):  # a tunnel is asked for through the proxy that can be used
        assert os.environ["http_proxy"] == "http://proxy:1" and "ALL_PROXY" not in os.environ
        assert os.environ["NO_PROXY"].split(",") == ["127.0.0.1", "::1", "localhost", "::1"]
    assert dict(os.environ) == before


@pytest.mark.parametrize("path", ["/studio", "/tools/studio/", "https://example.org/studio", ""])
def test_a_path_of_a_proxy_arrives(path: str) -> None:
    assert command_line.parse(["--root-path", path]).root_path == path.rstrip("/")


@pytest.mark.parametrize("path", ["studio", "/a b", "ftp://example.org/x", "//x", "/a?b", "/a#b"])
def test_what_is_no_path_is_refused(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.parse(["--root-path", path])
    assert "/studio" in capsys.readouterr().err


def test_a_place_names_itself_for_a_browser() -> None:
    assert Place("192.0.2.7", 80).address == "http://192.0.2.7:80/"
