"""What the library below Streamlit leaves open: requests that never end, answers that lie waiting.

Before a request is read as a whole there is nothing that an application could answer, so this looks
at the connections themselves. uvicorn has no limit for the time in which the head of a request must
be there, or what it sends, and no answer for WebSocket requests that it takes and its WebSocket
library refuses (long lines, many headers, a body): all of these would hold a connection for as long
as the other side likes.

Answers lie waiting where a socket was opened as Streamlit opens it, without naming its protocol:
``asyncio`` turns Nagle's algorithm off only where TCP is named. With it on, what follows a small
piece (a body its head, a message another) waits until the other side has confirmed the first, which
it puts off for 40 ms.
"""

from __future__ import annotations

import asyncio
import socket
from functools import wraps
from typing import Any

WITHIN_S = 30.0
"""In which the head of a request must be there, from the opening or from the last answer."""
WHOLE_WITHIN_S = 600.0
"""In which what a request sends must be there: 20 MB over the slowest lines that people have."""
_REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 35\r\n"
    b"Connection: close\r\n\r\nThis is no request for a WebSocket.\n"
)


def end_what_cannot_be_answered() -> None:
    """Have every server of this process end such connections; once is enough."""
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    if not hasattr(H11Protocol.connection_made, "__wrapped__"):
        H11Protocol.connection_made = _limited(H11Protocol.connection_made)
        received = WebSocketsSansIOProtocol.data_received
        WebSocketsSansIOProtocol.data_received = _answered(received)


def _send_at_once(transport: asyncio.Transport) -> None:
    """Let nothing that is written wait for what was written before; WebSockets stay on it."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _limited(connection_made: Any) -> Any:
    """The same, and look now and then whether another request was read since."""

    @wraps(connection_made)
    def made(protocol: Any, transport: asyncio.Transport) -> None:
        connection_made(protocol, transport)
        _send_at_once(transport)
        protocol.loop.call_later(WITHIN_S, look, protocol, None, None, 0.0)

    def look(protocol: Any, last: Any, sent: Any, since: float) -> None:
        """``last`` was answered at the last look, ``sent`` is being sent since some time."""
        transport, cycle = protocol.transport, protocol.cycle
        # One that became a WebSocket has another protocol, and its own pings.
        if transport.is_closing() or transport.get_protocol() is not protocol:
            return
        is_answered = cycle is None or cycle.response_complete
        now = protocol.loop.time()
        if is_answered and cycle is last:
            transport.close()
            return
        if is_answered or not cycle.more_body:
            sent = None
        elif cycle is not sent:
            sent, since = cycle, now - WITHIN_S
        elif now - since >= WHOLE_WITHIN_S:
            transport.close()
            return
        last = cycle if is_answered else None
        protocol.loop.call_later(WITHIN_S, look, protocol, last, sent, since)

    return made


def _answered(data_received: Any) -> Any:
    """The same, and answer where the WebSocket library has refused what it was sent."""

    @wraps(data_received)
    def received(protocol: Any, data: bytes) -> None:
        data_received(protocol, data)
        is_refused = protocol.conn.handshake_exc is not None and not protocol.handshake_initiated
        if is_refused and not protocol.transport.is_closing():
            protocol.transport.write(b"".join(protocol.conn.data_to_send()) or _REFUSED)
            protocol.transport.close()

    return received
