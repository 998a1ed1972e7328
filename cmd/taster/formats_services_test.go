//go:build services

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tasterhq/taster/sink/kmsclient/enginetest"
)

// readers has other tools read the formats, and prints what they do not find as it stands in the JSON lines.
const readers = `
import json, sys
import duckdb, polars, pandas, pyarrow as pa, pyarrow.csv, pyarrow.ipc, pyarrow.parquet as pq
at = json.loads(sys.argv[1])
columns = ["id", "stars", "body", "taster_risk", "taster_offset", "taster_verdict"]
sql = ", ".join(columns)
base = [json.loads(line) for line in open(at["jsonl"])]
def of_arrow(table):
    return zip(*[table.column(c).to_pylist() for c in columns])
stream = pa.ipc.open_stream(at["arrow"]).read_all()
found = {
    "pyarrow parquet": of_arrow(pq.read_table(at["parquet"])),
    "pyarrow arrow": of_arrow(stream),
    "pyarrow csv": of_arrow(pyarrow.csv.read_csv(at["csv"], parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))),
    "duckdb parquet": duckdb.sql(f"select {sql} from '{at['parquet']}'").fetchall(),
    "duckdb csv": duckdb.sql(f"select {sql} from read_csv('{at['csv']}', header=true)").fetchall(),
    "duckdb arrow": duckdb.sql(f"select {sql} from stream").fetchall(),
    "duckdb jsonl": duckdb.sql(f"select {sql} from read_json('{at['jsonl']}', format='newline_delimited')").fetchall(),
    "polars parquet": polars.read_parquet(at["parquet"]).select(columns).rows(),
    "polars arrow": polars.from_arrow(stream).select(columns).rows(),
    "polars csv": polars.read_csv(at["csv"], infer_schema_length=None).select(columns).rows(),
    "pandas parquet": pandas.read_parquet(at["parquet"])[columns].values.tolist(),
    "pandas csv": pandas.read_csv(at["csv"])[columns].values.tolist(),
    "pandas jsonl": pandas.read_json(at["jsonl"], lines=True, precise_float=True)[columns].values.tolist(),
}
order = lambda rows: sorted([[str(r[0])] + list(r[1:]) for r in rows], key=lambda r: r[4])
want = order([[r[c] for c in columns] for r in base])
wrong = []
for name, rows in found.items():
    got = order(rows)
    if got != want:
        wrong.append([name, len(got), len(want), [pair for pair in zip(got, want) if pair[0] != pair[1]][:1]])
# The whole rows, nested columns and types included.
nested = ["taster_reasons", "taster_findings"]
for name, rows in {
    "parquet": pq.read_table(at["parquet"]).select(nested).to_pylist(),
    "arrow": stream.select(nested).to_pylist(),
    "csv": [{c: json.loads(r[c]) for c in nested} for r in pandas.read_csv(at["csv"])[nested].to_dict("records")],
}.items():
    if rows != [{c: r[c] for c in nested} for r in base]:
        wrong.append([name, "nested"])
if pq.read_table(at["parquet"]).schema != stream.schema:
    wrong.append(["schema", str(stream.schema)])
print(json.dumps(wrong))
`

// TestPyarrowAndOthersReadFormats gives a landing zone's rows to pyarrow, DuckDB, polars and pandas in every format.
func TestPyarrowAndOthersReadFormats(t *testing.T) {
	python := enginetest.Python(t, "pyarrow", "duckdb", "polars", "pandas")
	folder := t.TempDir()
	prepare(t, folder)
	for _, verdict := range []string{"accepted", "quarantined"} {
		at := map[string]string{}
		for _, format := range []string{"jsonl", "csv", "parquet", "arrow"} {
			stdout, stderr, code := try("cat", "-c", filepath.Join(folder, "taster.yaml"), filepath.Join(folder, "landing"), "--verdict", verdict, "--format", format)
			if code != exitGood {
				t.Fatalf("%s: exit code %d: %s", format, code, stderr)
			}
			at[format] = filepath.Join(folder, verdict+"."+format)
			if err := os.WriteFile(at[format], []byte(stdout), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		paths, err := json.Marshal(at)
		if err != nil {
			t.Fatal(err)
		}
		command := exec.Command(python, "-c", readers, string(paths))
		command.Stderr = os.Stderr
		out, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(out); got != "[]\n" {
			t.Errorf("%s: %s", verdict, got)
		}
	}
}
