"""Reads and writes with pyarrow what Go asks for."""
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

import taster_kms
import sample
import wire

local = pyarrow.fs.LocalFileSystem()


def fields(schema):
    return {f.name: str(f.type) for f in schema}


def read(paths, keys, columns=None, dataset=False, schema_from=None):
    """Read files one by one, or, with dataset, as one dataset with the schema of one of its files."""
    factory = taster_kms.crypto_factory(*keys)
    config, decryption = pe.KmsConnectionConfig(), pe.DecryptionConfiguration()

    def open_file(path):
        return pq.ParquetFile(path, decryption_properties=factory.file_decryption_properties(
            config, decryption, parquet_file_path=path, filesystem=local))

    if dataset:
        schema = open_file(schema_from).schema_arrow if schema_from else None
        scan = ds.ParquetFragmentScanOptions(decryption_config=ds.ParquetDecryptionConfig(factory, config, decryption))
        source = ds.dataset(paths if len(paths) > 1 else paths[0], schema=schema, format=ds.ParquetFileFormat(default_fragment_scan_options=scan), filesystem=local)
        table = source.to_table(columns=columns)
    else:
        table = pa.concat_tables([open_file(p).read(columns=columns) for p in paths])
    return {"fields": fields(table.schema), "rows": table.to_pylist()}


def names(path, keys):
    """Return the columns of a file without reading any."""
    factory = taster_kms.crypto_factory(*keys)
    keys = factory.file_decryption_properties(pe.KmsConnectionConfig(), parquet_file_path=path, filesystem=local)
    return fields(pq.ParquetFile(path, decryption_properties=keys).schema_arrow)


def rotate(path, keys):
    """Rewrap the keys of a file with external key material."""
    taster_kms.crypto_factory(*keys).rotate_master_keys(pe.KmsConnectionConfig(), path, filesystem=local)


SAMPLE = pa.schema([
    ("id", pa.int64()), ("small", pa.int32()), ("text", pa.string()), ("flag", pa.bool_()), ("price", pa.float64()),
    ("amount", pa.decimal128(10, 2)), ("day", pa.date32()), ("at", pa.timestamp("us", "UTC")), ("raw", pa.binary()),
    ("tags", pa.list_(pa.string())), ("place", pa.struct([("city", pa.string()), ("x", pa.float64())])),
    ("embedding", pa.list_(pa.float32())),
])


def write(path, rows, keys, footer, columns=None, external=False, single=False, plaintext_footer=False, settings=None):
    """Write the sample as one encrypted file. Settings are those of pyarrow.parquet.write_table."""
    factory = taster_kms.crypto_factory(*keys)
    named = {"column_keys": columns} if columns else {"uniform_encryption": True}
    encryption = pe.EncryptionConfiguration(footer, **named, internal_key_material=not external,
                                            double_wrapping=not single, plaintext_footer=plaintext_footer)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), encryption, parquet_file_path=path, filesystem=local)
    written = sample.rows(rows)
    pq.write_table(pa.Table.from_pylist(written, SAMPLE), path, encryption_properties=properties, **(settings or {}))
    return written


def run(code, names, result=None):
    """Run code with the given names, and return what the name result then stands for."""
    exec(compile(code, "<snippet>", "exec"), names)
    value = names.get(result)
    return value.to_pylist() if isinstance(value, pa.Table) else value


wire.serve(read=read, names=names, rotate=rotate, write=write, run=run)
