"""Azure Key Vault: azurekeyvault://VAULT-HOST/keys/NAME, also with /VERSION.

https://learn.microsoft.com/rest/api/keyvault/keys/decrypt. The login is DefaultAzureCredential of the extra
taster-kms[azure].
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable

from ._errors import KeyConfigError, KeyDeniedError, KeyServiceError, NoKeyError, WrongKeyError
from ._http import Post, poster
from ._keyurl import KeyUrl, context

_API = "7.4"
_ALGORITHM = "RSA-OAEP-256"
_NAME = re.compile(r"[^/]+\.[^/]+/keys/[^/]+(/[^/]+)?")


class Azure:
    """An RSA key, used with RSA-OAEP-256.

    The service knows no additional data, so that what it encrypts is context ‖ 00 ‖ key, and the context is compared when
    it was decrypted. The wrapped text is VERSION.CIPHERTEXT, the ciphertext in unpadded base64url.
    """

    def __init__(self, url: str, token: Callable[[], str] | None = None, post: Post | None = None) -> None:
        self._key = KeyUrl.parse(url)
        if not _NAME.fullmatch(self._key.key):
            raise KeyConfigError("want azurekeyvault://VAULT-HOST/keys/NAME or …/keys/NAME/VERSION")
        self._host, _, self._name, *version = self._key.key.split("/")
        self._version = version[0] if version else ""
        self._token = token or _default_token(self._host)
        self._post = post or poster()

    def holds(self, master_key_id: str) -> bool:
        return self._key.holds(master_key_id)

    def wrap(self, key: bytes, master_key_id: str) -> str:
        bound = context(master_key_id).encode() + b"\0" + key
        sealed, kid = self._ask("encrypt", self._version, bound, master_key_id)
        version = kid.rpartition("/")[2]
        if not re.fullmatch("[0-9a-fA-F]+", version):
            raise KeyServiceError(f"master key {master_key_id!r}: Azure Key Vault's answer names no version of the key")
        return f"{version}.{_encode(sealed)}"

    def unwrap(self, wrapped: str, master_key_id: str) -> bytes:
        at = re.fullmatch(r"([0-9a-fA-F]+)\.([A-Za-z0-9_-]+)", wrapped)
        if not at:
            raise WrongKeyError(f"master key {master_key_id!r}: the wrapped key is not what Azure Key Vault returns")
        bound, _ = self._ask("decrypt", at[1], _decode(at[2]), master_key_id)
        prefix = context(master_key_id).encode() + b"\0"
        if not hmac.compare_digest(bound[: len(prefix)], prefix):
            raise WrongKeyError(f"master key {master_key_id!r}: the key was wrapped for another zone")
        return bound[len(prefix):]

    def _ask(self, op: str, version: str, value: bytes, master_key_id: str) -> tuple[bytes, str]:
        path = "/".join(filter(None, ("keys", self._name, version, op)))
        answer = self._post(f"https://{self._host}/{path}?api-version={_API}", {"Authorization": "Bearer " + self._token()},
                            {"alg": _ALGORITHM, "value": _encode(value)})
        who = f"master key {master_key_id!r}: Azure Key Vault answered {answer.status}"
        if "KeyDisabled" in answer.text or "KeyExpired" in answer.text or answer.status == 409:
            raise KeyDeniedError(f"{who}: the key is disabled or deleted")
        if answer.status == 404:
            raise NoKeyError(f"{who}: there is no such key")
        if answer.status in (401, 403):
            raise KeyDeniedError(f"{who}: this account may not {op} with the key")
        if answer.status != 200 and op == "decrypt":
            raise WrongKeyError(f"{who}: what was wrapped belongs to another key, or was changed")
        text, kid = answer.body.get("value"), answer.body.get("kid")
        if answer.status != 200 or not isinstance(text, str) or not isinstance(kid, str):
            raise KeyServiceError(f"{who}, without a key")
        return _decode(text), kid


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise KeyServiceError("Azure Key Vault's answer is not base64") from None


def _default_token(host: str) -> Callable[[], str]:
    try:
        import azure.core.exceptions
        import azure.identity
    except ImportError:
        raise KeyConfigError("azurekeyvault:// needs more packages: pip install 'taster-kms[azure]'") from None
    credential = azure.identity.DefaultAzureCredential()
    scope = f"https://{host.partition('.')[2]}/.default"  # vault.azure.net, or that of another cloud

    def token() -> str:
        try:
            return str(credential.get_token(scope).token)
        except azure.core.exceptions.ClientAuthenticationError as e:
            raise KeyDeniedError(f"the login at Azure failed: {type(e).__name__}") from None

    return token
