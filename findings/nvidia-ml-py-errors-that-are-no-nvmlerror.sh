#!/bin/sh
# nvidia-ml-py 13.615.71: pynvml.NVMLLibraryMismatchError is no pynvml.NVMLError, though all else that the binding raises by name is.
# Expected: `except pynvml.NVMLError` around NVML calls is enough, as its documentation has it; a driver that is older than the binding ends in a traceback.
# Seen: 33 errors; not an NVMLError: ['NVMLLibraryMismatchError'].
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check nvidia-ml-py==13.615.71
"$folder/venv/bin/python" - <<'PY'
import pynvml

errors = {name for name, each in vars(pynvml).items() if isinstance(each, type) and issubclass(each, Exception) and each.__module__ == "pynvml"}
outside = sorted(name for name in errors if not issubclass(getattr(pynvml, name), pynvml.NVMLError))
print(f"{len(errors)} errors; not an NVMLError: {outside}")
assert outside == ["NVMLLibraryMismatchError"], outside
PY
