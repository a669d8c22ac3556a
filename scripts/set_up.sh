#!/bin/sh
# Makes .venv ready: `set_up.sh run` with what a run needs, `aws` with what S3 and DynamoDB need too, `dev` with everything.
# When it is ready already, this takes milliseconds and asks nobody. Else it finds a Python and leaves the work to
# set_up.py. PIPELINE_PYTHON (from the environment or .env) picks the interpreter.
set -eu
unset CDPATH
cd -P -- "$(dirname -- "$0")/.."
kind=$1

if [ -z "${PIPELINE_PYTHON:-}" ] && [ -f .env ]; then
    PIPELINE_PYTHON=$(sed -n 's/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}PIPELINE_PYTHON=["'\'']\{0,1\}\([^"'\'']*\)["'\'']\{0,1\}[[:space:]]*$/\2/p' .env | tail -n 1)
fi
PIPELINE_PYTHON=${PIPELINE_PYTHON:-}

# What the set-up depends on, as text. The folder is a part: a virtual environment that was moved is broken.
key() {
    checksum=$(cat "requirements/$1.txt" requirements/bootstrap.txt pyproject.toml scripts/set_up.py | cksum)
    printf '%s %s' "$checksum" "$PWD"
}

# Prints the real interpreter behind the command $1 when its version fits; fails when it doesn't.
interpreter() {
    "$1" -I -c 'import sys; print(sys._base_executable); sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

ready() {
    [ -x .venv/bin/python ] && [ "$(cat ".venv/goldtrace/$kind" 2>/dev/null)" = "$(key "$kind")" ] || return 1
    [ -z "$PIPELINE_PYTHON" ] || [ "$(cat .venv/goldtrace/python 2>/dev/null)" = "$PIPELINE_PYTHON" ]
}

give_up() {
    printf 'error: %s\nhint: %s (docs/errors.md#setup)\n' "$1" "$2" >&2
    exit 2
}

ready && exit 0

if [ -n "$PIPELINE_PYTHON" ]; then
    python=$(interpreter "$PIPELINE_PYTHON") || give_up \
        "PIPELINE_PYTHON is '$PIPELINE_PYTHON', which is $("$PIPELINE_PYTHON" --version 2>&1 | grep -E '^Python ' || echo 'not a Python that runs here')" \
        "use Python 3.11, 3.12 or 3.13, as PIPELINE_PYTHON=/path/to/python3.11"
else
    python=
    for command in python3 python3.13 python3.12 python3.11 python; do
        python=$(interpreter "$command") && break
        python=
    done
    [ -n "$python" ] || give_up \
        "no Python 3.11, 3.12 or 3.13 was found (python3 is $(python3 --version 2>/dev/null || echo missing))" \
        "install one, or say where it is with PIPELINE_PYTHON=/path/to/python3.11"
fi

PIPELINE_PYTHON=$PIPELINE_PYTHON exec "$python" -I scripts/set_up.py "$kind" "$(key run)" "$(key aws)" "$(key dev)"
