"""What can go wrong with a key. No message ever holds key bytes, plain or wrapped."""


class KeyConfigError(ValueError):
    """A key URL, a key file or a connection's settings are unusable, however often one tries."""


class NoKeyError(LookupError):
    """No master key of that name is at hand: whoever wrote the data used another than those that were given."""


class WrongKeyError(ValueError):
    """A master key of that name is at hand and does not open what was wrapped.

    It is another key than the one that wrapped, or the wrapped bytes were changed.
    """


class KeyDeniedError(PermissionError):
    """The key service does not let this process use the key, or the key is out of service."""


class KeyServiceError(ConnectionError):
    """A key service gave no answer, though it was asked several times, or one that makes no sense."""
