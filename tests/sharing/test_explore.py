"""`vidgan explore` under attack: it stays up, answers its own page alone and reads nothing else."""

import asyncio
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explorer_server import Explorer, explorer
from generator_files import saved_generator

import vidgan
from vidgan.cli import main as cli
from vidgan.sampling.projection import ProjectionOptions
from vidgan.video import write_mp4

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

HOSTILE = "<img src=x onerror=alert(1)>"
SECRET = "nobody may read this"


class Reply:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.body = answer.read()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a generator of a hostile name, a film, and a secret beside them."""
    folder = tmp_path_factory.mktemp("explore") / HOSTILE
    folder.mkdir()
    file = saved_generator("pvgan-projection", folder)
    file.rename(folder / f"{HOSTILE}.safetensors")
    generator = vidgan.load_generator(folder / f"{HOSTILE}.safetensors")
    clip = vidgan.sample_clips(generator, vidgan.sample_latents(generator, [6]), 2)[0]
    write_mp4(folder / "own.mp4", clip, 8.0, lossless=True)
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Explorer]:
    with explorer(str(place / f"{HOSTILE}.safetensors"), cache=place) as running:
        yield running


@pytest.fixture(autouse=True)
def _still_up(server: Explorer) -> Iterator[None]:
    yield
    assert ask(server, "/api/model").status == 200


def ask(
    server: Explorer,
    target: str,
    method: str = "GET",
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    try:
        connection.request(method, target, body, headers or {})
        return Reply(connection.getresponse())
    finally:
        connection.close()


def projected(server: Explorer, content: bytes) -> dict[str, Any]:
    """The last word of a projection."""
    reply = ask(server, "/api/projection?label=2", "POST", content)
    assert reply.status == 200, reply.body
    found: dict[str, Any] = json.loads(reply.body.splitlines()[-1])
    return found


def test_a_class_that_is_none_is_told(server: Explorer, place: Path) -> None:
    content = (place / "own.mp4").read_bytes()
    reply = ask(server, "/api/projection?label=99", "POST", content)
    assert "no class 99" in json.loads(reply.body.splitlines()[-1])["error"]


def test_clips_are_those_of_python(server: Explorer, place: Path) -> None:
    generator = vidgan.load_generator(place / f"{HOSTILE}.safetensors")
    latents = vidgan.sample_latents(generator, [3])
    body = json.dumps({"latent": latents[0].tolist(), "labels": 1})
    reply = ask(server, "/api/clip", "POST", body)
    shape = [int(n) for n in reply.headers["x-shape"].split(",")]
    values = torch.from_numpy(np.frombuffer(reply.body, "<f4").copy()).reshape(shape)
    with torch.no_grad():
        wanted = generator(latents, torch.tensor([1]))[0]
    torch.testing.assert_close(values, wanted, rtol=1e-5, atol=1e-5)


def test_a_clip_is_projected_and_found(server: Explorer, place: Path) -> None:
    found = projected(server, (place / "own.mp4").read_bytes())["result"]
    assert found["verdict"] == "recovered"
    assert found["class"] == "class 2"


def test_progress_is_told_and_who_has_to_wait_is_told_so(server: Explorer, place: Path) -> None:
    film = (place / "own.mp4").read_bytes()
    first = http.client.HTTPConnection(server.host, server.port, timeout=60)
    first.request("POST", "/api/projection", film)
    answer = first.getresponse()
    told = [json.loads(answer.readline())]
    other = ask(server, "/api/projection?label=2", "POST", film)
    second = [json.loads(line) for line in other.body.splitlines()]
    assert second[0] == {"done": 0, "total": 1, "what": "waiting for others"}
    told += [json.loads(line) for line in answer.read().splitlines()]
    first.close()
    for *lines, last in (told, second[1:]):
        assert 0 < last["result"]["num_starts"] < ProjectionOptions().starts
        searching = [line for line in lines if "limit" in line]
        assert {line["limit"] for line in searching} == {60}
        assert all(0 <= line["done"] <= line["total"] for line in lines)


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%252e%252e%252fsecret.txt",
        "//etc/passwd",
        "/secret.txt",
        "/static/../secret.txt",
        "/api",
        "/api/",
        "/api/model/../../secret.txt",
        "/?model=../secret.txt",
        "/?model=-1",
        "/?model=1",
        "/?model=999999999999",
        "/?model=%00",
        "/api/model?model=..%2fsecret.txt",
        "/\\..\\secret.txt",
    ],
)
def test_nothing_outside_is_read(server: Explorer, target: str) -> None:
    reply = ask(server, target)
    assert reply.status in (400, 404), reply.body[:200]
    assert SECRET.encode() not in reply.body
    assert b"Index of" not in reply.body


def test_names_are_escaped_and_the_page_is_isolated(server: Explorer, place: Path) -> None:
    reply = ask(server, "/")
    assert HOSTILE.encode() not in reply.body
    assert b"&lt;img src=x onerror=alert(1)&gt;" in reply.body
    assert str(place.parent).encode() not in reply.body
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"https?:", policy)
    assert reply.headers["cross-origin-opener-policy"] == "same-origin"
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil"]
)
def test_another_name_for_this_machine_is_refused(server: Explorer, host: str) -> None:
    assert ask(server, "/", headers={"Host": host}).status == 421


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
def test_its_own_names_are_known(server: Explorer, name: str) -> None:
    assert ask(server, "/api/model", headers={"Host": f"{name}:{server.port}"}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
    ],
)
def test_pages_of_other_sites_may_not_ask(server: Explorer, headers: dict[str, str]) -> None:
    for target in ("/api/projection", "/api/clip"):
        assert ask(server, target, "POST", b"{}", headers).status == 403
    if headers.get("Sec-Fetch-Mode") != "navigate":
        assert ask(server, "/", headers=headers).status == 403


def test_its_own_page_may_ask(server: Explorer) -> None:
    own = {"Origin": f"http://{server.host}:{server.port}", "Sec-Fetch-Site": "same-origin"}
    assert ask(server, "/api/clip", "POST", b"{}", own).status == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_not_allowed(server: Explorer, method: str) -> None:
    assert ask(server, "/api/projection", method).status == 405


def test_a_declared_size_is_refused_before_it_is_sent(server: Explorer) -> None:
    with socket.create_connection((server.host, server.port), 30) as stream:
        head = f"POST /api/projection HTTP/1.1\r\nHost: {server.host}\r\n"
        stream.sendall(f"{head}Content-Length: {1 << 40}\r\n\r\nabc".encode())
        assert stream.recv(64).split()[1] == b"413"


def test_an_endless_upload_is_cut_off(server: Explorer) -> None:
    with socket.create_connection((server.host, server.port), 60) as stream:
        head = f"POST /api/projection HTTP/1.1\r\nHost: {server.host}\r\n"
        stream.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        sent = 0
        try:
            while sent < 200:
                stream.sendall(piece)
                sent += 1
        except OSError:
            pass
        assert sent < 150
        try:
            answer = stream.recv(64)
        except OSError:
            answer = b""
        assert not answer or answer.split()[1] == b"413"


def gif_of_a_huge_canvas() -> bytes:
    size = (65_000).to_bytes(2, "little")
    return (
        b"GIF89a" + size + size + b"\x80\x00\x00" + bytes(6)
        + b"\x2c" + bytes(4) + size + size + b"\x00\x02\x02\x44\x01\x00\x3b"
    )  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"no film",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"#EXTM3U\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x00\x00\x00\x18ftypmp42" + bytes(200),
        gif_of_a_huge_canvas(),
        b"PK\x03\x04" + bytes(100),
        bytes(1 << 20),
    ],
    ids=["text", "png", "svg", "playlist", "concat", "mp4", "canvas", "zip", "zeros"],
)
def test_what_is_no_film_gets_a_sentence(server: Explorer, content: bytes) -> None:
    error = projected(server, content)["error"]
    assert error.startswith("the clip: ")
    assert "root:" not in error
    assert "vidgan-upload" not in error


def test_an_empty_upload_is_refused(server: Explorer) -> None:
    assert ask(server, "/api/projection", "POST", b"").status == 400


def test_many_frames_of_one_colour_are_no_bomb(server: Explorer, tmp_path: Path) -> None:
    write_mp4(tmp_path / "long.mp4", torch.zeros(3, 1500, 32, 32).byte(), 8.0)
    assert "result" in projected(server, (tmp_path / "long.mp4").read_bytes())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nothing",
        b"[" * 100_000,
        b'{"latent": "a"}',
        b'{"latent": [1, 2], "labels": 0}',
        b'{"latent": [[[]]]}',
        b'{"latent": null}',
        json.dumps({"latent": [0.0] * 7, "labels": 3}).encode(),
        json.dumps({"latent": [0.0] * 7, "labels": 10**30}).encode(),
        b'{"latent": [NaN, 0, 0, 0, 0, 0, 0], "labels": 0}',
        b'{"latent": [1e400, 0, 0, 0, 0, 0, 0], "labels": 0}',
    ],
)
def test_odd_requests_get_a_sentence(server: Explorer, body: bytes) -> None:
    reply = ask(server, "/api/clip", "POST", body)
    assert reply.status == 400
    assert b"Traceback" not in reply.body


def test_a_thousand_requests_and_slow_clients(server: Explorer) -> None:
    slow = [socket.create_connection((server.host, server.port), 30) for _ in range(150)]
    for stream in slow:
        stream.sendall(b"POST /api/projection HTTP/1.1\r\nHost: local")
    started = time.monotonic()
    statuses: list[int] = []

    def many() -> None:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        for _ in range(125):
            connection.request("GET", "/api/model")
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 1000
    assert time.monotonic() - started < 120
    for stream in slow:
        # Half a question is not waited for.
        assert stream.recv(1) == b""
        stream.close()


def test_a_full_queue_is_told_and_who_leaves_frees_a_place(server: Explorer, place: Path) -> None:
    film = (place / "own.mp4").read_bytes()
    head = f"POST /api/projection HTTP/1.1\r\nHost: {server.host}\r\n"
    waiting = []
    for _ in range(4):
        stream = socket.create_connection((server.host, server.port), 60)
        # All but the last byte: the place is taken, and nothing begins.
        stream.sendall(f"{head}Content-Length: {len(film)}\r\n\r\n".encode() + film[:-1])
        waiting.append(stream)
    time.sleep(1)
    reply = ask(server, "/api/projection", "POST", film)
    assert reply.status == 503
    assert "retry-after" in reply.headers
    assert ask(server, "/api/clip", "POST", b"{}").status == 400
    for stream in waiting:
        stream.close()
    assert "result" in projected(server, film)


def test_a_job_ends_when_its_reader_has_left() -> None:
    from vidgan.sharing.explore.jobs import CancelledError, Queue, Say, narrated

    async def scene() -> list[str]:
        ends: list[str] = []

        def endless(say: Say) -> dict[str, Any]:
            try:
                while True:
                    say({"done": 1})
                    time.sleep(0.01)
            except CancelledError:
                ends.append("cancelled")
                raise

        def short(say: Say) -> dict[str, Any]:
            return {"result": 1}

        async def stays() -> bool:
            return False

        queue = Queue(1, 1)
        words = narrated(queue, endless, stays)
        assert await anext(words) == {"done": 1}
        await words.aclose()
        assert ends == ["cancelled"]
        # The turn is free again.
        assert [one async for one in narrated(queue, short, stays)] == [{"result": 1}]
        return ends

    assert asyncio.run(scene()) == ["cancelled"]


def test_a_token_is_needed_beyond_this_machine(place: Path) -> None:
    file = str(place / f"{HOSTILE}.safetensors")
    with explorer(file, "--host", "0.0.0.0", cache=place) as running:
        token = re.fullmatch(r"http://.+/\?token=([\w-]{20,})", running.address)
        assert token
        here = Explorer(running.process, f"http://127.0.0.1:{running.port}/")
        for target in ("/", "/api/model", "/?token=", "/?token=wrong", "/?token=a&token=b"):
            assert ask(here, target).status == 401, target
        first = ask(here, f"/?token={token[1]}&model=0")
        assert (first.status, first.headers["location"]) == (303, "/?model=0")
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        own = {"Cookie": cookie.partition(";")[0]}
        assert ask(here, "/", headers=own).status == 200
        assert ask(here, "/", headers={"Cookie": own["Cookie"] + "x"}).status == 401
        assert ask(here, "/", headers=own | {"Host": "evil.example"}).status == 421


def test_ctrl_c_ends_it_even_in_the_middle_of_work(place: Path) -> None:
    film = (place / "own.mp4").read_bytes()
    with explorer(str(place / f"{HOSTILE}.safetensors"), cache=place) as running:
        connection = http.client.HTTPConnection(running.host, running.port, timeout=60)
        connection.request("POST", "/api/projection", film)
        connection.getresponse().read(10)
        assert running.interrupt() == 0
        connection.close()


def test_mistakes_get_a_sentence(
    server: Explorer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(place / f"{HOSTILE}.safetensors")
    assert cli.run(["explore"]) == 2
    assert cli.run(["explore", "gone"]) == 2
    assert "there is no run folder or generator file gone" in capsys.readouterr().err
    assert cli.run(["explore", file, "--port", str(server.port)]) == 2
    assert "choose another --port" in capsys.readouterr().err
    assert cli.run(["explore", file, "--port", "70000"]) == 2
    assert "0..65535" in capsys.readouterr().err
    assert cli.run(["explore", file, "--host", "no.such.name.invalid"]) == 2
