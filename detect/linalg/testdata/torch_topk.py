"""The ten nearest of 4,096 queries by PyTorch's matmul and topk, on a GPU, at the shapes of BenchmarkCUDANearest.

Rows and results stay on the device; taster's figures hold the copies there and back.
"""

import sys
import time

import torch

if not torch.cuda.is_available():
    sys.exit("PyTorch finds no GPU")
print("PyTorch", torch.__version__, torch.cuda.get_device_name(0))
for tf32 in (False, True):
    torch.backends.cuda.matmul.allow_tf32 = tf32
    for columns in (384, 1024):
        for points in (10_000, 100_000):
            p = torch.randn(points, columns, device="cuda")
            q = torch.randn(4096, columns, device="cuda")
            bias = (p * p).sum(1) / 2

            def search():
                torch.topk(q @ p.T - bias, 10, dim=1)
                torch.cuda.synchronize()

            search()
            times = []
            for _ in range(5):
                began = time.perf_counter()
                search()
                times.append(time.perf_counter() - began)
            seconds = min(times)
            print(f"{'TF32' if tf32 else 'FP32'} {points}x{columns}: {4096 / seconds:.0f} records/s, {2e-9 * 4096 * points * columns / seconds:.0f} GFLOPS")
