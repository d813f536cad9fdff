"""Who may speak to the studio: its own page, programs on this machine, and nobody else's page.

Every request passes here before gradio sees it:

- Its Host is a name that the studio was started with, so that no other name can be made to point here.
- It comes from the studio's own page, as the browser itself says (Sec-Fetch-Site, Origin). A page of another place may
  only lead to the studio's front page. Requests without either come from programs, not from pages.
- It goes to a route that the page or the API uses, with the method and the kind of content that this route has.
- Its body is as long as that route's may be, and much shorter before the login.
- The session token in it is one that this studio made for this login.
- Wrong passwords have to wait.
"""

import asyncio
import gzip
import ipaddress
import json
import shutil
import socket
import tempfile
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect

from gmi_ui.temporary import MOST_UPLOADED, remove_halves, trim, upload_folder
from gmi_ui.tokens import Tokens

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# In the page's script; replaced by a new token whenever the page is sent. As long as a token.
TOKEN_PLACE = "a-token-that-the-server-has-made"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
SHARED = ".gradio.live"  # the public names of --share

API = "/gradio_api"
CANCEL = f"{API}/cancel"
CALL, CALL_NAMED = f"{API}/call/", f"{API}/call/v2/"  # an endpoint's name, then the number of a call, follow
MCP = f"{API}/mcp"  # where tools for MCP are
MOST_JSON = 24 << 20  # bytes: a painted mask, and the values of all controls
MOST_BEFORE_LOGIN = 1 << 14  # a name and a password
PACKING = 6  # of the page with gzip: 0.95 MB become 0.18 in 20 ms
UPLOAD_SLACK = 1 << 20  # what surrounds the files of an upload
DISK_RESERVE = 500_000_000  # bytes that an upload leaves free

_PAGE = ("/",)
_OPEN = ("/login", "/login/", "/theme.css", f"{API}/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json")
_OPEN_BELOW = ("/assets/", "/static/", "/svelte/", "/pwa_icon")  # the page's own scripts and pictures
_READ = (
    "/config", "/config/", "/logout", f"{API}/info", f"{API}/info/", f"{API}/app_id", f"{API}/app_id/", f"{API}/user",
    f"{API}/user/", f"{API}/login_check", f"{API}/login_check/", f"{API}/queue/data", f"{API}/queue/status",
    f"{API}/upload_progress", f"{API}/startup-events",
)  # fmt: skip
_READ_BELOW = (f"{API}/file=", f"{API}/heartbeat/")
_JSON = (
    f"{API}/component_server", f"{API}/component_server/", f"{API}/queue/join", f"{API}/run/predict",
    f"{API}/run/predict/", CANCEL, f"{API}/reset", f"{API}/reset/",
)  # fmt: skip
_MCP, _MCP_SCHEMA = (MCP, f"{MCP}/"), f"{MCP}/schema"
_EVENTS = (f"{API}/queue/join", f"{API}/run/", CALL)
_BEFORE_LOGIN = ("/config", f"{API}/login_check", f"{API}/startup-events")  # which say themselves who asks
_UPLOAD = (f"{API}/upload",)
_LOGIN = ("/login", "/login/")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

_SAFETY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"same-origin"),
)


@dataclass(frozen=True)
class Refusal:
    """An answer in place of gradio's. wait: seconds after which to try again."""

    status: int
    reason: str
    wait: int = 0


class RefusedError(Exception):
    """A request is refused while its body arrives."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


@dataclass(frozen=True)
class Asked:
    """What counts of a request. headers: by lower-case name; of some that come twice, all are here."""

    method: str
    path: str  # below the root path
    headers: "dict[str, list[str]]"
    client: str = ""

    @classmethod
    def of(cls, scope: Scope, root_path: str = "") -> "Asked":
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        path = scope["path"]
        if root_path and path.startswith(f"{root_path}/"):
            path = path.removeprefix(root_path)
        client = scope.get("client")
        return cls(scope["method"], path, headers, client[0] if client else "")

    def header(self, name: str) -> str:
        """Its only value; "" for none, and for several."""
        values = self.headers.get(name, [])
        return values[0].strip() if len(values) == 1 else ""

    @property
    def content_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def length(self) -> int | None:
        text = self.header("content-length")
        return int(text) if text.isdecimal() and len(text) < 20 else None

    @property
    def is_navigation(self) -> bool:
        """Whether a person followed a link or typed the address; a frame of another page is none."""
        mode, goal = self.header("sec-fetch-mode"), self.header("sec-fetch-dest")
        return self.method in ("GET", "HEAD") and mode == "navigate" and goal == "document"


class Names:
    """The names under which the studio is reached: those that it was started with, and this machine's own."""

    def __init__(self, host: str, allowed: Iterable[str] = (), root_path: str = "", *, is_shared: bool = False) -> None:
        bare = host.strip("[]").lower()
        self._is_everywhere = bare in ("0.0.0.0", "::", "")
        outside = urlsplit(root_path).netloc if "://" in root_path else ""
        self._outside = {name_of(name) for name in (*allowed, outside) if name}
        self._names = {*LOOPBACK_NAMES, *self._outside, *([] if self._is_everywhere else [bare])}
        if not self._is_everywhere and bare not in LOOPBACK_NAMES or self._is_everywhere:
            own = socket.gethostname().lower()
            self._names |= {own, f"{own.partition('.')[0]}.local"}
        self._is_shared = is_shared

    def knows(self, host: str) -> bool:
        """Whether a Host header is one of them. Any address in numbers is, where the studio listens everywhere."""
        name = name_of(host)
        if name in self._names or (self._is_shared and name.endswith(SHARED)):
            return True
        return self._is_everywhere and _is_address(name)

    def is_ours(self, origin: str, host: str) -> bool:
        """Whether an origin is the page that the request goes to, perhaps behind a proxy with a known name."""
        try:
            place = urlsplit(origin)
            same = place.netloc.lower() == host.lower()
        except ValueError:
            return False
        return place.scheme in ("http", "https") and (same or name_of(place.netloc) in self._outside)


def name_of(host: str) -> str:
    """The name in `NAME`, `NAME:PORT`, `[ADDRESS]:PORT`; "" for what is none."""
    text = host.strip().lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        return name if bracket and (not port or port[1:].isdecimal()) else ""
    if text.count(":") > 1:
        return text if _is_address(text) else ""
    name, _, port = text.partition(":")
    return name.removesuffix(".") if not port or port.isdecimal() else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Attempts:
    """Wrong passwords, by where they come from: the first few are free, then each has to wait twice as long."""

    FREE, LONGEST, REMEMBERED = 5, 60.0, 1000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and until when to wait

    def wait(self, client: str) -> float:
        """Seconds until the next attempt may be made."""
        return max(0.0, self._wrong.get(client, (0, 0.0))[1] - self._clock())

    def begin(self, client: str) -> None:
        """An attempt begins: it counts as wrong until it was right, so that many at once count too."""
        count = self._wrong.get(client, (0, 0.0))[0] + 1
        pause = min(self.LONGEST, 2.0 ** (count - self.FREE)) if count >= self.FREE else 0.0
        self._wrong[client] = (count, self._clock() + pause)
        self._wrong.move_to_end(client)
        while len(self._wrong) > self.REMEMBERED:
            self._wrong.popitem(last=False)

    def succeed(self, client: str) -> None:
        self._wrong.pop(client, None)


@dataclass(frozen=True)
class Gate:
    """What a studio lets through.

    upload: bytes that an upload may have; has_login: whether --auth is asked; endpoints: the names of the API's;
    has_mcp: whether they are tools for MCP, too.
    """

    names: Names
    tokens: Tokens
    root_path: str = ""
    has_login: bool = False
    upload: int = 2 << 30
    endpoints: Collection[str] = ()
    has_mcp: bool = False

    @property
    def path(self) -> str:
        return urlsplit(self.root_path).path.rstrip("/")

    def refusal(self, asked: Asked, login: str | None) -> Refusal | None:
        """Why a request is not let through, by its head alone. login: the name that is logged in."""
        if not self.names.knows(asked.header("host")):
            return Refusal(421, "This studio is not known by that name. Start it with --allow-host NAME to add it.")
        return self._foreign(asked) or self._misrouted(asked) or self._unknown(asked, login) or self._too_long(asked)

    def _foreign(self, asked: Asked) -> Refusal | None:
        """Why a request that another page made is refused."""
        site, origins = asked.header("sec-fetch-site"), asked.headers.get("origin", [])
        foreign = Refusal(403, "Another page may not use the studio. Open the studio's own address.")
        if "sec-fetch-site" in asked.headers:
            if site == "same-origin" or (site == "none" and asked.method in ("GET", "HEAD")):
                return None
            return None if asked.path in _PAGE and asked.is_navigation else foreign
        if origins:
            is_ours = len(origins) == 1 and self.names.is_ours(origins[0], asked.header("host"))
            return None if is_ours else foreign
        referer = asked.header("referer")
        if referer and asked.path not in _PAGE and not self.names.is_ours(referer, asked.header("host")):
            return foreign
        return None

    def _misrouted(self, asked: Asked) -> Refusal | None:
        path, method = asked.path, asked.method
        if method in ("GET", "HEAD"):
            if path.startswith(f"{API}/file=") and "://" in path:
                return Refusal(403, "The studio fetches nothing from elsewhere.")
            known = path in (*_PAGE, *_OPEN, *_READ) or path.startswith((*_OPEN_BELOW, *_READ_BELOW))
            known = known or self._is_answer(path) or (self.has_mcp and path in (*_MCP, _MCP_SCHEMA))
            return None if known else Refusal(404, "There is nothing here.")
        if method != "POST":
            return Refusal(405, "The studio does not answer such requests.")
        if self.takes_json(path):
            wanted: Collection[str] = ("application/json",)
        elif path in _UPLOAD:
            wanted = ("multipart/form-data",)
        elif path in _LOGIN:
            wanted = _FORMS
        else:
            return Refusal(404, "There is nothing here.")
        return None if asked.content_type in wanted else Refusal(415, f"This takes {' or '.join(wanted)} only.")

    def takes_json(self, path: str) -> bool:
        """Whether a route takes JSON, which is read and looked at as a whole."""
        name = path.removeprefix(CALL_NAMED if path.startswith(CALL_NAMED) else CALL)
        is_call = path.startswith(CALL) and name in self.endpoints
        return path in _JSON or is_call or (self.has_mcp and path in _MCP)

    def _is_answer(self, path: str) -> bool:
        """Whether what a call of the API has led to is asked for."""
        call, _, number = path.rpartition("/")
        return call.startswith(CALL) and self.takes_json(call) and number.isalnum()

    def _unknown(self, asked: Asked, login: str | None) -> Refusal | None:
        if not self.has_login or login is not None:
            return None
        is_open = asked.path in (*_PAGE, *_OPEN) or asked.path.startswith(_OPEN_BELOW)
        is_open = is_open or asked.path.removesuffix("/") in _BEFORE_LOGIN
        return None if is_open else Refusal(401, "Not authenticated")

    def _too_long(self, asked: Asked) -> Refusal | None:
        limit = self.limit(asked)
        if asked.length is None and "content-length" in asked.headers:
            return Refusal(400, "The length of the request is no number.")
        if asked.length is not None and asked.length > limit:
            return too_long(limit)
        if asked.path in _UPLOAD and asked.method == "POST":
            free = shutil.disk_usage(tempfile.gettempdir()).free
            if (asked.length or 0) > free - DISK_RESERVE:
                return Refusal(507, f"The disk has room for {max(0, free - DISK_RESERVE) // 10**6:,} MB more only.")
        return None

    def limit(self, asked: Asked) -> int:
        """Bytes that the body may have."""
        if self.takes_json(asked.path):
            return MOST_JSON
        return self.upload + UPLOAD_SLACK if asked.path in _UPLOAD else MOST_BEFORE_LOGIN

    def wrong_content(self, asked: Asked, body: bytes, login: str | None, blocks: Any) -> Refusal | None:
        """Why the JSON of a request is refused: it has no session token, one of another login, or an address that
        gradio would fetch.
        """
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return Refusal(400, "That is no readable JSON.")
        if not isinstance(value, dict):
            return Refusal(400, "That is no JSON object.")
        stranger = Refusal(403, "This page is not connected to the studio. Reload it.")
        if asked.path.startswith(f"{API}/component_server"):
            data = value.get("data")
            token = data.get("token") if isinstance(data, dict) else None
            return None if self.tokens.is_issued(token, login or "") else stranger
        if asked.path.startswith(_EVENTS):
            if _has_address(value):
                return Refusal(403, "The studio fetches nothing from elsewhere. Upload the file.")
            tokens = _tokens_among(value, blocks)
            return None if all(self.tokens.is_issued(token, login or "") for token in tokens) else stranger
        return None


def too_long(limit: int) -> Refusal:
    return Refusal(413, f"The request is longer than the {limit // 10**6:,} MB that it may have.")


def _tokens_among(value: dict[str, Any], blocks: Any) -> list[Any]:
    """What an event's inputs say where the hidden token is one of them. gradio finds the event by its number."""
    function = blocks.fns.get(value.get("fn_index")) if isinstance(value.get("fn_index"), int) else None
    data = value.get("data")
    if function is None or not isinstance(data, list):
        return []
    places = [index for index, one in enumerate(function.inputs) if getattr(one, "elem_id", None) == "token"]
    return [data[index] if index < len(data) else None for index in places]


def _has_address(value: Any) -> bool:
    """Whether something in a request's JSON is a file that lies elsewhere."""
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            path = one.get("path")
            if isinstance(path, str) and path.lstrip().lower().startswith(("http:", "https:")):
                return True
            rest += one.values()
        elif isinstance(one, list):
            rest += one
    return False


class Guard:
    """The middleware around gradio's app."""

    def __init__(self, app: Any, gate: Gate) -> None:
        self._app, self._gate = app, gate
        self._attempts = Attempts()
        self._uploads = 0  # that go on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # nothing here speaks otherwise
            return await send({"type": "websocket.close", "code": 1008})
        asked = Asked.of(scope, self._gate.path)
        login = _login(scope.get("app"), asked)
        refusal = self._gate.refusal(asked, login)
        if refusal is not None:
            return await _answer(send, refusal)
        is_attempt = asked.path in _LOGIN and asked.method == "POST"
        if is_attempt:
            if wait := self._attempts.wait(asked.client):
                seconds = int(wait) + 1
                words = f"Too many wrong passwords. Try again in {seconds} {'second' if seconds == 1 else 'seconds'}."
                return await _answer(send, Refusal(429, words, seconds))
            self._attempts.begin(asked.client)
        await self._hand_on(scope, receive, send, asked, login, is_attempt)

    async def _hand_on(
        self, scope: Scope, receive: Receive, send: Send, asked: Asked, login: str | None, is_attempt: bool
    ) -> None:
        has_begun = False
        token = self._gate.tokens.issue(login or "") if asked.path in _PAGE and asked.method == "GET" else ""
        page: list[Message] = []

        async def answer(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start":
                message = {**message, "headers": _headers(message, bool(token))}
                if is_attempt and message["status"] < 300:
                    self._attempts.succeed(asked.client)
            if not token:
                return await send(message)
            page.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                for one in _with_token(page, token, packs="gzip" in asked.header("accept-encoding")):
                    await send(one)

        try:
            limit = self._gate.limit(asked)
            if asked.method == "POST" and self._gate.takes_json(asked.path):
                body = await whole(receive, limit)
                blocks = scope["app"].get_blocks()
                refusal = self._gate.wrong_content(asked, body, login, blocks)
                if refusal is not None:
                    return await _answer(send, refusal)
                await self._app(scope, replayed(body, receive), answer)
            elif asked.path in _UPLOAD:
                await self._upload(scope, _counted(receive, limit), answer)
            else:
                await self._app(scope, _counted(receive, limit), answer)
        except RefusedError as error:
            if not has_begun:
                await _answer(send, error.refusal)
        except ClientDisconnect:  # nobody is left to be answered
            pass

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An upload leaves nothing but its whole files, however it ends."""
        self._uploads += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._uploads -= 1
            if not self._uploads:
                folder = upload_folder()
                remove_halves(folder)
                await asyncio.to_thread(trim, folder, MOST_UPLOADED)


def _login(app: Any, asked: Asked) -> str | None:
    """The name that gradio's cookies say is logged in."""
    known = getattr(app, "tokens", None)
    if not known:
        return None
    cookies: SimpleCookie = SimpleCookie()
    for text in asked.headers.get("cookie", []):
        try:
            cookies.load(text)
        except CookieError:
            return None
    for kind in ("access-token", "access-token-unsecure"):
        found = cookies.get(f"{kind}-{app.cookie_id}")
        if found is not None and found.value in known:
            return str(known[found.value])
    return None


def _headers(message: Message, is_page: bool) -> list[tuple[bytes, bytes]]:
    """gradio's headers with ours; cookies of the login go to the studio's own page alone."""
    kept = []
    for name, value in message.get("headers", []):
        if name.lower() == b"set-cookie":
            parts = [part for part in value.split(b";") if not part.strip().lower().startswith(b"samesite")]
            value = b";".join([*parts, b" SameSite=Lax"])
        if not (is_page and name.lower() == b"cache-control"):
            kept.append((name, value))
    return [*kept, *_SAFETY, *([(b"cache-control", b"no-store")] if is_page else [])]


def _with_token(messages: list[Message], token: str, *, packs: bool) -> Iterable[Message]:
    """The page's answer with a new token in it, which leaves its length as it was; packs: with gzip, a fifth of it."""
    start, *bodies = messages
    body = b"".join(message.get("body", b"") for message in bodies).replace(TOKEN_PLACE.encode(), token.encode())
    headers = start["headers"]
    if packs and not any(name.lower() == b"content-encoding" for name, _ in headers):
        body = gzip.compress(body, PACKING)
        kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        length = str(len(body)).encode()
        headers = [*kept, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"), (b"content-length", length)]
    yield {**start, "headers": headers}
    yield {"type": "http.response.body", "body": body}


async def whole(receive: Receive, limit: int) -> bytes:
    """The body. Raises RefusedError for one that is too long, or that does not arrive."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise RefusedError(Refusal(400, "The request did not arrive whole."))
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise RefusedError(too_long(limit))
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """What hands on a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _counted(receive: Receive, limit: int) -> Receive:
    """What hands on a body as it arrives, up to the limit."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > limit:
                raise RefusedError(too_long(limit))
        return message

    return counted


async def _answer(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"detail": refusal.reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of a body is not read
        *_SAFETY,
    ]
    if refusal.wait:
        headers.append((b"retry-after", str(refusal.wait).encode()))
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
