"""The mathematics of taster's detectors of vectors in scikit-learn, PyOD, numpy and FAISS, on the same data and the same cores.

make bench-peers makes an environment of requirements.txt, runs this, and this runs main.go beside it. Data are drawn once and
handed to both as raw little-endian float32. Both are called in turn, after one call each to warm up, and every pair of calls gives
a ratio, ours to theirs in records per second: above 1 taster is faster. Printed is the median of the ratios with the least and the
largest, and of the rates. Neighbours are compared with those by float64 distances.

The machine's peak is measured in the same run, between the rows: what every core does at most of fused multiplications and additions with
all operands in registers, by the widest vectors it has (gen/peak of detect/linalg); and beside it OpenBLAS's product of two large matrices.

Arguments: names of rows to print (a part of a name is enough; none: all), --rounds=N, --cores=N (none: all), and --processor for
processor time instead of the clock: on a machine with other work, --cores=1 --processor says most.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

CORES = next((int(a.removeprefix("--cores=")) for a in sys.argv if a.startswith("--cores=")), os.cpu_count() or 1)
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, str(CORES))

import faiss  # noqa: E402
import numpy as np  # noqa: E402
from pyod.models.knn import KNN  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402
from sklearn.covariance import LedoitWolf  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.metrics import silhouette_score  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402

REFERENCE, STREAM, DIM, FEATURES, K = 10_000, 16_384, 384, 10, 10
LEVELS = ("portable", "SSE", "AVX2", "AVX-512")
PROCESSOR = "--processor" in sys.argv  # time
PEAK_OPERATIONS = 4e10  # of each core, as main.go has it
rng = np.random.default_rng(1)


def clusters(n, dim, centres, spread):
    label = np.arange(n) % 2
    x = rng.standard_normal((n, dim), dtype=np.float32) * spread + centres[label]
    return x.astype("<f4"), label


class Ours:
    """The Go program, which answers requests."""

    def __init__(self, folder):
        self.folder = folder
        binary = os.path.join(folder, "peers")
        env = dict(os.environ, CGO_ENABLED="0")  # the static binary is what is shipped
        subprocess.run([os.environ.get("GO", "go"), "build", "-o", binary, "./cmd/internal/bench/peers"], check=True, env=env)
        env = dict(os.environ, GOMAXPROCS=str(CORES))
        self.process = subprocess.Popen([binary, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def call(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the Go program ended")
        return json.loads(line)[PROCESSOR]

    def save(self, name, data):
        data.astype("<f4").tofile(os.path.join(self.folder, name))


def timed(call):
    clock = time.process_time if PROCESSOR else time.perf_counter
    start = clock()
    call()
    return clock() - start


def compare(rounds, n, ours, theirs):
    """Calls both in turn and returns the median rates and (median, least, largest) ratio."""
    ours(), theirs()
    pairs = [(ours(), timed(theirs)) for _ in range(rounds)]
    ratios = [b / a for a, b in pairs]
    middle = statistics.median
    return n / middle(a for a, _ in pairs), n / middle(b for _, b in pairs), (middle(ratios), min(ratios), max(ratios))


def row(name, rates, peer, note=""):
    us, them, (middle, least, most) = rates
    print(f"{name:<34}{us:>12,.0f}{them:>12,.0f}{middle:>8.2f} ({least:.2f} to {most:.2f})  {peer}{note}", flush=True)


def exact(points, queries, k):
    """The k nearest by float64 distances, as sets."""
    out = []
    for q in queries.astype(np.float64):
        d = np.zeros(len(points))
        for first in range(0, len(points), 4096):
            d[first:first + 4096] = ((points[first:first + 4096].astype(np.float64) - q) ** 2).sum(1)
        out.append(set(np.argsort(d, kind="stable")[:k].tolist()))
    return out


class Peak:
    """The machine's peak in GFLOPS, measured again with every row: the least of the times of each kind counts."""

    def __init__(self, go):
        self.go, self.best, self.sgemm = go, float("inf"), float("inf")
        self.a, self.b = (rng.standard_normal((2048, 2048), dtype=np.float32) for _ in range(2))
        self.measure()

    def measure(self):
        self.best = min(self.best, self.go.call(work="peak"))
        self.sgemm = min(self.sgemm, timed(lambda: self.a @ self.b.T))

    def __call__(self):
        self.measure()
        return CORES * PEAK_OPERATIONS / self.best * 1e-9

    def openblas(self):
        return 2 * 2048**3 / self.sgemm * 1e-9


def nearest(go, wanted, rounds):
    flags = open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else ""
    levels = LEVELS if "avx512dq" in flags else LEVELS[:3] if "avx2" in flags else LEVELS[:2]
    peak = Peak(go) if len(levels) > 2 else None

    def share(gflops):
        return f"{gflops:.0f} GFLOPS" + (f", {gflops / peak():.2f} of the peak" if peak else "")

    for dim in (384, 1024):
        centres, spread = rng.standard_normal((2, dim)), np.exp(rng.standard_normal(dim) / 2)
        for n in (10_000, 100_000):
            cases = [(f"nearest {n}x{dim}, {many} at once", many, many) for many in [4096 if n == 10_000 else 1024]]
            cases += [(f"nearest {n}x{dim}, {batch} at once", (64 if n == 10_000 else 16) * (batch if batch == 1 else 4), batch) for batch in (1, 16)]
            cases = [c for c in cases if wanted(c[0])]
            if not cases:
                continue
            points, _ = clusters(n, dim, centres, spread)
            go.save("points.f32", points)
            flat = faiss.IndexFlatL2(dim)
            flat.add(points)
            for name, many, batch in cases:
                queries, _ = clusters(many, dim, centres, spread)
                go.save("queries.f32", queries)

                def ours(level="", index="", stream="queries.f32"):
                    return go.call(work="nearest", reference="points.f32", stream=stream, dim=dim, k=K, batch=batch, level=level,
                                   index=index)

                def theirs():
                    for first in range(0, many, batch):
                        flat.search(queries[first:first + batch], K)

                rates = compare(rounds, many, ours, theirs)
                ours(index="index.i32")
                got = np.fromfile(os.path.join(go.folder, "index.i32"), "<i4").reshape(many, K)
                some = min(many, 64)
                want = exact(points, queries[:some], K)
                wrong = sum(len(w - set(g.tolist())) for w, g in zip(want, got[:some]))
                wrong_faiss = sum(len(w - set(g.tolist())) for w, g in zip(want, flat.search(queries[:some], K)[1]))
                gflops = 2e-9 * n * dim
                row(name, rates, "FAISS IndexFlatL2", f"; {share(rates[0] * gflops)}, and {rates[1] * gflops:.0f}; "
                    f"{wrong} and {wrong_faiss} of {some * K} not as in float64")
                if batch < 100:
                    continue

                def with_numpy():
                    for first in range(0, many, 512):
                        d = (points ** 2).sum(1) - 2 * queries[first:first + 512] @ points.T
                        np.argpartition(d, K, axis=1)[:, :K]

                row(name, compare(min(rounds, 5), many, ours, with_numpy), "numpy matmul and argpartition")
                for level in levels:
                    few = many * 10_000 // n // (1 if level in LEVELS[2:] else 16)  # slow ones see fewer queries
                    go.save("few.f32", queries[:few])
                    ours(level, stream="few.f32")
                    rate = few / statistics.median(ours(level, stream="few.f32") for _ in range(3))
                    print(f"{'  ' + level:<34}{rate:>12,.0f}  {share(rate * gflops)}", flush=True)
    if peak:
        print(f"peak: {peak():.0f} GFLOPS of fused multiplications and additions in registers; OpenBLAS's product of 2048 x 2048 matrices {peak.openblas():.0f}")


def detectors(go, wanted, rounds):
    centres, spread = rng.standard_normal((2, DIM)), np.exp(rng.standard_normal(DIM) / 2)
    reference, known = clusters(REFERENCE, DIM, centres, spread)
    stream, label = clusters(STREAM, DIM, centres, spread)
    table = rng.standard_normal((REFERENCE + STREAM, FEATURES)).astype("<f4")
    trusted, rows = table[:REFERENCE], table[REFERENCE:]
    for name, data in {"reference": reference, "stream": stream, "trusted": trusted, "rows": rows}.items():
        go.save(name, data)

    pick = rng.permutation(REFERENCE)
    near_all = NearestNeighbors(n_neighbors=9, algorithm="brute", metric="cosine", n_jobs=CORES).fit(reference[pick[:640]])
    near_own = [NearestNeighbors(n_neighbors=9, algorithm="brute", metric="cosine", n_jobs=CORES)
                .fit(reference[pick][known[pick] == c][:256]) for c in (0, 1)]

    def embedding():
        near_all.kneighbors(stream)[0][:, :8].mean(1)
        for c in (0, 1):
            near_own[c].kneighbors(stream[label == c])[0][:, :8].mean(1)

    pyod = KNN(n_neighbors=64, method="mean", contamination=0.01, n_jobs=CORES).fit(trusted[:640])

    def whiten():
        rest = np.concatenate([reference[known == c] - reference[known == c].mean(0) for c in (0, 1)])[:4096]
        values, vectors = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(rest).covariance_)
        return vectors / np.sqrt(values)

    space = whiten()  # fitted once, as ours is

    def activation():
        for c in (0, 1):
            y = PCA(10, svd_solver="randomized", random_state=1).fit_transform((stream[label == c] @ space))
            part = KMeans(2, n_init=10, random_state=1).fit_predict(y)
            silhouette_score(y, part, sample_size=1024, random_state=1)

    def spectral():  # the signature alone: no search for rare directions, nothing held out
        for c in (0, 1):
            y = stream[label == c] @ space
            pca = PCA(8, svd_solver="randomized", random_state=1).fit(y)
            (pca.transform(y) ** 2).max(1)

    for name, peer, call in [
        ("outlier", "PyOD KNN, mean of 64 of 640", lambda: pyod.decision_function(rows)),
        ("embedding", "scikit-learn NearestNeighbors on 640 and 256 a class", embedding),
        ("activation", "scikit-learn PCA, KMeans, silhouette", activation),
        ("spectral", "scikit-learn PCA of whitened classes (less than ours does)", spectral),
    ]:
        if wanted(name):
            own = {"reference": "trusted", "stream": "rows", "dim": FEATURES} if name == "outlier" else {
                "reference": "reference", "stream": "stream", "dim": DIM}
            row(name, compare(rounds, STREAM, lambda: go.call(work=name, **own), call), peer)  # noqa: B023


def main(args):
    rounds, names = 7, []
    for arg in args:
        if arg.startswith("--rounds="):
            rounds = int(arg.removeprefix("--rounds="))
        elif not arg.startswith(("--cores=", "--processor")):
            names.append(arg)

    def wanted(name):
        return not names or any(n in name for n in names)

    print(f"detectors: {STREAM} records of {DIM} dimensions (outlier: {FEATURES}), reference of {REFERENCE}; nearest: k = {K}; {CORES} cores, "
          f"{rounds} rounds in turn, {'processor time' if PROCESSOR else 'by the clock'}, load {os.getloadavg()[0]:.1f}")
    print(f"{'work':<34}{'ours, a s':>12}{'theirs':>12}{'ratio':>8} (least to largest)  peer", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        go = Ours(folder)
        nearest(go, wanted, rounds)
        detectors(go, wanted, rounds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
