"""Asking key services over HTTP."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._errors import KeyServiceError

_TIMEOUT = 15.0  # seconds, of one call
_ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds; waits double
_LIMIT = 1 << 20
_REFUSED = "message authentication failed"  # with which Vault refuses, with status 500, what was wrapped otherwise


@dataclass(frozen=True)
class Answer:
    """What a service answered: the status, and the JSON object of the body, empty where there was none."""

    status: int
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """All of the body that an error is sorted by. It may quote keys and is never shown."""
        return json.dumps(self.body)


# Ask a URL with headers and the members of a JSON object. Raise KeyServiceError when no answer comes.
Post = Callable[[str, dict[str, str], dict[str, str]], Answer]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token, and keys, to somewhere that nobody has named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def poster(tls: ssl.SSLContext | None = None, sleep: Callable[[float], None] = time.sleep) -> Post:
    """Return a Post that asks again, with growing waits, while a service throttles or is away."""
    opener = urllib.request.build_opener(_NoRedirect(), urllib.request.HTTPSHandler(context=tls or ssl.create_default_context()))

    def once(url: str, headers: dict[str, str], body: dict[str, str]) -> tuple[Answer, str]:
        request = urllib.request.Request(url, json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}, method="POST")
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                return Answer(response.status, _object(response.read(_LIMIT))), ""
        except urllib.error.HTTPError as e:
            with e:
                return Answer(e.code, _object(e.read(_LIMIT))), e.headers.get("Retry-After", "")

    def post(url: str, headers: dict[str, str], body: dict[str, str]) -> Answer:
        wait = _FIRST_WAIT
        for attempt in range(1, _ATTEMPTS + 1):
            fault, asked = "", 0.0
            try:
                answer, seconds = once(url, headers, body)
            except (OSError, http.client.HTTPException) as e:
                # Of an error of unknown make only the kind is told.
                fault = str(e.reason) if isinstance(e, urllib.error.URLError) else type(e).__name__
            else:
                final = answer.status not in (408, 412, 429, 472, 473) and answer.status < 500
                if final or _REFUSED in answer.text:
                    return answer
                fault = f"status {answer.status}"
                asked = float(seconds) if seconds.isdigit() else 0.0
            if attempt < _ATTEMPTS:
                sleep(max(min(asked, 10 * _LONGEST_WAIT), wait * random.uniform(0.5, 1)))
                wait = min(2 * wait, _LONGEST_WAIT)
        raise KeyServiceError(f"the key service did not answer {_ATTEMPTS} times: {fault}")

    return post


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
