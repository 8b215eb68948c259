"""Who may ask the explorer for what, before any of its routes sees the request."""

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "vidgan-token"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'wasm-unsafe-eval' "
    "blob:; worker-src blob:; connect-src 'self' blob:; img-src data: blob:; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    # With the one above the page is isolated, which allows it threads.
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Middleware: refuses foreign hosts, foreign pages and strangers, and sets headers.

    A page elsewhere may make a browser ask this server, under a name of its own that it resolves
    to this machine (DNS rebinding), or across sites. The first shows in the host, the second in
    what browsers say of the origin. Whoever is on the network beyond this machine has to bring the
    token, once in the address and then in a cookie.
    """

    def __init__(self, app: App, host: str, token: str | None) -> None:
        self.app, self.token = app, token
        self.names = LOOPBACK_NAMES if is_loopback(host) else {host, *_own_names()}
        self.takes_addresses = not is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        if not self.knows_host(headers.get("host", "")):
            await _refuse(send, 421, "this server goes by another name")
        elif is_foreign(headers, scope["scheme"], scope["method"]):
            await _refuse(send, 403, "asked by a page of another site")
        elif self.token is None or _equal(_token_in(headers.get("cookie", ""), scope), self.token):
            await self.app(scope, receive, _with_headers(send))
        else:
            await self.welcome(scope, send)

    def knows_host(self, host: str) -> bool:
        """Whether the host of a request is a name of this server, without regard to the port."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        if name in self.names:
            return True
        # Numbers need no name server, so nobody can rebind them.
        return self.takes_addresses and _is_address(name)

    async def welcome(self, scope: Scope, send: Send) -> None:
        """Take the token out of the address into a cookie, or refuse."""
        assert self.token is not None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if not _equal(query.pop("token", [""])[0], self.token):
            await _refuse(send, 401, "open the address that vidgan explore printed, with its token")
            return
        rest = urlencode(query, doseq=True)
        cookie = f"{_cookie_name(scope)}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        place = f"/?{rest}" if rest else "/"
        await _reply(send, 303, [(b"location", place.encode()), (b"set-cookie", cookie.encode())])


def is_foreign(headers: dict[str, str], scheme: str, method: str) -> bool:
    """Whether a browser says that a page of another origin is asking.

    Typed addresses and bookmarks come from nowhere (`none`); programs say nothing.
    """
    site = headers.get("sec-fetch-site")
    if site not in (None, "same-origin", "none"):
        # A link elsewhere may lead here, as a page of its own.
        found = (method, headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
        return found != ("GET", "navigate", "document")
    origin = headers.get("origin")
    return origin is not None and origin != f"{scheme}://{headers.get('host', '')}"


def _cookie_name(scope: Scope) -> str:
    """Servers of one machine share their cookies: each has one of its own."""
    return f"{COOKIE}-{(scope.get('server') or ('', 0))[1]}"


def _token_in(cookie: str, scope: Scope) -> str:
    try:
        found = SimpleCookie(cookie).get(_cookie_name(scope))
    except CookieError:
        return ""
    return found.value if found else ""


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _own_names() -> set[str]:
    return {socket.gethostname().lower(), socket.getfqdn().lower(), *LOOPBACK_NAMES}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *ours]}
        await send(message)

    return send_with_headers


async def _refuse(send: Send, status: int, sentence: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await _reply(send, status, headers, sentence.encode())


async def _reply(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b""
) -> None:
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await _with_headers(send)(start)
    await send({"type": "http.response.body", "body": body})
