#!/bin/sh
# Fetches the wheel that header.txt pins by its hash, and unpacks its headers under the folder that is named. Nothing of it is run.
set -eu
here=$(dirname "$0")
to=$1/nvidia_cuda_runtime_cu12-12.8.90
mkdir -p "$1"
work=$(mktemp -d "$1/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --platform manylinux2014_x86_64 --require-hashes -r "$here/header.txt" -d "$work"
"${PYTHON:-python3}" -m zipfile -e "$work"/*.whl "$work/unpacked"
rm -rf "$to"
mv "$work/unpacked" "$to"
touch "$to/nvidia/cuda_runtime/include/cuda.h"
