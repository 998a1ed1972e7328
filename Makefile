# make demo and make test need Go, git and make. Everything else installs itself, see .ci/run.

GO       ?= go
RACE     := $(shell test "$$($(GO) env CGO_ENABLED)" = 1 && command -v "$$($(GO) env CC)" >/dev/null && echo -race)
LINT     := .tools/golangci-lint-v2.15.0
BENCHTIME ?= 3x
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

CUDA_HEADERS := .cache/cuda/nvidia_cuda_runtime_cu12-12.8.90/nvidia/cuda_runtime/include
CUDA := CGO_ENABLED=1 CGO_CFLAGS="-O2 -I$(CURDIR)/$(CUDA_HEADERS)" CGO_LDFLAGS="-L$(CURDIR)/gpukernels/driver/link"

.PHONY: cuda-headers build-cuda test-cuda test-gpu bench-gpu build demo test lint bench bench-peers bench-streams eval test-services torture ptx ptxas fuzz clean

build: ## one static binary: bin/taster
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/taster ./cmd/taster

# NVIDIA's headers are not ours to give on: the wheel is fetched, and its digest compared.
cuda-headers: $(CUDA_HEADERS)/cuda.h ## cuda.h, which build-cuda needs (pip, and the network once)
$(CUDA_HEADERS)/cuda.h: gpukernels/driver/header.txt
	sh gpukernels/driver/header.sh .cache/cuda

build-cuda: $(CUDA_HEADERS)/cuda.h ## bin/taster-cuda, which uses a GPU where there is one and runs as well where there is none (a C compiler is needed)
	$(CUDA) $(GO) build -tags cuda -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/taster-cuda ./cmd/taster

# A driver without a device: it runs the kernels on the CPU.
FAKE := .cache/cuda/fake
$(FAKE)/libcuda.so.1: gpukernels/fakedriver/libcuda.cpp $(wildcard gpukernels/emulator/* gpukernels/kernels/*.cu gpukernels/kernels/*.cuh gpukernels/kernels/*.h)
	mkdir -p $(FAKE)
	g++ -std=c++17 -O2 -march=native -ffp-contract=off -fPIC -shared -fvisibility=hidden -Wall -Wextra -Werror -Wno-unknown-pragmas -o $@ gpukernels/fakedriver/libcuda.cpp gpukernels/emulator/*.cpp

# The header comes by CPATH: flags of cgo would have package net, and all that stands on it, compiled once more.
# What is too slow for the race detector runs without it, and then whole: re-ranking by the device, and verdicts on every set, take a minute of one core.
WHOLE = $(filter-out -short,$(GOTESTFLAGS))
GPU_PACKAGES := ./gpukernels ./gpukernels/driver ./detect/linalg ./cmd/taster
EMULATED := CGO_ENABLED=1 CPATH=$(CURDIR)/$(CUDA_HEADERS) LIBRARY_PATH=$(CURDIR)/gpukernels/driver/link LD_LIBRARY_PATH=$(CURDIR)/$(FAKE)
test-cuda: $(CUDA_HEADERS)/cuda.h $(FAKE)/libcuda.so.1 ## what a GPU does, on an emulated one: driver, kernels, loss of the device (g++ is needed)
	$(EMULATED) $(GO) vet -tags cuda $(GPU_PACKAGES) ./detect/policy
	$(EMULATED) $(GO) test $(RACE) -tags cuda -run 'CUDA|Available|Libc|WithoutDriver' -timeout 20m $(GOTESTFLAGS) $(GPU_PACKAGES)
	$(EMULATED) $(GO) test -tags cuda -run CUDAConformance/re-rank -timeout 20m $(WHOLE) ./detect/linalg
	$(EMULATED) $(GO) test -tags cuda -run CUDAVerdicts -timeout 20m $(WHOLE) ./detect/policy

bin/gpu.test: $(CUDA_HEADERS)/cuda.h FORCE
	$(CUDA) $(GO) test -tags cuda -c -o $@ ./detect/linalg
bin/gpu-verdicts.test: $(CUDA_HEADERS)/cuda.h FORCE
	$(CUDA) $(GO) test -tags cuda -c -o $@ ./detect/policy
FORCE:

test-gpu: bin/gpu.test bin/gpu-verdicts.test ## a real GPU's answers beside the CPU's, and verdicts on the data that TASTER_EVAL_DATA names, by binaries that need nothing else (copy them where the GPU is)
	bin/gpu.test -test.run CUDA -test.v
	bin/gpu-verdicts.test -test.run CUDAVerdicts -test.v
	if command -v compute-sanitizer >/dev/null; then compute-sanitizer --error-exitcode 1 bin/gpu.test -test.run CUDAAnswers -test.v; else echo "compute-sanitizer is not installed: not run"; fi

bench-gpu: bin/gpu.test build-cuda ## its speed beside the CPU's, each kernel and each variant, and beside PyTorch's matmul and topk where that is installed
	bin/taster-cuda gpu --accelerator cuda
	bin/taster-cuda gpu --accelerator cuda --points 100000 --columns 1024
	bin/gpu.test -test.run '^$$' -test.bench 'CUDA' -test.benchtime 2s
	if python3 -c 'import torch' 2>/dev/null; then python3 detect/linalg/testdata/torch_topk.py; else echo "PyTorch is not installed: not compared"; fi

demo: build ## embedded broker, traffic with planted poison, the whole pipeline
	bin/taster demo

test: ## every test that needs nothing from outside; with the race detector where cgo works
	$(GO) test $(RACE) -timeout 30m $(GOTESTFLAGS) ./...

lint: $(LINT) ## formatting, vet, golangci-lint with the import rules
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags services ./...
	$(LINT) run ./...
	@if test -f $(CUDA_HEADERS)/cuda.h; then $(EMULATED) $(LINT) run --build-tags services,cuda $(GPU_PACKAGES) ./detect/policy; else echo "no cuda.h (make cuda-headers): what is built with it was not looked at"; fi

$(LINT):
	GOBIN=$(CURDIR)/.tools GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv .tools/golangci-lint $@

test-services: ## tests against a real Apache Kafka, object stores, key services, pyarrow and Spark (Java, Maven, Node and Python are needed)
	$(GO) test -tags services -count=1 -timeout 30m -p 1 -run 'Kafka|Pyarrow|Spark|Store|KMS|Torture' $(GOTESTFLAGS) ./...

CYCLES ?= 1000
REAL   ?= 36
SEED   ?= 0
FROM   ?= 0
torture: ## real processes killed, stopped, starved and confused, then every record counted; see docs/torture.md
	$(GO) test -tags services -count=1 -timeout 6h -run 'Torture$$' -v $(GOTESTFLAGS) ./cmd/internal/torture -args -cycles=$(CYCLES) -real=$(REAL) -seed=$(SEED) -from=$(FROM)

PROFILE ?= $(CURDIR)/.cache/profiles
bench: ## each stage and the whole beside a straight program, latency, memory of a long run; profiles in PROFILE
	PROFILE=$(PROFILE) $(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -timeout 2h ./cmd/internal/bench

PARTS ?= backdoors,labels,tabular,embeddings,clean,attacks
eval: ## how well detection works on the data that TASTER_EVAL_DATA names; the tables of docs/DETECTION.md
	TASTER_EVAL_REVISION=$(VERSION) $(GO) run ./cmd/internal/evaluate/table -parts $(PARTS) $(FLAGS) -doc docs/DETECTION.md

PEERS := .cache/peers-$(shell cksum < cmd/internal/bench/peers/requirements.txt | cut -d' ' -f1)
bench-peers: $(PEERS)/ready bench-streams ## detectors of vectors beside the same mathematics in scikit-learn, PyOD and FAISS (Python 3 is needed), and bench-streams
	GO=$(GO) $(PEERS)/bin/python cmd/internal/bench/peers/peers.py

# A peer that cannot be installed is named by the benchmark, which goes on without it.
BENTO := $(CURDIR)/.tools/bento-$(shell cksum < cmd/internal/bench/peers/bento/go.sum | cut -d' ' -f1)
SPARK := $(CURDIR)/.cache/spark-$(shell cksum < cmd/internal/bench/peers/spark.txt | cut -d' ' -f1)
bench-streams: ## taster backfill beside Bento and Spark on the same file (Python 3 and Java are needed)
	-test -x $(BENTO) || (cd cmd/internal/bench/peers/bento && CGO_ENABLED=0 $(GO) build -o $(BENTO) .)
	-test -e $(SPARK)/ready || (rm -rf .cache/spark-* && python3 -m venv $(SPARK) && $(SPARK)/bin/pip install --quiet --disable-pip-version-check -r cmd/internal/bench/peers/spark.txt && touch $(SPARK)/ready)
	BENTO=$(BENTO) SPARK=$(SPARK)/bin/python $(GO) test -run '^$$' -bench Streams -benchtime $(BENCHTIME) -timeout 2h ./cmd/internal/bench

$(PEERS)/ready: cmd/internal/bench/peers/requirements.txt
	rm -rf .cache/peers-*
	python3 -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

ptx: ## the kernels' PTX, from their sources (clang-14 is needed)
	touch gpukernels/kernels/kernels.ptx
	$(GO) test ./gpukernels/kernels -run '^TestPTX$$' -update

PTXAS := .tools/ptxas-12.8.93
ptxas: $(PTXAS) ## NVIDIA's assembler, which tells of registers and spills without a GPU (Python 3 is needed)
$(PTXAS): gpukernels/kernels/requirements.txt
	rm -rf .cache/ptxas
	$(or $(TASTER_PYTHON),python3) -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes -d .cache/ptxas -r $<
	python3 -m zipfile -e .cache/ptxas/*.whl .cache/ptxas
	mkdir -p .tools
	install -m 755 .cache/ptxas/nvidia/cuda_nvcc/bin/ptxas $@

FUZZTIME ?= 10s
# Go before 1.27 now and then fails a fuzz test as its time ends, with nothing but "context deadline exceeded" and no failing input
# (go.dev/issue/75804): such a test is run again.
fuzz: ## every fuzz test, for FUZZTIME each
	@mkdir -p .cache
	@grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | while IFS=: read -r file func; do \
		echo "$$(dirname $$file) $${func#func }"; \
		for try in 1 2 3; do \
			failed=; $(GO) test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) >.cache/fuzz.log 2>&1 || failed=1; \
			cat .cache/fuzz.log; \
			[ "$$failed" ] || break; \
			if ! grep -qx '    context deadline exceeded' .cache/fuzz.log || grep -q 'Failing input' .cache/fuzz.log; then break; fi; \
		done; \
		[ -z "$$failed" ] || exit 1; \
	done

clean:
	rm -rf bin .tools .cache
