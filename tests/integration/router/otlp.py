"""A receiver of OTLP over HTTP: a socket, and the protocol's own messages."""

import asyncio
import contextlib

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Receiver:
    """Keeps what it gets; ``silent`` takes connections and never answers."""

    def __init__(self, *, silent=False):
        self.silent = silent
        self.asked = asyncio.Event()
        self._writers = []
        self.paths, self.requests, self.raw = [], [], b""

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def spans(self):
        """All spans so far, with their attributes as a dict."""
        return [
            (span, {pair.key: _value(pair.value) for pair in span.attributes})
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader, writer):
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._one(reader, writer)

    async def _one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        self.asked.set()
        if self.silent:
            await reader.read()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        self.paths.append(head.split(" ")[1])
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        self.raw += body
        answer = ExportTraceServiceResponse().SerializeToString()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(answer), answer)
        )


def _value(value):
    return getattr(value, value.WhichOneof("value"))
