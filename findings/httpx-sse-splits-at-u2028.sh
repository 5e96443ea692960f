#!/bin/sh
# httpx-sse 0.4.1 tears an event apart at U+2028, though only CR, LF and CR LF end a line of a stream of server-sent events. 0.4.2 does not.
# Expected: one event, whose data is the JSON that was sent (U+2028 may stand in JSON as it is; models write it).
# Seen: httpx-sse 0.4.1: 1 event(s), data: '{"text": "one'; httpx-sse 0.4.2: 1 event(s), data: '{"text": "one\u2028two"}'.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/stream.py" <<'PY'
import sys

import httpx
from httpx_sse import connect_sse

SENT = '{"text": "one\u2028two"}'
answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=f"data: {SENT}\n\n".encode())
with httpx.Client(transport=httpx.MockTransport(lambda request: answer)) as client, connect_sse(client, "GET", "http://model/") as source:
    found = [event.data for event in source.iter_sse()]
print(f"httpx-sse {sys.argv[1]}: {len(found)} event(s), data: {found[0]!r}")
assert (found == [SENT]) == (sys.argv[1] == "0.4.2")
PY
for version in 0.4.1 0.4.2; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q --disable-pip-version-check httpx==0.28.1 "httpx-sse==$version"
  "$folder/$version/bin/python" "$folder/stream.py" "$version"
done
