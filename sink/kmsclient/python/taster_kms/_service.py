"""What a place that holds master keys must do."""

from __future__ import annotations

from typing import Protocol


class KeyService(Protocol):
    """One place that holds master keys, as one key URL names it."""

    def holds(self, master_key_id: str) -> bool:
        """Tell whether this is the place to ask for a master key."""

    def wrap(self, key: bytes, master_key_id: str) -> str:
        """Return the key encrypted by the master key, as text."""

    def unwrap(self, wrapped: str, master_key_id: str) -> bytes:
        """Undo wrap. Raise NoKeyError, WrongKeyError or KeyServiceError."""
