"""Reads and writes with Spark what Go asks for."""
import os

from pyspark.sql import SparkSession

import sample
import wire

spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.jars", os.environ["TASTER_KMS_JAR"])
    .config("spark.hadoop.parquet.crypto.factory.class", "org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory")
    .config("spark.hadoop.parquet.encryption.kms.client.class", "io.github.tasterhq.kms.TasterKmsClient")
    .config("spark.local.dir", os.environ["TASTER_SPARK_TMP"])
    .config("spark.sql.warehouse.dir", os.path.join(os.environ["TASTER_SPARK_TMP"], "warehouse"))
    .config("spark.driver.memory", "768m")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    .getOrCreate()
)


def forget():
    """Drop what the key tools cache for ten minutes, so that a request has the keys that it names and no others."""
    spark._jvm.org.apache.parquet.crypto.keytools.KeyToolkit.removeCacheEntriesForAllTokens()


def options(keys, more=None):
    return {**{f"taster.keys.{i}": url for i, url in enumerate(keys)}, **(more or {})}


def read(paths, keys, columns=None, dataset=True, schema_from=None):
    """Read files, or folders with all beneath. Spark takes all as one dataset, and finds the schema by itself."""
    forget()
    frame = spark.read.options(**options(keys), recursiveFileLookup="true").parquet(*paths)
    if columns is not None:
        frame = frame.select(*columns)
    rows = [row.asDict(recursive=True) for row in frame.collect()]
    return {"fields": {f.name: f.dataType.simpleString() for f in frame.schema.fields}, "rows": rows}


def names(path, keys):
    forget()
    frame = spark.read.options(**options(keys)).parquet(path)
    return {f.name: f.dataType.simpleString() for f in frame.schema.fields}


def rotate(path, keys):
    """Rewrap the keys of a folder's files with external key material."""
    forget()
    conf = spark._jvm.org.apache.hadoop.conf.Configuration(spark._jsc.hadoopConfiguration())
    for name, value in options(keys).items():
        conf.set(name, value)
    spark._jvm.org.apache.parquet.crypto.keytools.KeyToolkit.rotateMasterKeys(path, conf)


SAMPLE = """id bigint, small int, text string, flag boolean, price double, amount decimal(10, 2), day date, at timestamp,
    raw binary, tags array<string>, place struct<city: string, x: double>, embedding array<float>"""


def write(path, rows, keys, footer, columns=None, external=False, single=False, plaintext_footer=False, settings=None):
    """Write the sample as one encrypted file in a new folder."""
    forget()
    if columns:
        named = {"parquet.encryption.footer.key": footer,
                 "parquet.encryption.column.keys": ";".join(f"{key}:{','.join(of)}" for key, of in columns.items())}
    else:
        named = {"parquet.encryption.uniform.key": footer}
    written = sample.rows(rows)
    frame = spark.createDataFrame(written, SAMPLE).coalesce(1)
    frame.write.options(**options(keys, {
        **named,
        "parquet.encryption.key.material.store.internally": str(not external).lower(),
        "parquet.encryption.double.wrapping": str(not single).lower(),
        "parquet.encryption.plaintext.footer": str(plaintext_footer).lower(),
        **(settings or {}),
    })).parquet(path)
    return written


def run(code, names, result=None):
    """Run code with the given names and spark, and return what the name result then stands for."""
    forget()
    names["spark"] = spark
    exec(compile(code, "<snippet>", "exec"), names)
    value = names.get(result)
    return [row.asDict(recursive=True) for row in value.collect()] if hasattr(value, "collect") else value


wire.serve(read=read, names=names, rotate=rotate, write=write, run=run)
