#!/bin/sh
# pytest-xdist 3.8.0 with pytest 9.2.0: `--dist loadgroup` does not group, and says nothing. With pytest 8.4.2 it does.
# Expected: tests of one `xdist_group` run in one worker, whatever the version of pytest (two tests of a GPU are kept apart by this).
# Seen: pytest 8.4.2: workers of the group: 1; pytest 9.2.0: workers of the group: 2; no warning in either.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/test_group.py" <<'PY'
import os
import time

import pytest


@pytest.mark.xdist_group("gpu")
@pytest.mark.parametrize("number", range(6))
def test_uses_the_gpu(number):
    time.sleep(0.3)
    with open("workers.txt", "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
PY
for pytest in 8.4.2 9.2.0; do
  python3 -m venv "$folder/$pytest"
  "$folder/$pytest/bin/pip" install -q --disable-pip-version-check "pytest==$pytest" pytest-xdist==3.8.0
  (cd "$folder" && rm -f workers.txt && "$folder/$pytest/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist loadgroup > said.txt)
  workers=$(sort -u "$folder/workers.txt" | wc -l)
  echo "pytest $pytest: workers of the group: $workers; warnings: $(grep -ci warning "$folder/said.txt" || true)"
  case $pytest in 8.*) [ "$workers" -eq 1 ] ;; *) [ "$workers" -eq 2 ] && ! grep -qi "warning\|group" "$folder/said.txt" ;; esac
done
