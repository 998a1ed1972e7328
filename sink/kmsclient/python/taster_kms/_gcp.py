"""Google Cloud KMS: gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K?endpoint=….

https://cloud.google.com/kms/docs/reference/rest. The login is Google's usual one (application default credentials), by the
packages of the extra taster-kms[gcp].
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from ._errors import KeyConfigError, KeyDeniedError, KeyServiceError, NoKeyError, WrongKeyError
from ._http import Post, poster
from ._keyurl import KeyUrl, context


class Gcp:
    """A symmetric key. The context is the additional authenticated data; the wrapped text is the base64 of the ciphertext."""

    def __init__(self, url: str, token: Callable[[], str] | None = None, post: Post | None = None) -> None:
        self._key = KeyUrl.parse(url)
        self._endpoint = self._key.params.get("endpoint", "https://cloudkms.googleapis.com").rstrip("/")
        self._token = token or _default_token()
        self._post = post or poster()

    def holds(self, master_key_id: str) -> bool:
        return self._key.holds(master_key_id)

    def wrap(self, key: bytes, master_key_id: str) -> str:
        return base64.b64encode(self._ask("encrypt", "plaintext", key, "ciphertext", master_key_id)).decode()

    def unwrap(self, wrapped: str, master_key_id: str) -> bytes:
        try:
            sealed = base64.b64decode(wrapped, validate=True)
        except ValueError:
            raise WrongKeyError(f"master key {master_key_id!r}: the wrapped key is not what Google Cloud KMS returns") from None
        return self._ask("decrypt", "ciphertext", sealed, "plaintext", master_key_id)

    def _ask(self, op: str, name: str, value: bytes, want: str, master_key_id: str) -> bytes:
        aad = context(master_key_id).encode()
        body = {name: base64.b64encode(value).decode(), name + "Crc32c": str(crc32c(value))}
        if aad:
            body |= {"additionalAuthenticatedData": base64.b64encode(aad).decode(), "additionalAuthenticatedDataCrc32c": str(crc32c(aad))}
        answer = self._post(f"{self._endpoint}/v1/{self._key.key}:{op}", {"Authorization": "Bearer " + self._token()}, body)
        who = f"master key {master_key_id!r}: Google Cloud KMS answered {answer.status}"
        if answer.status == 404:
            raise NoKeyError(f"{who}: there is no such key")
        if answer.status in (401, 403):
            raise KeyDeniedError(f"{who}: this account may not {op} with the key")
        if "FAILED_PRECONDITION" in answer.text:
            raise KeyDeniedError(f"{who}: the key is disabled or destroyed")
        if answer.status != 200 and op == "decrypt":
            raise WrongKeyError(f"{who}: what was wrapped belongs to another key or another zone, or was changed")
        try:
            out = base64.b64decode(answer.body[want], validate=True)
            # Damage on the way would make data unreadable for good.
            sound = int(answer.body[want + "Crc32c"]) == crc32c(out) and (op == "decrypt" or answer.body["verifiedPlaintextCrc32c"] is True)
        except (KeyError, TypeError, ValueError):
            sound = False
        if answer.status != 200 or not sound:
            raise KeyServiceError(f"{who}, without a sound {want}")
        return out


def _default_token() -> Callable[[], str]:
    try:
        import google.auth
        import google.auth.exceptions
        import google.auth.transport.requests
    except ImportError:
        raise KeyConfigError("gcpkms:// needs more packages: pip install 'taster-kms[gcp]'") from None
    credentials: Any  # partly typed only
    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloudkms"])
    except google.auth.exceptions.GoogleAuthError as e:
        raise KeyConfigError(f"no login for Google Cloud: {type(e).__name__}") from None
    request = google.auth.transport.requests.Request()

    def token() -> str:
        if not credentials.valid:
            try:
                credentials.refresh(request)
            except google.auth.exceptions.GoogleAuthError as e:
                raise KeyDeniedError(f"the login at Google Cloud failed: {type(e).__name__}") from None
        return str(credentials.token)

    return token


def _table() -> list[int]:
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), RFC 3720 B.4."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
