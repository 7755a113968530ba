#!/usr/bin/env bash
# Make the pipeline's environment, venv_qwen25, and check it. Safe to interrupt and to run again.
#
#   bash setup_qwen25.sh                 what the pipeline needs
#   bash setup_qwen25.sh --with-extras   and mteb (phase 5), onnx, vicinity, and pylate (late interaction in phase 3)
#   bash setup_qwen25.sh --with-tests    and all that the tests need, the extras too
#   bash setup_qwen25.sh --oldest        the same in the oldest versions supported, in venv_oldest
#   PYTHON=python3.12 bash setup_qwen25.sh
#
# pip's own environment variables are honoured (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, ...).
set -euo pipefail
# Containers set it, and each command would then compile all libraries anew, which takes longer than to import them.
unset PYTHONDONTWRITEBYTECODE

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")") # absolute, through links
cd "$here"
venv="$here/venv_qwen25"
constraints=.ci/constraints.txt
python=${PYTHON:-python3}

extras=()
has="plain"
case "${1:-}" in
    "") ;;
    --with-extras)
        extras=(mteb onnx rag)
        has="plain --with-extras"
        ;;
    --with-tests | --oldest)
        extras=(mteb onnx rag test)
        has="plain --with-extras --with-tests"
        if [ "$1" = --oldest ]; then
            venv="$here/venv_oldest"
            constraints=.ci/constraints_oldest.txt
            has="$has --oldest"
        fi
        ;;
    *)
        sed -n '2,10s/^# \{0,1\}//p' "$here/setup_qwen25.sh" >&2
        exit 2
        ;;
esac

if ! command -v "$python" >/dev/null 2>&1; then
    echo "error: no $python found: install Python 3.10 or newer, or set PYTHON to one" >&2
    exit 2
fi
# Not its exit code: what is no Python at all may end well.
version=$("$python" -c 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || version=""
if ! [[ $version =~ ^Python\ ([0-9]+)\.([0-9]+)\.[0-9]+$ ]]; then
    echo "error: $python is no Python that runs: set PYTHON to Python 3.10 or newer" >&2
    exit 2
fi
minor=$((100 * BASH_REMATCH[1] + BASH_REMATCH[2])) # 310 is Python 3.10
if [ "$minor" -lt 310 ]; then
    echo "error: $version is too old: Python 3.10 or newer is needed; set PYTHON to one" >&2
    exit 2
fi
if [ "${1:-}" = --oldest ] && [ "$minor" -ge 313 ]; then
    echo "error: the oldest versions are older than $version: set PYTHON to 3.10, 3.11 or 3.12" >&2
    exit 2
fi

# A venv that was cut off half-made, moved, or made by a Python since removed does not run: make it anew.
if [ -d "$venv" ] && ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    echo "setup: $venv is incomplete; making it anew"
    rm -rf "$venv"
elif [ -n "${PYTHON:-}" ] && [ -d "$venv" ] && [ "$("$python" --version)" != "$("$venv/bin/python" --version)" ]; then
    echo "setup: $venv has $("$venv/bin/python" --version), not $("$python" --version); making it anew"
    rm -rf "$venv"
fi
if [ ! -d "$venv" ]; then
    echo "setup: making $(basename "$venv") with $version"
    "$python" -m venv "$venv" || {
        rm -rf "$venv"
        echo "error: $python cannot make a virtual environment: install its venv module" >&2
        exit 1
    }
fi

requirements_of() { # requirements_of EXTRA...: print their lines in pyproject.toml
    "$venv/bin/python" -c '
import sys
try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib
with open("pyproject.toml", "rb") as file:
    parts = tomllib.load(file)["project"]["optional-dependencies"]
print(*[line for name in sys.argv[1:] for line in parts[name]], sep="\n")' "$@"
}

install() { # install ARGUMENT...: pip's warnings go into a file, which is shown if it fails
    # Python compiles what it imports; compiling every file of every library here would take longer than that.
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --no-compile "$@" \
        >>"$venv/setup.log" 2>&1 || {
        cat "$venv/setup.log" >&2
        echo "error: pip could not install what is needed (above): check the network and pip's settings, run again" >&2
        exit 1
    }
}

rm -f "$venv/.ready" "$venv/setup.log"
echo "setup: installing (the first time takes minutes)"
# torch first and alone, so that a later package cannot draw in another build of it.
install -c "$constraints" torch
requirements=(-r requirements_qwen25.txt)
if [ ${#extras[@]} -gt 0 ]; then
    found=$(requirements_of "${extras[@]}")
    mapfile -t -O "${#requirements[@]}" requirements <<<"$found"
fi
install -c "$constraints" "${requirements[@]}"
if [ ${#extras[@]} -gt 0 ]; then
    install --no-deps "$(requirements_of pylate)"
fi

"$venv/bin/python" -m qwen25.runtime.provenance
# What was installed, so that run_qwen25.sh knows whether anything is missing.
cat requirements_qwen25.txt pyproject.toml "$constraints" | cksum >"$venv/.ready.new"
echo "$has" >>"$venv/.ready.new"
mv "$venv/.ready.new" "$venv/.ready"
echo "setup: done"
