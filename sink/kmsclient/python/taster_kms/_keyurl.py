"""URLs of master keys in key services, and the master key ids that follow from them."""

from __future__ import annotations

import ipaddress
import urllib.parse
from dataclasses import dataclass

from ._errors import KeyConfigError

# By scheme: what an id keeps, as it is needed to find the key from anywhere, and what says only how this machine gets there.
_KEPT = {"awskms": ("region",), "azurekeyvault": (), "gcpkms": (), "hashivault": ("engine",)}
_LOCAL = {"awskms": ("endpoint", "profile"), "azurekeyvault": (), "gcpkms": ("endpoint",), "hashivault": ("namespace",)}


@dataclass(frozen=True)
class KeyUrl:
    """The URL of a master key, taken apart: SCHEME://KEY?PARAMETERS."""

    scheme: str
    key: str
    params: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> KeyUrl:
        """Take a URL apart. Raise KeyConfigError."""
        scheme, _, rest = text.partition("://")
        if scheme not in _KEPT:
            raise KeyConfigError(f"unknown scheme; want one of keyfile, {', '.join(_KEPT)}")
        if "#" in rest:
            raise KeyConfigError(f"{scheme}: nothing stands behind #: taster puts the zone there itself")
        key, _, query = rest.partition("?")
        key = key.removeprefix("/")
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise KeyConfigError(f"no key is named behind {scheme}://")
        params = {}
        for name, values in urllib.parse.parse_qs(query, keep_blank_values=True).items():
            if name not in _KEPT[scheme] + _LOCAL[scheme]:
                raise KeyConfigError(f"{scheme}: unknown parameter behind ?; want one of {_KEPT[scheme] + _LOCAL[scheme]}")
            if len(values) != 1 or not values[0]:
                raise KeyConfigError(f"{scheme}: {name} needs one value")
            params[name] = values[0]
        if "endpoint" in params:
            _check_endpoint(params["endpoint"])
        return cls(scheme, key, params)

    @property
    def id(self) -> str:
        """The master key id, without zone: the URL without what is of this machine only."""
        slash = "/" if ":" in self.key else ""  # an ARN
        kept = sorted((name, self.params[name]) for name in _KEPT[self.scheme] if name in self.params)
        return f"{self.scheme}://{slash}{self.key}" + (f"?{urllib.parse.urlencode(kept)}" if kept else "")

    def holds(self, master_key_id: str) -> bool:
        """Tell whether an id is that of this key: with or without a zone, or the service's own name of it, by which
        other programs may have wrapped."""
        return split_zone(master_key_id)[0] in (self.id, self.key)


def split_zone(master_key_id: str) -> tuple[str, str]:
    """Split KEYURL#ZONE. The zone is "" where the id tells none."""
    if "://" not in master_key_id:
        return master_key_id, ""
    url, _, zone = master_key_id.partition("#")
    return url, zone


def context(master_key_id: str) -> str:
    """Return what a key service binds to a key that it wraps: taster_zone=ZONE, or "" without a zone."""
    zone = split_zone(master_key_id)[1]
    return f"{CONTEXT_KEY}={zone}" if zone else ""


CONTEXT_KEY = "taster_zone"


def _check_endpoint(endpoint: str) -> None:
    """Refuse what would carry keys in clear."""
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise KeyConfigError("endpoint is not a URL: want https://HOST:PORT")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise KeyConfigError("endpoint: http:// would carry keys in clear; use https://")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
