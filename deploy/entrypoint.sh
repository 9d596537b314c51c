#!/bin/sh
# Run a command of Natron. The token may stand in the file that NATRON_TOKEN_FILE names, as the secrets of containers do.
set -eu
if [ -n "${NATRON_TOKEN_FILE:-}" ]; then
  NATRON_TOKEN=$(cat "$NATRON_TOKEN_FILE")
  export NATRON_TOKEN
fi
exec natron "$@"
