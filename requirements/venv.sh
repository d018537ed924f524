#!/bin/sh
# Make or reuse a virtual environment that holds the named locks, and the checkout if asked.
#
#   requirements/venv.sh FOLDER LOCK...      run from the top of the checkout
#
# LOCK is a file requirements/LOCK.txt, or `edgedeploy` for the checkout itself (editable). Each is
# installed once and noted in FOLDER/locks with its digest; a lock that changed since, another
# Python or a checkout that moved make the environment anew. $PYTHON names the interpreter to use.
set -eu

venv=$1
shift
# What the user's shell or pip settings would put between pip and this environment.
unset PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT || true

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $1"
    shift
    for line in "$@"; do say "  $line"; done
    exit 1
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

suits() {
    case $(version_of "$1") in 3.11 | 3.12 | 3.13) return 0 ;; *) return 1 ;; esac
}

# Debian keeps ensurepip, which fills a new environment with pip, in a package of its own.
complete() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    say "installing $* with apt-get"
    apt-get update -qq >&2 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Sets $python to the first complete interpreter, or else to the first that only lacks ensurepip.
look_for_python() {
    python=
    [ -n "${PYTHON:-}" ] && set -- "$PYTHON" ||
        set -- python3 python3.13 python3.12 python3.11 /usr/bin/python3
    for name in "$@"; do
        if suits "$name"; then
            if complete "$name"; then
                python=$name
                return
            fi
            python=${python:-$name}
        fi
    done
}

find_python() {
    look_for_python
    if [ -z "$python" ] && [ -z "${PYTHON:-}" ] && may_install; then
        apt_install python3 python3-venv || true
        look_for_python
        if [ -z "$python" ]; then
            apt_install python3.11 python3.11-venv || true
            look_for_python
        fi
    fi
    if [ -z "$python" ]; then
        fail "no Python 3.11, 3.12 or 3.13 found (looked for ${PYTHON:-python3, python3.13, python3.12, python3.11})" \
            "install one, for instance: sudo apt-get install python3 python3-venv" \
            "or name one: make PYTHON=/path/to/python3.12 ..."
    fi
    if ! complete "$python" && may_install; then
        apt_install "python$(version_of "$python")-venv" || true
    fi
    if ! complete "$python"; then
        fail "$python has no ensurepip, so it cannot make an environment" \
            "sudo apt-get install python$(version_of "$python")-venv"
    fi
}

# One line that says what the environment was made from.
identity() {
    "$1" -c 'import platform, sys; print("python", platform.python_version(), *sys.argv[1:])' \
        "$PWD/$venv" 2>/dev/null
}

digest() {
    case $1 in
        edgedeploy) set -- pyproject.toml edgedeploy/__init__.py ;;
        *) set -- "requirements/$1.txt" ;;
    esac
    "$venv/bin/python" -c '
import hashlib, pathlib, sys
files = b"".join(pathlib.Path(name).read_bytes() for name in sys.argv[1:])
print(hashlib.sha256(files).hexdigest())' "$@"
}

# True when the environment can be added to: same Python, same place, no lock changed.
reusable() {
    [ -x "$venv/bin/python" ] || return 1
    if [ -n "${PYTHON:-}" ]; then
        [ "$(version_of "$PYTHON")" = "$(version_of "$venv/bin/python")" ] || return 1
    fi
    # One that was made by hand is taken over as it is, if it can be.
    [ -f "$venv/locks" ] || { suits "$venv/bin/python" && identity "$venv/bin/python" >"$venv/locks"; } || return 1
    [ "$(head -n 1 "$venv/locks")" = "$(identity "$venv/bin/python")" ] || return 1
    sed 1d "$venv/locks" | while read -r lock known; do
        [ "$lock" = edgedeploy ] || [ "$(digest "$lock")" = "$known" ] || exit 1
    done
}

pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"
}

install() {
    if [ "$1" = edgedeploy ]; then
        # Not isolated: an isolated build would fetch an unpinned setuptools.
        pip install -q --no-deps --no-build-isolation --editable .
        return
    fi
    say "$venv: installing requirements/$1.txt"
    case $1 in
        # Holds one package that exists as source only: pure Python, built with the setuptools that
        # an earlier lock has brought.
        models) how="--use-pep517 --no-build-isolation" ;;
        *) how="--only-binary :all:" ;;
    esac
    # The locks are complete, so pip has nothing to resolve.
    # shellcheck disable=SC2086 # $how is several words
    if ! pip install -q --no-deps --require-hashes $how -r "requirements/$1.txt"; then
        [ "$1" != torch-cpu ] || fail "no CPU build of torch for this Python and machine" \
            "it is not in the default package index: tell pip where it is (PIP_EXTRA_INDEX_URL" \
            "or PIP_FIND_LINKS); see CONTRIBUTING.md, 'The torch tests'"
        fail "pip could not install requirements/$1.txt (its own words are above)" \
            "behind a proxy or with a mirror, tell pip so: PIP_INDEX_URL, PIP_PROXY, PIP_CERT"
    fi
}

# Two makes at once must not fill the same environment; macOS has no flock and goes without.
if command -v flock >/dev/null; then
    exec 9>"$venv.lock"
    flock 9
fi

if ! reusable; then
    find_python
    say "$venv: a new environment with Python $(version_of "$python") ($python)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    identity "$venv/bin/python" >"$venv/locks"
fi
for lock in "$@"; do
    line="$lock $(digest "$lock")"
    if ! grep -qxF "$line" "$venv/locks"; then
        install "$lock"
        { grep -v "^$lock " "$venv/locks"; printf '%s\n' "$line"; } >"$venv/locks.new"
        mv "$venv/locks.new" "$venv/locks"
    fi
done
