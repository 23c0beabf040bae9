# shellcheck shell=bash
# Makes the project's Python environment; for other scripts to source:
#
#     source "$(dirname "${BASH_SOURCE[0]}")/lib-env.sh"
#     ensure_environment runtime        # or: test
#
# Afterwards the environment is at $VENV (.venv in the repository, or $CGPBFT_VENV) and first on PATH.
# `runtime` holds what a node needs, `test` the test tools as well; an environment made for `test` serves both.
# The environment is remade when its lock file, its Python or what pyproject.toml says about installing changes.
# PYTHON names the interpreter to build it with (default: python3, else a newer one by its versioned name).

REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${CGPBFT_VENV:-$REPOSITORY/.venv}"

_environment_fail() {
    printf 'error: %s\n' "$@" >&2
    return 1
}

# Prints the interpreter that environments are built from, never one inside an environment: that one may be removed next.
_find_python() {
    local candidate found candidates=(python3 python3.14 python3.13 python3.12 python3.11)
    if [[ -n "${PYTHON:-}" ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        found="$("$candidate" -c '
import sys
if sys.version_info >= (3, 11):
    print(getattr(sys, "_base_executable", None) or sys.executable)' 2>/dev/null)" || continue
        if [[ -n "$found" ]]; then
            printf '%s\n' "$found"
            return 0
        fi
    done
    if [[ -n "${PYTHON:-}" ]]; then
        _environment_fail "PYTHON=$PYTHON is not Python 3.11 or later"
    else
        _environment_fail "Python 3.11 or later is needed, and neither python3 nor python3.11 to python3.14 is one." \
            "Install it, or name one: PYTHON=/path/to/python $0"
    fi
}

_stamp_of() { # LEVEL LOCK PYTHON
    "$3" - "$1" "$2" "$REPOSITORY" <<'PYTHON_CODE'
import hashlib, pathlib, sys, tomllib
level, lock, repository = sys.argv[1:]
settings = tomllib.loads(pathlib.Path(repository, "pyproject.toml").read_text("utf-8"))
installing = [settings["build-system"], settings["project"], settings["tool"]["setuptools"]]
digest = hashlib.sha256(repr([sys.version, repository, installing]).encode())
digest.update(pathlib.Path(lock).read_bytes())
print(level, digest.hexdigest())
PYTHON_CODE
}

# Runs a command in silence; shows what it said when it fails.
_quietly() {
    local log status=0
    log="$(mktemp)"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [[ $status -ne 0 ]]; then tail -n 60 "$log" >&2; fi
    rm -f "$log"
    return "$status"
}

_build_environment() { # PYTHON LOCK STAMP KEEP
    printf 'Making the environment in %s (about a minute, once) ...\n' "$VENV" >&2
    # Tests after a run add to what is there (same versions in both locks): a network may be running from it.
    if $4; then rm -f "$VENV/.stamp"; else rm -rf "$VENV"; fi
    if [[ ! -d "$VENV" ]] && ! _quietly "$1" -m venv "$VENV"; then
        rm -rf "$VENV"
        _environment_fail "'$1 -m venv' failed; on Debian and Ubuntu the package python3-venv provides it."
        return 1
    fi
    local pip=("$VENV/bin/python" -m pip --disable-pip-version-check --no-input --quiet)
    if ! _quietly "${pip[@]}" install --require-hashes -r "$2"; then
        _environment_fail "the packages of ${2##*/} could not be installed; the lines above say why. Run the same command again to retry."
        return 1
    fi
    # The lock brought the build back end, so nothing more is fetched here.
    if ! _quietly "${pip[@]}" install --no-deps --no-build-isolation --editable "$REPOSITORY"; then
        _environment_fail "the project itself could not be installed; the lines above say why."
        return 1
    fi
    # Last: an environment without its stamp is unfinished and will be remade.
    printf '%s\n' "$3" >"$VENV/.stamp"
}

ensure_environment() { # runtime | test
    local level="${1:-runtime}" lock python stamp have
    case "$level" in
        runtime) lock="$REPOSITORY/requirements.lock" ;;
        test) lock="$REPOSITORY/requirements-test.lock" ;;
        *) _environment_fail "ensure_environment: '$level' is neither runtime nor test"; return 2 ;;
    esac
    python="$(_find_python)" || return 1

    # Two commands may start at once on a fresh clone: one builds, the other waits. Where there is no flock, nobody waits.
    local lock_fd=""
    if command -v flock >/dev/null; then
        exec {lock_fd}>"$VENV.lock"
        flock "$lock_fd"
    fi

    local status=0 keep=false runtime_stamp test_stamp
    runtime_stamp="$(_stamp_of runtime "$REPOSITORY/requirements.lock" "$python")" || status=1
    test_stamp="$(_stamp_of test "$REPOSITORY/requirements-test.lock" "$python")" || status=1
    if [[ $level == test ]]; then stamp="$test_stamp"; else stamp="$runtime_stamp"; fi
    have="$(cat "$VENV/.stamp" 2>/dev/null || true)"
    if [[ $status -eq 0 && "$have" != "$stamp" && "$have" != "$test_stamp" ]]; then
        if [[ "$have" == "$runtime_stamp" ]]; then keep=true; fi
        _build_environment "$python" "$lock" "$stamp" "$keep" || status=1
    fi
    if [[ -n "$lock_fd" ]]; then exec {lock_fd}>&-; fi
    if [[ $status -ne 0 ]]; then return 1; fi

    export VIRTUAL_ENV="$VENV" PATH="$VENV/bin:$PATH"
    unset PYTHONHOME
}
