"""A TCP proxy in front of the web server that does what networks do: refuses websockets, breaks, is slow."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class Proxy:
    """A proxy on a free port of loopback, in a thread of its own.

    Attributes:
        refuses_websockets: answers an upgrade with 403, as some company proxies do.
        cut_after: breaks the connection once so many more bytes have gone up; None leaves it whole.
        pause_s: between two pieces of 64 KiB that go up.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._connections: set[asyncio.StreamWriter] = set()
        self.refuses_websockets = False
        self.cut_after: int | None = None
        self.pause_s = 0.0
        self.cuts = 0
        self.sent_up = 0
        self._is_cut_off = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._listening.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut_off(self, is_cut_off: bool) -> None:
        """Break every connection and refuse new ones, or let them through again."""
        self._is_cut_off = is_cut_off
        if is_cut_off:
            for connection in list(self._connections):
                self._loop.call_soon_threadsafe(connection.transport.abort)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut_off:
            writer.transport.abort()
            return
        self._connections.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._up(reader, up_writer, writer), self._down(up_reader, writer))
        self._connections.discard(writer)
        for end in (writer, up_writer):
            end.close()

    async def _up(self, reader, up_writer, writer) -> None:
        while piece := await reader.read(65536):
            if self.refuses_websockets and b"upgrade: websocket" in piece.lower():
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                break
            if self._cuts_here(len(piece)):
                writer.transport.abort()
                break
            up_writer.write(piece)
            await up_writer.drain()
            self.sent_up += len(piece)
            await asyncio.sleep(self.pause_s)
        up_writer.close()

    def _cuts_here(self, size: int) -> bool:
        if self.cut_after is None:
            return False
        self.cut_after -= size
        if self.cut_after >= 0:
            return False
        self.cut_after = None
        self.cuts += 1
        return True

    async def _down(self, up_reader, writer) -> None:
        while piece := await up_reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.close()
