"""Master keys in a local file, for trying things out: keyfile:///path/keys.json#name."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import urllib.parse

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ._errors import KeyConfigError, NoKeyError, WrongKeyError

_NONCE = 12
_LIMIT = 1 << 20


class KeyFile:
    """The keys of one file: ``{"version":1,"keys":{"name":"<base64 of 32 bytes>"}}``, readable by its owner only.

    Wrapping is base64(nonce 12 ‖ ciphertext ‖ tag 16), AES-256-GCM, with the UTF-8 bytes of the master key id as
    additional data, as parquet-java's ``KeyToolkit.encryptKeyLocally``.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        path = urllib.parse.unquote(parts.path)
        if parts.netloc or not path.startswith("/"):
            raise KeyConfigError(f"{url!r}: want keyfile:///path/keys.json#name, an absolute path with three slashes")
        self.path = path
        keys = _load(path)
        name = urllib.parse.unquote(parts.fragment)
        if name and name not in keys:
            raise KeyConfigError(f"key file {path} has no key {name!r}, only {', '.join(sorted(keys))}")
        # A URL that names a key gives that key only; one that names none gives all of the file.
        self._keys = {name: keys[name]} if name else keys

    def holds(self, master_key_id: str) -> bool:
        return master_key_id in self._keys

    def wrap(self, key: bytes, master_key_id: str) -> str:
        nonce = os.urandom(_NONCE)
        sealed = self._master(master_key_id).encrypt(nonce, key, master_key_id.encode())
        return base64.b64encode(nonce + sealed).decode("ascii")

    def unwrap(self, wrapped: str, master_key_id: str) -> bytes:
        master = self._master(master_key_id)
        try:
            sealed = base64.b64decode(wrapped, validate=True)
            return master.decrypt(sealed[:_NONCE], sealed[_NONCE:], master_key_id.encode())
        except (ValueError, InvalidTag):
            raise WrongKeyError(
                f"key file {self.path}, key {master_key_id!r}: wrong key, or the key material was changed"
            ) from None

    def _master(self, master_key_id: str) -> AESGCM:
        if master_key_id not in self._keys:
            raise NoKeyError(f"key file {self.path} gives no key {master_key_id!r}, only {', '.join(sorted(self._keys))}")
        return self._keys[master_key_id]

    def __repr__(self) -> str:
        return f"KeyFile({self.path!r})"


def _load(path: str) -> dict[str, AESGCM]:
    try:
        with open(path, "rb") as f:
            mode = os.fstat(f.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise KeyConfigError(f"key file {path} is not a file")
            if os.name == "posix" and mode & 0o077:
                raise KeyConfigError(f"key file {path} can be read by others: chmod 0600 {path}")
            text = f.read(_LIMIT + 1)
    except OSError as e:
        raise KeyConfigError(f"key file {path}: {e.strerror}") from None
    if len(text) > _LIMIT:
        raise KeyConfigError(f"key file {path} is larger than 1 MiB")
    # Neither the text nor what a parser says of it may stand in an error: both can hold keys.
    try:
        content = json.loads(text)
    except ValueError:
        raise KeyConfigError(f"key file {path} is broken: not JSON") from None
    if not isinstance(content, dict) or set(content) != {"version", "keys"} or not isinstance(content["keys"], dict):
        raise KeyConfigError(f"key file {path} is broken: want an object of version and keys")
    if content["version"] != 1:
        raise KeyConfigError(f"key file {path} is of another version than 1")
    keys = {}
    for name, value in content["keys"].items():
        try:
            key = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != 32 or not name:
            raise KeyConfigError(f"key file {path}, key {name!r}: want a name, and base64 of 32 bytes")
        keys[name] = AESGCM(key)
    if not keys:
        raise KeyConfigError(f"key file {path} has no key")
    return keys
