"""The certificate that the listeners show: what is wrong with it is one line, and a newer one is shown at once."""

import asyncio
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from facade.cli.serving import serving
from facade.cli.sockets import bound
from facade.cli.tls import ServerTls, TlsFiles, server_context
from facade.settings import Address
from node.errors import StartError
from tests.fakes.certificates import trusting, write_certificate


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return write_certificate(tmp_path, "127.0.0.1", "first.test")


@pytest.fixture
def tls(files: TlsFiles) -> ServerTls:
    return ServerTls(files)


def refusal(files: TlsFiles) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(StartError) as caught:
        server_context(files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_openssl_makes_is_taken(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key")
    made = ["-keyout", str(files.key), "-out", str(files.certificate), "-days", "2", "-subj", "/CN=layermesh"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *made]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert server_context(files).minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_a_file_that_is_missing_is_named(files: TlsFiles, which: str) -> None:
    path: Path = getattr(files, which)
    path.unlink()
    setting = {"certificate": "tls_cert", "key": "tls_key"}[which]
    assert refusal(files) == f"{setting} {path}: it cannot be read: no such file or directory"
    os.mkfifo(path)
    assert refusal(files) == f"{setting} {path}: it is no regular file"


def test_a_key_that_may_not_be_read_is_named(files: TlsFiles) -> None:
    files.key.unlink()
    files.key.symlink_to(files.key)  # as root, permission bits keep nothing from being read
    assert f"tls_key {files.key}: it cannot be read: " in refusal(files)


def test_a_key_of_another_certificate_is_told(files: TlsFiles, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_certificate(tmp_path / "other")
    line = refusal(TlsFiles(files.certificate, other.key))
    assert line == f"tls_key {other.key}: it is not the key of tls_cert {files.certificate}"


def test_the_two_files_taken_for_each_other_are_told(files: TlsFiles) -> None:
    assert "a certificate in PEM form is expected" in refusal(TlsFiles(files.key, files.certificate))


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(files: TlsFiles) -> None:
    command = ["openssl", "pkey", "-in", str(files.key), "-aes256", "-passout", "pass:x"]
    files.key.write_bytes(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert refusal(files) == f"tls_key {files.key}: it needs a passphrase; one without is expected"


def test_a_file_that_is_cut_off_is_refused(files: TlsFiles) -> None:
    files.certificate.write_bytes(files.certificate.read_bytes()[:300])
    assert refusal(files).startswith(f"tls_cert {files.certificate} and tls_key {files.key}: they cannot be used: ")


@asynccontextmanager
async def served(tls: ServerTls, handshake_s: float = 5.0) -> AsyncIterator[Address]:
    """An application behind TLS."""
    with bound({"facade": Address("127.0.0.1", 0)}) as listeners:
        apps = {"facade": web.Application()}
        async with serving(apps, listeners, asyncio.Event(), tls={"facade": tls.context}, handshake_s=handshake_s):
            yield listeners["facade"].address


def _names(address: Address, server_name: str | None) -> set[str]:
    """The names in the certificate that a client is shown."""
    context = trusting()
    context.check_hostname = False
    with (
        socket.create_connection((address.host, address.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as client,
    ):
        shown = client.getpeercert()
    assert shown
    return {str(pair[1]) for pair in shown["subjectAltName"]}


async def test_a_renewed_certificate_is_shown_to_the_next_client(tls: ServerTls, tmp_path: Path) -> None:
    async with served(tls) as address:
        assert "first.test" in await asyncio.to_thread(_names, address, "127.0.0.1")
        await asyncio.to_thread(write_certificate, tmp_path, "127.0.0.1", "second.test")
        tls.renew(await asyncio.to_thread(server_context, tls.files))
        for server_name in ("127.0.0.1", "second.test", None):
            assert "second.test" in await asyncio.to_thread(_names, address, server_name)


async def test_who_never_shakes_hands_is_cut(tls: ServerTls) -> None:
    async with served(tls, handshake_s=0.1) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            async with asyncio.timeout(10):
                assert await reader.read() == b""
        finally:
            writer.close()
        assert "first.test" in await asyncio.to_thread(_names, address, "127.0.0.1")


async def test_a_listener_stops_although_a_client_does_not_say_goodbye(tls: ServerTls) -> None:
    """The client is no asyncio one, which would answer the farewell by itself."""

    def ask(address: Address) -> ssl.SSLSocket:
        plain = socket.create_connection((address.host, address.port), timeout=10)
        client = trusting().wrap_socket(plain, server_hostname="127.0.0.1")
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 404"
        return client

    async with asyncio.timeout(10):
        async with served(tls) as address:
            client = await asyncio.to_thread(ask, address)
    client.close()
