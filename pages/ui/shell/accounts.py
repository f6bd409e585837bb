"""Who is signed in, read from the cookie that Streamlit signed; for what no page answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from streamlit.auth_util import get_cookie_with_chunks, get_origin_from_redirect_uri
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME


def user_of(cookies: Mapping[str, str]) -> dict[str, Any]:
    """The account as ``st.user`` would hold it; empty where the cookie is not of this server."""
    if USER_COOKIE_NAME not in cookies:
        return {}
    secret = get_cookie_secret()

    def signed(name: str) -> bytes | None:
        value = cookies.get(name)
        return None if value is None else decode_signed_value(secret, name, value.encode("latin-1"))

    try:
        user = json.loads(get_cookie_with_chunks(signed, USER_COOKIE_NAME) or b"{}")
    except ValueError:
        return {}
    is_ours = isinstance(user, dict) and user.pop("origin", "") == get_origin_from_redirect_uri()
    return user if is_ours else {}
