"""A provider of accounts on this machine, as OpenID Connect has it, that signs in whom it is told.

Discovery, keys, the page where one signs in (which asks nothing and sends back at once), and tokens
signed with RS256.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "csp", "only for tests"


class Provider:
    """The server; ``account`` is whom it signs in, as claims of the ID token."""

    def __init__(self) -> None:
        self.account: dict[str, Any] = {}
        self.signing = self.key = RSAKey.generate_key(2048, {"kid": "1"}, private=True)
        self.audience = CLIENT
        self.nonces: dict[str, str] = {}
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                own._get(self)

            def do_POST(self) -> None:
                own._token(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def discovery(self) -> str:
        return f"{self.url}/.well-known/openid-configuration"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            _say(request, self._described())
        elif parts.path == "/keys":
            _say(request, {"keys": [self.key.as_dict(private=False)]})
        elif parts.path == "/authorize":
            code = secrets.token_urlsafe()
            self.nonces[code] = asked.get("nonce", "")
            back = urlencode({"code": code, "state": asked["state"]})
            request.send_response(302)
            request.send_header("Location", f"{asked['redirect_uri']}?{back}")
            request.end_headers()
        else:
            _say(request, {"error": "not found"}, 404)

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        sent = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        code = parse_qs(sent.decode())["code"][0]
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.audience, "sub": "1", "iat": now, "exp": now + 600}
        claims |= {"nonce": self.nonces.pop(code), **self.account}
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.signing)
        kind = {"token_type": "Bearer", "expires_in": 600}
        _say(request, {"access_token": "a", "id_token": token, **kind})

    def _described(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }


def _say(request: BaseHTTPRequestHandler, answer: dict[str, Any], status: int = 200) -> None:
    body = json.dumps(answer).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """A running provider, closed at the end."""
    running = Provider()
    try:
        yield running
    finally:
        running.close()
