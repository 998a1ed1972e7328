"""Open Parquet files that taster encrypted, with pyarrow.

taster writes Parquet Modular Encryption with the key material of Apache Parquet's key tools, so pyarrow opens its files
with nothing but a client for the place that holds the master keys. This package is that client::

    import pyarrow.parquet as pq
    import pyarrow.parquet.encryption as pe
    import taster_kms

    factory = taster_kms.crypto_factory("keyfile:///etc/taster/keys.json#default")
    keys = factory.file_decryption_properties(pe.KmsConnectionConfig())
    table = pq.ParquetFile("part.parquet", decryption_properties=keys).read()

A key URL is what stands under ``keys:`` in taster.yaml. Reading needs the right to decrypt only.
"""

from ._client import TasterKmsClient, connect, crypto_factory, open_key
from ._errors import KeyConfigError, KeyDeniedError, KeyServiceError, NoKeyError, WrongKeyError
from ._service import KeyService

__all__ = [
    "KeyConfigError",
    "KeyDeniedError",
    "KeyService",
    "KeyServiceError",
    "NoKeyError",
    "TasterKmsClient",
    "WrongKeyError",
    "connect",
    "crypto_factory",
    "open_key",
]
