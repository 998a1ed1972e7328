"""AWS KMS: awskms://KEYID, awskms://alias/NAME or awskms:///ARN, with ?region=…&endpoint=…&profile=….

Asked through boto3, by the extra taster-kms[aws], with the credentials that boto3 finds.
"""

from __future__ import annotations

import base64
from typing import Any

from ._errors import KeyConfigError, KeyDeniedError, KeyServiceError, NoKeyError, WrongKeyError
from ._keyurl import CONTEXT_KEY, KeyUrl, split_zone

_DENIED = {"AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
           "ExpiredTokenException", "MissingAuthenticationTokenException", "NotAuthorized", "InvalidGrantTokenException",
           "DisabledException", "KMSInvalidStateException"}
_WRONG = {"InvalidCiphertextException", "IncorrectKeyException"}


class Aws:
    """A symmetric key. The zone is the member taster_zone of the encryption context; the wrapped text is the base64 of the
    CiphertextBlob."""

    def __init__(self, url: str, client: Any = None) -> None:
        self._key = KeyUrl.parse(url)
        self._client = client or _client(self._key)

    def holds(self, master_key_id: str) -> bool:
        return self._key.holds(master_key_id)

    def wrap(self, key: bytes, master_key_id: str) -> str:
        out = self._ask("encrypt", "CiphertextBlob", master_key_id, KeyId=self._key.key, Plaintext=key)
        return base64.b64encode(out).decode()

    def unwrap(self, wrapped: str, master_key_id: str) -> bytes:
        try:
            blob = base64.b64decode(wrapped, validate=True)
        except ValueError:
            raise WrongKeyError(f"master key {master_key_id!r}: the wrapped key is not what AWS KMS returns") from None
        # An alias may point to a new key meanwhile; what was wrapped tells the service by which key.
        alias = self._key.key.startswith("alias/") or ":alias/" in self._key.key
        return self._ask("decrypt", "Plaintext", master_key_id, CiphertextBlob=blob, **({} if alias else {"KeyId": self._key.key}))

    def _ask(self, op: str, want: str, master_key_id: str, **request: Any) -> bytes:
        import botocore.exceptions

        if zone := split_zone(master_key_id)[1]:
            request["EncryptionContext"] = {CONTEXT_KEY: zone}
        who = f"master key {master_key_id!r}: AWS KMS"
        try:
            out = getattr(self._client, op)(**request)[want]
        except botocore.exceptions.ClientError as e:
            code = str(e.response.get("Error", {}).get("Code", ""))[:60]
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
            raise KeyDeniedError(f"{who}: no credentials were found") from None
        except botocore.exceptions.BotoCoreError as e:
            raise KeyServiceError(f"{who} could not be asked: {type(e).__name__}") from None
        else:
            return bytes(out)
        if code == "NotFoundException":
            raise NoKeyError(f"{who}: there is no such key")
        if code in _DENIED:
            raise KeyDeniedError(f"{who}: {code}: this account may not {op} with the key, or the key is out of service")
        if code in _WRONG:
            raise WrongKeyError(f"{who}: {code}: what was wrapped belongs to another key or another zone, or was changed")
        raise KeyServiceError(f"{who} answered {code}")


def _client(key: KeyUrl) -> Any:
    try:
        import boto3
        import botocore.config
        import botocore.exceptions
    except ImportError:
        raise KeyConfigError("awskms:// needs more packages: pip install 'taster-kms[aws]'") from None
    region = key.params.get("region")
    if not region and key.key.startswith("arn:"):
        region = key.key.split(":")[3]
    try:
        session = boto3.session.Session(profile_name=key.params.get("profile"), region_name=region)
        retries = botocore.config.Config(retries={"mode": "standard", "max_attempts": 6}, connect_timeout=15, read_timeout=15)
        return session.client("kms", endpoint_url=key.params.get("endpoint"), config=retries)
    except botocore.exceptions.BotoCoreError as e:
        raise KeyConfigError(f"AWS KMS: {e}") from None
