"""What make bench-streams has Spark do: read JSON lines by a schema, leave out what breaks its rules, write zstd Parquet.

Arguments: the JSON Schema, the lines, a folder for Parquet that is not there yet, the number of cores. It does all once over a tenth of
the lines, which warms the JVM up, then over all of them, and prints what that took as one JSON object: wall and cpu in seconds, peak
in bytes, rows as they are read back.

Spark knows no JSON Schema: types are its reader's, required, enum, pattern, and bounds become expressions over columns. Undeclared fields
are ignored rather than refused.
"""

import json
import os
import sys
import time

from pyspark.sql import SparkSession, functions, types


def column_type(rule):
    if "enum" in rule:
        return types.StringType()
    if rule["type"] == "array":
        return types.ArrayType(types.FloatType(), False)
    return {"string": types.StringType(), "integer": types.LongType(), "number": types.DoubleType()}[rule["type"]]


def checks(name, rule, required):
    """What must hold of a column; without a value only whether it may be missing counts."""
    value = functions.col(name)
    size = functions.size(value) if rule.get("type") == "array" else functions.length(value)
    found = [value >= rule["minimum"]] if "minimum" in rule else []
    for keyword, check in {
        "maximum": lambda bound: value <= bound,
        "exclusiveMinimum": lambda bound: value > bound,
        "minLength": lambda bound: size >= bound,
        "maxLength": lambda bound: size <= bound,
        "minItems": lambda bound: size >= bound,
        "maxItems": lambda bound: size <= bound,
        "pattern": value.rlike,
        "enum": lambda allowed: value.isin(allowed),
    }.items():
        if keyword in rule:
            found.append(check(rule[keyword]))
    if required:
        return [value.isNotNull(), *found]
    return [value.isNull() | check for check in found]


def processor_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def main(schema, lines, folder, cores):
    rules = json.load(open(schema))
    fields = rules["properties"]
    columns = types.StructType([types.StructField(name, column_type(rule)) for name, rule in fields.items()])
    spark = (SparkSession.builder.master(f"local[{cores}]").config("spark.driver.memory", "3g")
             .config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
             .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
             .config("spark.sql.parquet.compression.codec", "zstd").config("spark.log.level", "ERROR").getOrCreate())
    holds = [check for name, rule in fields.items() for check in checks(name, rule, name in rules["required"])]
    jvm = spark._jvm.java.lang.ProcessHandle.current().pid()

    def job(source, target):
        frame = spark.read.schema(columns).option("mode", "DROPMALFORMED").json(source)
        for check in holds:
            frame = frame.filter(check)
        frame.write.parquet(target)

    warm = folder + "-warm.jsonl"
    with open(lines, "rb") as whole, open(warm, "wb") as part:
        tenth = os.path.getsize(lines) // 10
        while part.tell() < tenth:
            part.write(whole.readline())
    job(warm, folder + "-warm")
    cpu, wall = processor_seconds(jvm), time.perf_counter()
    job(lines, folder)
    wall, cpu = time.perf_counter() - wall, processor_seconds(jvm) - cpu
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak(jvm), "rows": spark.read.parquet(folder).count()}))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
