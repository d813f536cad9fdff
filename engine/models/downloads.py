"""Fetching a file: resumed where a connection broke, checked before it takes its name. Needs no torch.

Only https, except from this machine itself. Proxies are those of the environment (HTTPS_PROXY, NO_PROXY);
GMI_MODEL_MIRROR names a server that keeps the same files under `<mirror>/<host>/<path>`.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import json
import os
import random
import re
import shutil
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import ModelError
from engine.system.files import ABANDONED, beginning, delete_if_older, locked, replace, sha256_of, write_atomic

MIRROR_VARIABLE = "GMI_MODEL_MIRROR"
CHUNK = 1 << 18
MAX_REDIRECTS = 8
SPARE_BYTES = 64 << 20  # of the disk, left to others
DISK_EVERY = 16 << 20  # bytes after which the disk is looked at again: others write to it too
MOST_DIGITS = 15  # of a length
RESUMABLE = 30 * 86400.0  # seconds for which what has arrived is kept for another try
_REPORT_SECONDS = 0.2
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_PAGE_STARTS = (b"<!doctype", b"<html", b"<?xml")
_PART = re.compile(r"\..+\.[0-9a-f]{12}\.part")
_WAYS = "Is there a network, a proxy (HTTPS_PROXY)?"
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


class DownloadError(ModelError):
    """A file could not be fetched; the message says why and what to do."""


class Cancelled(DownloadError):
    """The download was stopped. What had arrived is kept for the next try."""


class _Broken(Exception):
    """A connection that may be tried again."""


# What another try may help against; other errors of the system are the disk's.
_MAY_PASS = (_Broken, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError, socket.gaierror)


@dataclass(frozen=True)
class Progress:
    """Bytes that have arrived and, where known, of how many; bytes a second lately; seconds left."""

    done: int
    total: int | None
    speed: float

    @property
    def seconds_left(self) -> float | None:
        if self.total is None or self.speed <= 0:
            return None
        return (self.total - self.done) / self.speed


@dataclass(frozen=True)
class Remote:
    """What a server says of a file before it is fetched: its bytes, its sha256, git's sha1 of it.

    None and empty where it does not say. Model hubs say one of the hashes of every file.
    """

    size: int | None = None
    sha256: str = ""
    git_sha1: str = ""

    def differs(self, path: Path, sha256: str) -> str:
        """In what a file with that sha256 is another one, in words; empty where it is the one. Raises OSError."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size:,} bytes, expected {self.size:,}"
        if self.sha256 and sha256 != self.sha256:
            return f"has the sha256 {sha256[:12]}…, expected {self.sha256[:12]}…"
        if self.git_sha1 and (found := git_sha1_of(path)) != self.git_sha1:
            return f"has git's sha1 {found[:12]}…, expected {self.git_sha1[:12]}…"
        return ""


@dataclass(frozen=True)
class Patience:
    """How long to wait: seconds without a byte, tries without progress, seconds before the second and at most."""

    stall: float = 30.0
    tries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 30.0


@dataclass
class _Part:
    """What has arrived so far, and what the server called it: kept beside the target until it is whole."""

    path: Path
    about: Path
    validator: str = ""
    total: int | None = None

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def restart(self) -> None:
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)
        self.validator, self.total = "", None

    def describe(self, validator: str, total: int | None, address: str) -> None:
        self.validator, self.total = validator, total
        write_atomic(self.about, json.dumps({"validator": validator, "total": total, "url": address}).encode())


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    sha256: str | None = None,
    remote: Remote | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    patience: Patience | None = None,
) -> str:
    """Fetches `url` into `target`, whole or not at all; returns the file's sha256.

    A broken connection is taken up where it ended, also by a later call. Raises DownloadError for a file that is too
    large, too long for the disk, a web page, or does not have the given sha256 or is not what `remote` says; Cancelled
    when `cancel` is set.
    """
    remote = remote or Remote(sha256=sha256 or "")
    address = mirrored(url)
    check_address(address)
    address = _sendable(address)
    patience = patience or Patience()
    cancel = cancel or threading.Event()
    try:
        with locked(_lock_of(target, url), lambda: _check_cancel(cancel)) as is_alone:
            if not is_alone and target.is_file():  # another studio fetched it meanwhile
                found = sha256_of(target)
                if not remote.differs(target, found):
                    return found
            return _fetch_alone(address, url, target, max_bytes, remote, on_progress, cancel, patience)
    except OSError as error:
        raise DownloadError(f"{target} cannot be written: {error.strerror or error}.") from error


def _lock_of(target: Path, url: str) -> Path:
    return target.with_name(f".{beginning(target.name)}.{_mark(url)}.lock")


def _mark(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:12]


def _fetch_alone(
    address: str,
    url: str,
    target: Path,
    max_bytes: int,
    remote: Remote,
    on_progress: Callable[[Progress], None] | None,
    cancel: threading.Event,
    patience: Patience,
) -> str:
    """As `download`, where nobody else fetches the file. Raises OSError too."""
    part = _open_part(target, url)
    _fetch(address, part, max_bytes, on_progress or (lambda _: None), cancel, patience)
    found = sha256_of(part.path)
    if difference := remote.differs(part.path, found):
        part.restart()
        raise DownloadError(
            f"{target.name} from {_host(address)} {difference}: it is damaged or was exchanged. It was deleted; try "
            "again, or take it from another place."
        )
    os.chmod(part.path, 0o644)
    replace(part.path, target)
    part.about.unlink(missing_ok=True)
    return found


def look_up(url: str, *, cancel: threading.Event | None = None, patience: Patience | None = None) -> Remote | None:
    """What the server says of a file, without fetching it; None where it has no such file.

    A hub tells length and hash beside its redirection to where the file lies: X-Linked-Size, X-Linked-ETag; of a small
    file its ETag is git's sha1. Raises DownloadError and Cancelled as `download`.
    """
    address = mirrored(url)
    check_address(address)
    address = _sendable(address)
    patience, cancel = patience or Patience(), cancel or threading.Event()
    for failures in range(1, patience.tries + 1):
        _check_cancel(cancel)
        try:
            return _look_up_once(address, cancel, patience)
        except _MAY_PASS as error:
            _check_cancel(cancel)
            if failures == patience.tries:
                raise DownloadError(f"{_host(address)} does not answer: {_reason(error)}. {_WAYS}") from error
        _wait(failures, cancel, patience)
    raise ValueError("Patience without a try.")


def _look_up_once(address: str, cancel: threading.Event, patience: Patience) -> Remote | None:
    headers = {"User-Agent": "gmi-studio", "Accept-Encoding": "identity", "Connection": "close"}
    told: dict[str, str] = {}

    def note(response: http.client.HTTPResponse) -> None:
        for name, value in response.headers.items():
            if name.lower().startswith(("x-linked-", "x-repo-")):
                told.setdefault(name.lower(), value)

    with _response(address, headers, cancel, patience, method="HEAD", on_answer=note) as response:
        if response.status in (404, 410):
            return None
        if response.status in _RETRIED:
            raise _Broken(f"it answers {response.status} {response.reason}")
        if response.status in (401, 403):
            raise DownloadError(
                f"{_host(address)} answers {response.status} {response.reason}: whoever keeps the model there wants to "
                "know who takes it. Open the model's page in a browser, fetch the files there, and open their folder."
            )
        if response.status != 200:
            raise DownloadError(f"{_host(address)} answers {response.status} {response.reason}.")
        tag = told.get("x-linked-etag", "")
        if not tag and "x-repo-commit" in told:  # of other servers nobody knows what it is
            tag = str(response.headers.get("ETag", ""))
        tag = tag.removeprefix("W/").strip('"').lower()
        length = told.get("x-linked-size", "")
        if not length and response.headers.get("Content-Encoding", "identity") == "identity":
            length = str(response.headers.get("Content-Length", ""))
    return Remote(
        _length(length),
        sha256=tag if re.fullmatch("[0-9a-f]{64}", tag) else "",
        git_sha1=tag if re.fullmatch("[0-9a-f]{40}", tag) else "",
    )


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raises DownloadError where the disk of a folder, which may not be there yet, has no room for so many bytes."""
    place = next((one for one in (folder, *folder.parents) if one.is_dir()), folder)
    free = shutil.disk_usage(place).free
    if needed + SPARE_BYTES > free:
        raise DownloadError(
            f"{what} needs {(needed + SPARE_BYTES) / 1e6:,.0f} MB of disk, {folder} has {free / 1e6:,.0f} MB left. "
            "Free some, or choose another folder (GMI_MODELS)."
        )


def git_sha1_of(path: Path) -> str:
    """What git calls a file's content: the sha1 of "blob", its length, a zero, and its bytes. Raises OSError."""
    found = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            found.update(data)
    return found.hexdigest()


def mirrored(url: str) -> str:
    """The address on the mirror, if there is one: `<mirror>/<host>/<path>`."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").strip().rstrip("/")
    if not mirror:
        return url
    parts = urllib.parse.urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{mirror}/{parts.netloc}{parts.path}{query}"


def check_address(url: str) -> None:
    """Raises DownloadError unless the address is https, or http of this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        parts.port  # noqa: B018  (raises for one that is none)
        whole = _sendable(url)
    except ValueError as error:
        raise DownloadError(f"{_shown(url)} is no address that can be fetched: {error}.") from error
    if not parts.hostname or parts.scheme not in ("http", "https") or not whole:
        raise DownloadError(f"{_shown(url)} is no https address.")
    if parts.scheme == "http" and not is_this_machine(parts.hostname):
        raise DownloadError(f"{url} is not encrypted, so what it gives can be exchanged on the way; use https.")


def _sendable(url: str) -> str:
    """The address in ASCII: the path's other letters as bytes, the host by its IDNA name. Raises ValueError."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if ":" not in host:
        host = host.encode("idna").decode()
        if not re.fullmatch(r"[\w.-]*", host):
            raise ValueError(f"{host!r} is no name of a host")
    place = f"[{host}]" if ":" in host else host
    place = f"{place}:{parts.port}" if parts.port else place
    path = urllib.parse.quote(parts.path, safe="/%:=&?~#+!$,;'@()*[]")
    query = urllib.parse.quote(parts.query, safe="/%:=&?~+!$,;'@()*[]")
    return urllib.parse.urlunsplit((parts.scheme, place, path, query, ""))


def _shown(url: str) -> str:
    return repr(url if len(url) <= 120 else url[:117] + "...")


def is_this_machine(host: str) -> bool:
    """Whether a host name or address is the loopback of this machine."""
    if host.lower().rstrip(".") in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---- the part that has arrived ---------------------------------------------------------------------------


def _part_of(target: Path, url: str) -> _Part:
    name = f".{beginning(target.name)}.{_mark(url)}"
    return _Part(target.with_name(f"{name}.part"), target.with_name(f"{name}.json"))


def arrived(target: Path, url: str) -> int:
    """How many bytes an earlier try left, which another one takes up."""
    return _part_of(target, url).size


def _open_part(target: Path, url: str) -> _Part:
    """The part of an earlier try, if it is of the same address; otherwise an empty one."""
    part = _part_of(target, url)
    try:
        about = json.loads(part.about.read_bytes())
        part.validator, part.total = str(about["validator"]), about["total"]
        if part.total is not None and (not isinstance(part.total, int) or part.size > part.total):
            part.restart()
    except (OSError, ValueError, KeyError, TypeError):
        part.restart()
    if not part.validator:
        part.restart()  # without a mark of the server's nobody knows whether the rest is of the same file
    return part


def remove_stale_parts(folder: Path) -> None:
    """Deletes, below a folder, what arrived of downloads that nobody took up for RESUMABLE, or nobody can take up."""
    for path in folder.rglob(".*.part"):
        if _PART.fullmatch(path.name):
            about = path.with_suffix(".json")
            delete_if_older(path, RESUMABLE if about.exists() else ABANDONED)
            if not path.exists():
                about.unlink(missing_ok=True)


# ---- trying, and trying again ----------------------------------------------------------------------------


def _fetch(
    address: str,
    part: _Part,
    max_bytes: int,
    on_progress: Callable[[Progress], None],
    cancel: threading.Event,
    patience: Patience,
) -> None:
    """Tries until the part is whole. Every byte gained gives the full number of tries again."""
    failures, meter = 0, _Meter(on_progress)
    while True:
        before = part.size
        try:
            _try_once(address, part, max_bytes, meter, cancel, patience)
            return
        except _MAY_PASS as error:
            _check_cancel(cancel)
            failures = 1 if part.size > before else failures + 1
            if failures >= patience.tries:
                raise DownloadError(_gave_up(address, part, error)) from error
        _wait(failures, cancel, patience)


def _wait(failures: int, cancel: threading.Event, patience: Patience) -> None:
    """Before the next try. Raises Cancelled."""
    wait = min(patience.first_wait * 2 ** (failures - 1), patience.longest_wait)
    if cancel.wait(wait * random.uniform(0.75, 1.25)):  # so that many who broke off together do not return together
        _check_cancel(cancel)


def _gave_up(address: str, part: _Part, error: Exception) -> str:
    of = f" of {part.total / 1e6:,.1f}" if part.total else ""
    kept = f" {part.size / 1e6:,.1f}{of} MB have arrived and are kept for the next try." if part.size else ""
    return f"{_host(address)} does not deliver: {_reason(error)}.{kept} {_WAYS}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _check_cancel(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Cancelled("The download was stopped; what has arrived is kept for the next try.")


def _try_once(
    address: str, part: _Part, max_bytes: int, meter: _Meter, cancel: threading.Event, patience: Patience
) -> None:
    """One connection: asks for what is missing and appends it. Raises _Broken where another try may help."""
    start = part.size
    if start and part.total == start:
        return
    headers = {"User-Agent": "gmi-studio", "Accept-Encoding": "identity", "Connection": "close"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": part.validator} if part.validator else {})
    with _response(address, headers, cancel, patience) as response:
        start, total = _begin(response, part, address)
        if start < 0:
            return
        _check_size(total, max_bytes, part)
        if part.total != total or not part.about.exists():
            part.describe(_validator(response), total, address)
        _check_disk(part, total, start)
        _append(response, part, max_bytes, meter, cancel, start)
    if total is not None and part.size != total:
        raise _Broken(f"the connection ended at {part.size:,} of {total:,} bytes")


def _begin(response: http.client.HTTPResponse, part: _Part, address: str) -> tuple[int, int | None]:
    """Where the answer begins and how long the whole file is; -1 where nothing is missing."""
    status = response.status
    if status in _RETRIED:
        raise _Broken(f"it answers {status} {response.reason}")
    if status == 416:  # there is nothing behind what has arrived: all is here, or it is another file
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        if _length(whole) == part.size:
            return -1, part.size
        part.restart()
        raise _Broken("the file has changed meanwhile")
    if status not in (200, 206):
        raise DownloadError(
            f"{_host(address)} answers {status} {response.reason}. The file may have moved: "
            "look for it on the model's page."
        )
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _web_page(address)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(f"{_host(address)} sends the file in another encoding than it was asked for.")
    length = response.headers.get("Content-Length", "")
    if status == 200:
        part.restart()
        return 0, _length(length)
    return _range(response, part)


def _length(text: str) -> int | None:
    """A length that a server told; one of more digits than any file has is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else None


def _range(response: http.client.HTTPResponse, part: _Part) -> tuple[int, int | None]:
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, whole = rest.partition("/")
    start = span.partition("-")[0]
    total = _length(whole)
    fits = unit == "bytes" and total is not None and _length(start) == part.size
    if not fits or (part.total is not None and total != part.total):
        part.restart()
        raise _Broken("the file has changed meanwhile, or another part of it came than was asked for")
    return part.size, total


def _append(
    response: http.client.HTTPResponse,
    part: _Part,
    max_bytes: int,
    meter: _Meter,
    cancel: threading.Event,
    start: int,
) -> None:
    done = looked = start
    with part.path.open("ab") as file:
        while True:
            _check_cancel(cancel)
            try:
                data = response.read1(CHUNK)
            except (OSError, ValueError) as error:  # ValueError: a length of a chunk that is no number
                raise _Broken(f"the connection broke ({str(error) or type(error).__name__})") from error
            if not data:
                break
            if done == 0 and data.lstrip()[:15].lower().startswith(_PAGE_STARTS):
                raise _web_page(part.path.name)
            done += len(data)
            if done > max_bytes:
                file.close()
                part.restart()
                raise _too_large(done, max_bytes)
            if done - looked >= DISK_EVERY:
                looked = done
                file.flush()
                _check_disk(part, part.total or done, done - len(data))
            file.write(data)
            meter.show(done, part.total)
    _check_cancel(cancel)
    meter.show(done, part.total, final=True)


def _check_size(total: int | None, max_bytes: int, part: _Part) -> None:
    if total is not None and total > max_bytes:
        part.restart()
        raise _too_large(total, max_bytes)


def _too_large(size: int, max_bytes: int) -> DownloadError:
    return DownloadError(
        f"The file has {size / 1e6:,.1f} MB or more, expected {max_bytes / 1e6:,.1f} MB at most: "
        "it is not the one meant."
    )


def _check_disk(part: _Part, total: int | None, start: int) -> None:
    """Raises DownloadError before a byte is written that the disk has no room for."""
    if total is not None:
        check_room(part.path.parent, total - start, "The file")


def _web_page(address: str) -> DownloadError:
    return DownloadError(
        f"{_host(address)} gave a web page instead of the file (a notice, a login, too many downloads?). "
        "Open the address in a browser, save the file, and open it from there."
    )


def _validator(response: http.client.HTTPResponse) -> str:
    """What the server calls this version of the file; weak marks do not promise equal bytes."""
    etag: str = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return str(response.headers.get("Last-Modified", ""))


def _host(address: str) -> str:
    return urllib.parse.urlsplit(address).hostname or address


class _Meter:
    """Tells how far it is, a few times a second, with the speed of the last seconds."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self.on_progress = on_progress
        self.points: list[tuple[float, int]] = []

    def show(self, done: int, total: int | None, *, final: bool = False) -> None:
        now = time.monotonic()
        if self.points and now - self.points[-1][0] < _REPORT_SECONDS and not final:
            return
        self.points = [*self.points[-20:], (now, done)]
        then, before = self.points[0]
        span = now - then
        self.on_progress(Progress(done, total, max(done - before, 0) / span if span > 0 else 0.0))


# ---- one connection --------------------------------------------------------------------------------------


@contextmanager
def _response(
    address: str,
    headers: dict[str, str],
    cancel: threading.Event,
    patience: Patience,
    *,
    method: Literal["GET", "HEAD"] = "GET",
    on_answer: Callable[[http.client.HTTPResponse], None] = lambda _: None,
) -> Iterator[http.client.HTTPResponse]:
    """The answer behind all redirections, each of which `on_answer` is told. `cancel` breaks the connection at once."""
    for _ in range(MAX_REDIRECTS + 1):
        connection = _connect(address, patience.stall)
        try:
            connection.connect()
            with _broken_by(cancel, connection.sock):
                parts = urllib.parse.urlsplit(address)
                target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
                connection.request(method, target, headers=headers)
                response = connection.getresponse()
                on_answer(response)
                if response.status not in (301, 302, 303, 307, 308):
                    yield response
                    return
                address = _redirected(address, response.headers.get("Location", ""))
        finally:
            connection.close()
    raise DownloadError(f"{_host(address)} leads from one address to the next, more than {MAX_REDIRECTS} times.")


def _redirected(address: str, location: str) -> str:
    """Where a redirection leads. Raises DownloadError where that is not encrypted, or leads into this machine."""
    try:
        following = urllib.parse.urljoin(address, location)
    except ValueError as error:
        raise DownloadError(f"{_host(address)} leads to {_shown(location)}, which is no address.") from error
    check_address(following)
    if is_this_machine(urllib.parse.urlsplit(following).hostname or "") and not is_this_machine(_host(address)):
        raise DownloadError(f"{_host(address)} leads to an address of this machine, which is not its business.")
    return _sendable(following)


def _connect(address: str, timeout: float) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(address)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "http":  # this machine only, so never through a proxy
        return http.client.HTTPConnection(host, port, timeout=timeout)
    context = ssl.create_default_context()
    proxies = urllib.request.getproxies()
    variable = "HTTPS_PROXY" if proxies.get("https") else "ALL_PROXY"
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or is_this_machine(host) or urllib.request.proxy_bypass(host):
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    way = _way(proxy, variable, host)
    connection = http.client.HTTPSConnection(way.hostname or "", way.port or 3128, timeout=timeout, context=context)
    connection.set_tunnel(host, port or 443, headers=_proxy_headers(way))
    return connection


def _way(proxy: str, variable: str, host: str) -> urllib.parse.SplitResult:
    """The proxy's address. Raises DownloadError for one of another kind."""
    try:
        way = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
        is_usable = way.scheme in ("", "http", "https") and bool(way.hostname) and (way.port or 1) > 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise DownloadError(
            f"The proxy that {variable} names is none that downloads can use: write http://NAME:PORT into HTTPS_PROXY, "
            f"or {host} into NO_PROXY to go without one."
        )
    return way


def _proxy_headers(way: urllib.parse.SplitResult) -> dict[str, str]:
    if not way.username:
        return {}
    user = f"{urllib.parse.unquote(way.username)}:{urllib.parse.unquote(way.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(user.encode()).decode()}


@contextmanager
def _broken_by(cancel: threading.Event, connected: Any) -> Iterator[None]:
    """While the block runs, `cancel` shuts the socket, which wakes whoever waits for bytes."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(0.05):
            if cancel.is_set():
                with suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        finished.set()
