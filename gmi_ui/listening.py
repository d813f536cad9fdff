"""Where the studio listens: an address of this machine and a port that is free, or a sentence that says what is wrong.

gradio asks its own server once while it starts; a proxy of the environment must not come between the two.
"""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

FIRST_PORT, PORTS = 7860, 100  # tried in turn where none is chosen
LOOPBACK = ("127.0.0.1", "::1", "localhost")
EVERYWHERE = {"0.0.0.0": "localhost", "::": "[::1]"}  # by which name this machine itself reaches them
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy", "ws_proxy", "wss_proxy")


class OptionsError(ValueError):
    """Launch options that do not go together, or cannot be used here; the message says what to do."""


@dataclass(frozen=True)
class Place:
    """A host as gradio takes it, a port, and the address that a browser on this machine opens."""

    host: str
    port: int

    @property
    def address(self) -> str:
        name = EVERYWHERE.get(self.host.strip("[]"), self.host)
        return f"http://{name}:{self.port}/"


def free_place(host: str, port: int | None) -> Place:
    """Tries the address out. Raises OptionsError for a host that is not this machine's, or a port that is taken."""
    bare = host.removeprefix("[").removesuffix("]")
    ports: Sequence[int] = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]
    for number in ports:
        if _is_free(bare, number):
            return Place(f"[{bare}]" if ":" in bare else bare, number)
    if port is None:
        raise OptionsError(
            f"--port: all ports from {ports[0]} to {ports[-1]} are taken. End a studio that runs already, or choose "
            "another port, such as --port 8080."
        )
    raise OptionsError(
        f"--port: {port} is taken by another program, perhaps by a studio that runs already. Choose another, such as "
        f"--port {port + 1 if port < 65535 else port - 1}, or leave --port out to get the first free one."
    )


def _is_free(host: str, port: int) -> bool:
    """Whether nobody listens there. Raises OptionsError where nobody could."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # gradio looks for the port on the IPv4 loopback too, whatever the host is.
        return all(_can_bind(family, place) for family, _, _, _, place in found) and _can_bind(
            socket.AF_INET, ("127.0.0.1", port)
        )
    except (socket.gaierror, UnicodeError) as error:
        raise OptionsError(_no_such_host(host)) from error
    except PermissionError as error:
        raise OptionsError(
            f"--port: this user may not listen on {port}. Choose a port above 1023, such as --port {FIRST_PORT}."
        ) from error
    except OSError as error:
        raise OptionsError(_no_such_host(host)) from error


def _can_bind(family: int, place: tuple[object, ...]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name != "nt":  # there it would share a port that is taken
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _no_such_host(host: str) -> str:
    return (
        f"--host: {host!r} is no address of this machine. Use 127.0.0.1 for this machine alone, 0.0.0.0 for all who "
        "reach it, or one of its own addresses; give the port with --port."
    )


@contextmanager
def without_proxies(host: str = "", *, besides_others: bool = False) -> Iterator[None]:
    """While it is entered, no proxy of the environment stands between the studio and itself.

    Excluding the host does not suffice: a client that cannot use one of the proxies (SOCKS, a word that is none) fails
    before it asks whom it is for. besides_others: requests to elsewhere (--share) keep those that it can use.
    """
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.lower() in _PROXIES}
    kept = {name: value for name, value in hidden.items() if value.startswith(("http://", "https://"))}
    if besides_others:
        os.environ.update(kept, NO_PROXY=",".join((*LOOPBACK, host.strip("[]"))))
    try:
        yield
    finally:
        for name in (*kept, "NO_PROXY"):
            os.environ.pop(name, None)
        os.environ.update(hidden)
