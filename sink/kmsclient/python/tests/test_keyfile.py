"""The key file: what it opens, what it refuses, and that no message tells a key."""
import base64
import json
import os
import pathlib
import tempfile
import unittest

import pyarrow.parquet.encryption as pe
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import taster_kms

KEY = bytes(range(32))
OTHER = bytes(32)


class KeyFileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, content, name="keys.json", mode=0o600):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        path.chmod(mode)
        return f"keyfile://{path}"

    def keys(self, name="keys.json", **keys):
        return self.write({"version": 1, "keys": {n: base64.b64encode(k).decode() for n, k in keys.items()}}, name)

    def test_layout(self):
        client = taster_kms.TasterKmsClient([self.keys(k=KEY)])
        wrapped = client.wrap_key(OTHER, "k")
        raw = base64.b64decode(wrapped)
        self.assertEqual(len(raw), 12 + 32 + 16)
        self.assertEqual(AESGCM(KEY).decrypt(raw[:12], raw[12:], b"k"), OTHER)
        self.assertEqual(client.unwrap_key(wrapped, "k"), OTHER)
        self.assertNotEqual(client.wrap_key(OTHER, "k"), wrapped, "a nonce was used twice")

    def test_bound_to_its_name(self):
        client = taster_kms.TasterKmsClient([self.keys(a=KEY, b=KEY)])
        with self.assertRaises(taster_kms.WrongKeyError):
            client.unwrap_key(client.wrap_key(OTHER, "a"), "b")

    def test_every_changed_byte(self):
        client = taster_kms.TasterKmsClient([self.keys(k=KEY)])
        wrapped = client.wrap_key(OTHER, "k")
        for i in range(len(wrapped)):
            for to in "A", "!":
                changed = wrapped[:i] + to + wrapped[i + 1:]
                if changed != wrapped:
                    with self.assertRaises(taster_kms.WrongKeyError):
                        client.unwrap_key(changed, "k")
        for cut in range(len(wrapped)):
            with self.assertRaises(taster_kms.WrongKeyError):
                client.unwrap_key(wrapped[:cut], "k")

    def test_a_url_gives_what_it_names(self):
        url = self.keys(a=KEY, b=KEY)
        wrapped = taster_kms.TasterKmsClient([url]).wrap_key(OTHER, "b")
        with self.assertRaisesRegex(taster_kms.NoKeyError, "'b'"):
            taster_kms.TasterKmsClient([url + "#a"]).unwrap_key(wrapped, "b")
        self.assertEqual(taster_kms.TasterKmsClient([url + "#b"]).unwrap_key(wrapped, "b"), OTHER)

    def test_same_name_in_two_files(self):
        one, two = self.keys("one.json", k=OTHER), self.keys("two.json", k=KEY)
        wrapped = taster_kms.TasterKmsClient([two]).wrap_key(OTHER, "k")
        self.assertEqual(taster_kms.TasterKmsClient([one, two]).unwrap_key(wrapped, "k"), OTHER)
        with self.assertRaises(taster_kms.WrongKeyError):
            taster_kms.TasterKmsClient([one]).unwrap_key(wrapped, "k")

    def test_connection(self):
        url = self.keys(k=KEY)
        client = taster_kms.connect(pe.KmsConnectionConfig(custom_kms_conf={"accepted": url}))
        self.assertEqual(client.unwrap_key(client.wrap_key(OTHER, "k"), "k"), OTHER)
        with self.assertRaises(taster_kms.KeyConfigError):
            taster_kms.connect(pe.KmsConnectionConfig())

    @unittest.skipIf(os.name != "posix", "modes are a matter of POSIX")
    def test_mode(self):
        for mode in 0o640, 0o604, 0o620:
            path = self.folder / "open.json"
            with self.assertRaisesRegex(taster_kms.KeyConfigError, "chmod 0600"):
                taster_kms.TasterKmsClient([self.write({"version": 1, "keys": {}}, "open.json", mode)])
            path.chmod(0o600)

    def test_broken_files(self):
        secret = base64.b64encode(KEY).decode()
        for content, word in (
            ('{"version":1,"keys":{"k":"%s"}' % secret, "not JSON"),
            ({"version": 2, "keys": {"k": secret}}, "version"),
            ({"version": 1, "keys": {"k": secret}, "more": secret}, "version and keys"),
            ({"version": 1, "keys": [secret]}, "version and keys"),
            ([secret], "version and keys"),
            ({"version": 1, "keys": {}}, "no key"),
            ({"version": 1, "keys": {"k": secret[:8]}}, "32 bytes"),
            ({"version": 1, "keys": {"k": secret[:-2] + "!="}}, "32 bytes"),
            ({"version": 1, "keys": {"k": 5}}, "32 bytes"),
            ({"version": 1, "keys": {"": secret}}, "a name"),
            (" " * (1 << 20) + "{}", "1 MiB"),
        ):
            with self.assertRaises(taster_kms.KeyConfigError) as caught:
                taster_kms.TasterKmsClient([self.write(content)])
            self.assertIn(word, str(caught.exception))
            self.assert_tells_no_key(caught.exception)

    def test_bad_urls(self):
        url = self.keys(k=KEY)
        for bad in (url + "#none", url + "x", "keyfile://host/keys.json", "keyfile:keys.json", "unknown://x", "keys.json", ""):
            with self.assertRaises(taster_kms.KeyConfigError, msg=bad):
                taster_kms.TasterKmsClient([bad])
        with self.assertRaises(taster_kms.KeyConfigError):
            taster_kms.TasterKmsClient([])

    def assert_tells_no_key(self, exception):
        while exception is not None:
            for text in str(exception), repr(exception), repr(exception.args):
                for key in KEY, OTHER:
                    self.assertNotIn(base64.b64encode(key).decode(), text)
                    self.assertNotIn(key.hex(), text)
                    self.assertNotIn(repr(key)[2:-1], text)
            exception = None if exception.__suppress_context__ else exception.__context__

    def test_tells_no_key(self):
        client = taster_kms.TasterKmsClient([self.keys(k=KEY)])
        wrapped = client.wrap_key(KEY, "k")
        for call in (lambda: client.unwrap_key(wrapped[:-4], "k"), lambda: client.unwrap_key(wrapped, "x"), lambda: client.wrap_key(KEY, "x")):
            with self.assertRaises((taster_kms.WrongKeyError, taster_kms.NoKeyError)) as caught:
                call()
            self.assert_tells_no_key(caught.exception)
            self.assertNotIn(wrapped, str(caught.exception))
        for service in client._services:
            self.assertNotIn(base64.b64encode(KEY).decode(), repr(service) + str(vars(service)))


if __name__ == "__main__":
    unittest.main()
