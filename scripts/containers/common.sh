# shellcheck shell=bash
# shellcheck disable=SC2034 # used by those that source it
# What the commands in this folder share. Sourced, never run.

readonly BASE_TAG=python:3.11-slim-bookworm
repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
readonly repository
# A status of its own tells "this machine cannot do it" from "it failed"; automake and others skip a test on 77.
readonly CANNOT_RUN_HERE=77

work=${CGPBFT_CONTAINERS_WORK:-${TMPDIR:-/tmp}/cgpbft-containers}

stop_with() { # STATUS MESSAGE...
    local status=$1
    shift
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "$status"
}

# The folder's name can be foreseen, so it must be ours alone before root keeps images and a socket in it.
prepare_work_folder() {
    (umask 077 && mkdir -p -- "$work") || stop_with 1 "cannot make the work folder $work"
    work=$(cd -- "$work" && pwd -P)
    [ -O "$work" ] || stop_with 1 "the work folder $work belongs to somebody else; name another with --work DIR"
    # A socket's path may have 107 bytes, and the engine adds its own names to this one.
    [ ${#work} -le 60 ] || stop_with 1 "the work folder's path is too long for a socket in it: $work"
}

# Installs Debian's packages when one of the programs after `--` is missing: install_packages PACKAGE... -- PROGRAM...
# A name with a question mark is left out where this release of Debian has no such package.
install_packages() {
    local packages=() known=() package program
    while [ "$1" != -- ]; do
        packages+=("$1")
        shift
    done
    shift
    for program in "$@"; do
        command -v "$program" >/dev/null && continue
        command -v apt-get >/dev/null || stop_with "$CANNOT_RUN_HERE" "$program is missing, and there is no apt-get to install it with"
        apt-get -qq update >"$work/install.log" 2>&1 || true
        for package in "${packages[@]}"; do
            if [ "${package%\?}" = "$package" ] || apt-cache show "${package%\?}" >/dev/null 2>&1; then
                known+=("${package%\?}")
            fi
        done
        # RUNLEVEL=1 keeps the packages from starting services of their own: the engine here is started by hand.
        if ! RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${known[@]}" \
            >>"$work/install.log" 2>&1 </dev/null; then
            tail -n 20 -- "$work/install.log" >&2
            stop_with "$CANNOT_RUN_HERE" "Debian's packages could not be installed: ${known[*]}"
        fi
        return
    done
}
