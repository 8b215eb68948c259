"""Listening: a socket, an address to open, and a clean end."""

import secrets
import socket
from collections.abc import Callable, Sequence

from vidgan.core.progress import say
from vidgan.errors import UserError
from vidgan.sharing.explore.guard import is_loopback

MAX_CONNECTIONS = 512
GRACE_SECONDS = 2


def check_packages() -> None:
    """Raise UserError without the extra `explore`."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"explore needs the extra 'explore' ({error.name} is missing): pip install "
            f"'vidgan[explore]'"
        ) from error


def serve(
    sources: Sequence[str],
    host: str = "127.0.0.1",
    port: int = 8800,
    checkpoint: str = "best",
    ready: Callable[[str], None] = print,
) -> None:
    """Serve the live page of generators until Ctrl-C.

    Args:
        sources: what `load_generator` takes, each.
        host: address to listen on. Beyond this machine, every request needs a token, which the
            address for people contains.
        port: 0 takes any that is free.
        checkpoint: of run folders, shown first.
        ready: called with the address to open.

    Raises:
        UserError: packages are missing, a source holds no generator, or the port is taken.
    """
    check_packages()
    import uvicorn

    from vidgan.sharing.explore.app import Explorer, ImpatientProtocol
    from vidgan.sharing.explore.models import Catalogue, list_entries

    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    with _listening(host, port) as listener:
        catalogue = Catalogue(list_entries(sources, checkpoint))
        say("preparing the page")
        catalogue.page(0)
        config = uvicorn.Config(
            Explorer(catalogue, host, token).app,
            access_log=False,
            http=ImpatientProtocol,
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws="none",
        )
        ready(address_of(listener, host, token))
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            say("ended")


def address_of(listener: socket.socket, host: str, token: str | None) -> str:
    """The address that people open."""
    port = listener.getsockname()[1]
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise UserError(f"--port {port} must lie in 0..65535")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}, port {port} ({error.strerror}): choose another --port (0 "
            "takes a free one) or --host"
        ) from error
    return listener
