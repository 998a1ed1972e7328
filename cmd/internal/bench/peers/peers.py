"""The mathematics of taster's detectors of vectors in scikit-learn, PyOD and FAISS, on the same data and the same cores.

make bench-peers makes an environment of requirements.txt, runs this, and this runs main.go beside it. Data are drawn once and
handed to both as raw little-endian float32. Every figure is the best of three, after one call to warm up. The ratio is ours to theirs in
records per second: above 1 taster is faster.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

CORES = os.cpu_count() or 1
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

REFERENCE, STREAM, DIM, FEATURES = 10_000, 16_384, 384, 10
rng = np.random.default_rng(1)


def clusters(n, dim, centres, spread):
    label = np.arange(n) % 2
    x = rng.standard_normal((n, dim)) * spread + centres[label]
    return x.astype("<f4"), label


def best(call):
    call()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    centres, spread = rng.standard_normal((2, DIM)), np.exp(rng.standard_normal(DIM) / 2)
    reference, known = clusters(REFERENCE, DIM, centres, spread)
    stream, label = clusters(STREAM, DIM, centres, spread)
    table = rng.standard_normal((REFERENCE + STREAM, FEATURES)).astype("<f4")
    trusted, rows = table[:REFERENCE], table[REFERENCE:]

    with tempfile.TemporaryDirectory() as folder:
        for name, data in {"reference": reference, "stream": stream, "trusted": trusted, "rows": rows}.items():
            data.tofile(os.path.join(folder, name + ".f32"))
        out = subprocess.run(
            [os.environ.get("GO", "go"), "run", "./cmd/internal/bench/peers", folder, str(DIM), str(FEATURES)],
            check=True, stdout=subprocess.PIPE, text=True).stdout
    ours = json.loads(out)

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    points, queries = unit(reference), unit(stream)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(points)
    brute = NearestNeighbors(n_neighbors=9, algorithm="brute", metric="cosine", n_jobs=CORES).fit(reference)

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

    theirs = [
        ("nearest", "FAISS IndexFlatIP", STREAM, lambda: flat.search(queries, 9)),
        ("nearest", "scikit-learn NearestNeighbors, brute", STREAM, lambda: brute.kneighbors(stream)),
        ("outlier", "PyOD KNN, mean of 64 of 640", STREAM, lambda: pyod.decision_function(rows)),
        ("embedding", "scikit-learn NearestNeighbors on 640 and 256 a class", STREAM, embedding),
        ("activation", "scikit-learn PCA, KMeans, silhouette", STREAM, activation),
        ("spectral", "scikit-learn PCA of whitened classes (less than ours does)", STREAM, spectral),
    ]
    print(f"{STREAM} records of {DIM} dimensions (outlier: {FEATURES}), reference of {REFERENCE}, {CORES} cores")
    print(f"{'detector':<12}{'ours, records/s':>16}{'theirs':>12}{'ratio':>8}  peer")
    for name, peer, n, call in theirs:
        rate = n / best(call)
        print(f"{name:<12}{ours[name]:>16,.0f}{rate:>12,.0f}{ours[name] / rate:>8.2f}  {peer}")


if __name__ == "__main__":
    sys.exit(main())
