"""HashiCorp Vault's transit engine: hashivault://NAME?engine=…&namespace=….

https://developer.hashicorp.com/vault/api-docs/secret/transit. The server and the token are those of Vault's own tools:
VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_CACERT; VAULT_SERVER_URL and VAULT_SERVER_TOKEN come before them.
"""

from __future__ import annotations

import base64
import os
import ssl
import urllib.parse

from ._errors import KeyConfigError, KeyDeniedError, KeyServiceError, NoKeyError, WrongKeyError
from ._http import Post, poster
from ._keyurl import KeyUrl, context


class Vault:
    """An AEAD key. The context is its associated_data; the wrapped text is the ciphertext as Vault returns it, vault:vN:…."""

    def __init__(self, url: str, post: Post | None = None) -> None:
        self._key = KeyUrl.parse(url)
        self._address = (os.environ.get("VAULT_SERVER_URL") or os.environ.get("VAULT_ADDR", "")).rstrip("/")
        token = os.environ.get("VAULT_SERVER_TOKEN") or os.environ.get("VAULT_TOKEN", "")
        if not self._address or not token:
            raise KeyConfigError("Vault: set VAULT_ADDR to its URL and VAULT_TOKEN to a token")
        self._headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        namespace = self._key.params.get("namespace") or os.environ.get("VAULT_NAMESPACE", "")
        if namespace:
            self._headers["X-Vault-Namespace"] = namespace
        self._engine = self._key.params.get("engine", "transit").strip("/")
        self._post = post or poster(ssl.create_default_context(cafile=os.environ.get("VAULT_CACERT") or None))

    def holds(self, master_key_id: str) -> bool:
        return self._key.holds(master_key_id)

    def wrap(self, key: bytes, master_key_id: str) -> str:
        return self._ask("encrypt", {"plaintext": base64.b64encode(key).decode()}, "ciphertext", master_key_id)

    def unwrap(self, wrapped: str, master_key_id: str) -> bytes:
        text = self._ask("decrypt", {"ciphertext": wrapped}, "plaintext", master_key_id)
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            raise KeyServiceError(f"master key {master_key_id!r}: Vault's answer is not base64") from None

    def _ask(self, op: str, body: dict[str, str], want: str, master_key_id: str) -> str:
        if zone := context(master_key_id):
            body["associated_data"] = base64.b64encode(zone.encode()).decode()
        answer = self._post(f"{self._address}/v1/{self._engine}/{op}/{urllib.parse.quote(self._key.key, safe='')}", self._headers, body)
        who = f"master key {master_key_id!r}: Vault answered {answer.status}"
        if answer.status == 403:
            raise KeyDeniedError(f"{who}: the token may not {op} with this key, or is no longer valid")
        if answer.status == 404 or "key not found" in answer.text:
            raise NoKeyError(f"{who}: there is no such key in the engine {self._engine!r}")
        if "disallowed by policy" in answer.text:
            raise KeyDeniedError(f"{who}: that version of the key is out of service (min_decryption_version)")
        if answer.status != 200 and op == "decrypt":
            raise WrongKeyError(f"{who}: what was wrapped belongs to another key or another zone, or was changed")
        data = answer.body.get("data")
        text = data.get(want) if isinstance(data, dict) else None
        if answer.status != 200 or not isinstance(text, str) or not text:
            raise KeyServiceError(f"{who}, without a {want}")
        return text
