#!/bin/sh
# opentelemetry-sdk 1.45.2: a resource that names its service loses that name when the default resource is merged into it, though the default one has
# no name of its own to give: its placeholder `unknown_service` wins.
# Expected: merging what nobody set into what the program set keeps what the program set.
# Seen: Resource({"service.name": "ours"}).merge(Resource.create()) -> unknown_service; the other way round -> ours.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check opentelemetry-sdk==1.45.2
env -u OTEL_SERVICE_NAME -u OTEL_RESOURCE_ATTRIBUTES "$folder/venv/bin/python" - <<'PY'
from opentelemetry.sdk.resources import Resource

ours, default = Resource({"service.name": "ours"}), Resource.create()
merged, other_way = ours.merge(default).attributes["service.name"], default.merge(ours).attributes["service.name"]
print(f"ours.merge(default): {merged}; default.merge(ours): {other_way}")
assert merged.startswith("unknown_service") and other_way == "ours"
PY
