"""The client that pyarrow's key tools call."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterable

import pyarrow.parquet.encryption as pe

from ._aws import Aws
from ._azure import Azure
from ._errors import KeyConfigError, NoKeyError
from ._gcp import Gcp
from ._keyfile import KeyFile
from ._service import KeyService
from ._vault import Vault

_SCHEMES: dict[str, Callable[[str], KeyService]] = {
    "keyfile": KeyFile, "awskms": Aws, "azurekeyvault": Azure, "gcpkms": Gcp, "hashivault": Vault,
}


class TasterKmsClient(pe.KmsClient):  # type: ignore[misc]
    """Wraps and unwraps keys by the master keys that key URLs name.

    The URLs are those of ``keys:`` in taster.yaml. Each gives what it names and nothing else: whoever is to read the
    accepted rows gets the URL of that zone's key only. Several URLs may have keys of one name; all of them are tried.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        super().__init__()
        self._services = [open_key(url) for url in dict.fromkeys(urls)]
        if not self._services:
            raise KeyConfigError("no key URL was given: want one such as keyfile:///path/keys.json#name")

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        """Return the key encrypted by a master key, as text."""
        return self._holding(master_key_identifier)[0].wrap(key_bytes, master_key_identifier)

    def unwrap_key(self, wrapped_key: str | bytes, master_key_identifier: str) -> bytes:
        """Undo wrap_key. Raise NoKeyError, WrongKeyError or KeyServiceError."""
        if isinstance(wrapped_key, bytes):
            wrapped_key = wrapped_key.decode("ascii", "replace")
        fault: Exception | None = None
        for service in self._holding(master_key_identifier):
            try:
                return service.unwrap(wrapped_key, master_key_identifier)
            except Exception as e:
                fault = fault or e
        assert fault is not None
        raise fault

    def _holding(self, master_key_id: str) -> list[KeyService]:
        found = [s for s in self._services if s.holds(master_key_id)]
        if not found:
            raise NoKeyError(f"the data wants master key {master_key_id!r}, which none of the given key URLs names")
        return found


def open_key(url: str) -> KeyService:
    """Open the place that a key URL names."""
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise KeyConfigError(f"a key URL begins with {scheme + '://' if scheme else 'no scheme'}: want one of "
                             + ", ".join(f"{s}://" for s in sorted(_SCHEMES)))
    return _SCHEMES[scheme](url)


def connect(config: pe.KmsConnectionConfig) -> TasterKmsClient:
    """Make a client for a connection: what ``pyarrow.parquet.encryption.CryptoFactory`` asks for.

    The key URLs are the values of ``custom_kms_conf``, whatever their names; those of the zones in taster.yaml are a
    good choice. ::

        factory = pe.CryptoFactory(taster_kms.connect)
        config = pe.KmsConnectionConfig(custom_kms_conf={"accepted": "keyfile:///etc/taster/keys.json#accepted"})
    """
    return TasterKmsClient((config.custom_kms_conf or {}).values())


def crypto_factory(*urls: str) -> pe.CryptoFactory:
    """Return a CryptoFactory that has the master keys of these URLs, whatever the connection says."""
    client = TasterKmsClient(urls)
    return pe.CryptoFactory(lambda _config: client)
