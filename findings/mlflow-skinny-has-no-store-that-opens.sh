#!/bin/sh
# mlflow-skinny 3.17.2: as installed it opens none of its local stores: neither the default one nor a `file:` folder. The first needs SQLAlchemy, which it
# does not bring, but the error speaks of the model registry; the second is refused unless MLFLOW_ALLOW_FILE_STORE is set.
# Expected: a package that is offered for logging runs logs one to the folder that it stands in.
# Seen: default: UnsupportedModelRegistryStoreURIException (got unsupported URI 'sqlite:///...'); file: MlflowException (in maintenance mode);
# file, allowed: logged.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mlflow-skinny==3.17.2
cat > "$folder/log.py" <<'PY'
import sys

import mlflow

if sys.argv[1] == "file":
    mlflow.set_tracking_uri("file:./runs")
try:
    with mlflow.start_run():
        mlflow.log_metric("energy_j", 1.0)
    print("logged")
except Exception as error:
    print(type(error).__name__, str(error).splitlines()[0][:100])
PY
cd "$folder"
unset MLFLOW_TRACKING_URI MLFLOW_ALLOW_FILE_STORE || true
default=$("$folder/venv/bin/python" log.py default 2>/dev/null | tail -1)
file=$("$folder/venv/bin/python" log.py file 2>/dev/null | tail -1)
allowed=$(MLFLOW_ALLOW_FILE_STORE=true "$folder/venv/bin/python" log.py file 2>/dev/null | tail -1)
printf 'default: %s\nfile: %s\nfile, allowed: %s\n' "$default" "$file" "$allowed"
[ "$default" != logged ] && [ "$file" != logged ] && [ "$allowed" = logged ]
