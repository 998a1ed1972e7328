#!/usr/bin/env python3
"""Read the rows of a landing zone with pyarrow, given the local key file, and nothing of taster's.

    pip install pyarrow cryptography
    python3 pyarrow_read.py LANDING KEYS.json [VERDICT]

This shows that the formats are open, and how little it takes. For work, see readers.md.
"""
import base64
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class KeyFileKms(pe.KmsClient):
    """Master keys from a file: AES-GCM, the key's name as AAD, base64 of nonce, ciphertext and tag."""

    def __init__(self, path):
        super().__init__()
        keys = json.loads(pathlib.Path(path).read_text())["keys"]
        self.keys = {name: AESGCM(base64.b64decode(key)) for name, key in keys.items()}

    def wrap_key(self, key_bytes, master_key_identifier):
        raise NotImplementedError("this client only reads")

    def unwrap_key(self, wrapped_key, master_key_identifier):
        wrapped = base64.b64decode(wrapped_key)
        return self.keys[master_key_identifier].decrypt(wrapped[:12], wrapped[12:], master_key_identifier.encode())


def committed(landing):
    """Return the files that count, by name: those of the manifests, as later changes leave them.

    What a killed writer left behind, what is not committed yet and what was compacted or has expired is not among them.
    Manifests are read first: a change speaks of files that manifests, or changes before it, have listed.
    """
    files, removed = {}, set()
    for manifest in sorted(landing.glob("_commits/*/*/*/*.json")):
        files.update((f["name"], f) for f in json.loads(manifest.read_text())["files"])
    for path in sorted(landing.glob("_changes/*/*/*/*.json")):
        change = json.loads(path.read_text())
        files.update((f["name"], f) for f in change["added"])
        removed.update(f["name"] for f in change["removed"])
    return {name: file for name, file in files.items() if name not in removed}


def read(landing, key_file, verdict="accepted", columns=None):
    """Return the committed rows with a verdict as one pyarrow table."""
    landing = pathlib.Path(landing)
    factory = pe.CryptoFactory(lambda _: KeyFileKms(key_file))
    tables = []
    for name, file in sorted(committed(landing).items()):
        if file["verdict"] == verdict:
            # The path and the file system are for key material that lies beside the file.
            path = str(landing / name)
            keys = factory.file_decryption_properties(pe.KmsConnectionConfig(), pe.DecryptionConfiguration(),
                                                      parquet_file_path=path, filesystem=pyarrow.fs.LocalFileSystem())
            tables.append(pq.ParquetFile(path, decryption_properties=keys).read(columns=columns))
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    table = read(*sys.argv[1:4])
    for row in table.to_pylist():
        print(json.dumps(row, default=lambda v: base64.b64encode(v).decode() if isinstance(v, bytes) else str(v)))
