#!/usr/bin/env bash
# Run the pipeline, setting up first what is missing. Arguments after the phase are passed through.
#
#   bash run_qwen25.sh demo       all three phases on a real Qwen2.5 (0.5B), into demo/; no account, no hub
#   bash run_qwen25.sh all        the real thing: Qwen2.5-1.5B-Instruct through phases 1 to 3, trained on --pairs
#                                 recommended (of the hub), or packaged (of the package index) for a packaged teacher
#   bash run_qwen25.sh distill    phase 1: distill_qwen25_1024d.py
#   bash run_qwen25.sh eval       phase 2: quick_eval_qwen25_1024d.py
#   bash run_qwen25.sh compare    phase 3: compare_qwen25_vs_all.py
#   bash run_qwen25.sh publish    phase 4: publish_qwen25.py
#   bash run_qwen25.sh mteb       phase 5: evaluate_qwen25_mteb.py
#   bash run_qwen25.sh page       a page for the browser, to try a model without a server
#   bash run_qwen25.sh test       ruff, mypy and the tests; test --oldest: the tests, in the oldest versions supported
#
# A single phase, or page, runs in the current folder, so that the paths it is given, and its defaults, start there.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")") # absolute, through links
venv="$here/venv_qwen25"
export HF_HUB_DISABLE_TELEMETRY=1
# What messages advise is to be run as this was.
QWEN25_COMMAND="bash $(printf %q "$0")"
export QWEN25_COMMAND
phase=${1:-}
[ $# -gt 0 ] && shift

usage() { sed -n '2,15s/^# \{0,1\}//p' "$here/run_qwen25.sh"; }

set_up() { # set_up [--with-extras|--with-tests|--oldest]: install unless that was done already, with this Python
    local wanted constraints=constraints_qwen25.txt
    if [ "${1:-}" = --oldest ]; then
        venv="$here/venv_oldest"
        constraints=constraints_oldest.txt
    fi
    wanted=$(cat "$here"/requirements_*.txt "$here/$constraints" | cksum)
    if [ "$(head -n 1 "$venv/.ready" 2>/dev/null)" != "$wanted" ] ||
        { [ -n "${1:-}" ] && ! grep -qw -- "$1" "$venv/.ready"; } ||
        { [ -n "${PYTHON:-}" ] && [ "$("$PYTHON" --version 2>&1)" != "$("$venv/bin/python" --version)" ]; }; then
        bash "$here/setup_qwen25.sh" "$@"
    fi
}

python() { "$venv/bin/python" "$@"; }

for_phase_1_alone() { # for_phase_1_alone FLAG...: refuse flags that would leave the later steps no model, or another
    local word
    for word in "$@"; do
        case "$word" in
            -h | --help)
                usage
                exit 0
                ;;
            --output | --output=* | --preset | --preset=* | --dry-run | --version)
                echo "error: $phase takes no ${word%%=*}: give it to the single phase, $QWEN25_COMMAND distill" >&2
                exit 2
                ;;
        esac
    done
}

step() { # step N OF WHAT
    echo "== $1 of $2: $3"
}

case "$phase" in
    demo)
        for_phase_1_alone "$@"
        set_up
        cd "$here"
        mkdir -p demo
        # demo:begin (rendered by python -m benchmarks.render_readme)
        echo "demo: Qwen2.5-Coder-0.5B at 65 MB: downloads 549.0 MB once, needs 3.1 GB of disk, took 9 minutes on 2 cores when measured"
        # demo:end
        step 1 4 "distil"
        name="Qwen2.5-Coder-0.5B static"
        python distill_qwen25_1024d.py --teacher qwen2.5-coder-0.5b --pairs packaged --tune rows \
            --output demo/model --name "$name" --overwrite --log-file demo/distill.log "$@"
        step 2 4 "evaluate"
        python quick_eval_qwen25_1024d.py --model demo/model --output demo/eval_results.json \
            --report demo/eval_report.html --json-only >/dev/null
        step 3 4 "compare" # what the hub's cache lacks is not asked for
        python compare_qwen25_vs_all.py --ours "$name=demo/model" --offline \
            --output demo/comparison_results.json >/dev/null
        step 4 4 "report"
        python -m qwen25.reports.demo demo
        ;;
    all)
        for_phase_1_alone "$@"
        set_up
        cd "$here"
        step 1 3 "distil"
        # A packaged teacher is for a machine without a hub: so are packaged pairs.
        case " $* " in
            *" --pairs"*) ;;
            *" --teacher"[\ =]qwen2.5-coder* | *" --teacher"[\ =]smollm2-135m*) set -- --pairs packaged --tune rows "$@" ;;
            *) set -- --pairs recommended --tune rows "$@" ;;
        esac
        echo "all: distill_qwen25_1024d.py $*"
        python distill_qwen25_1024d.py "$@"
        step 2 3 "evaluate"
        python quick_eval_qwen25_1024d.py
        step 3 3 "compare"
        python compare_qwen25_vs_all.py
        ;;
    distill | eval | compare | publish | mteb)
        if [ "$phase" = mteb ]; then set_up --with-extras; else set_up; fi
        case "$phase" in
            distill) script=distill_qwen25_1024d.py ;;
            eval) script=quick_eval_qwen25_1024d.py ;;
            compare) script=compare_qwen25_vs_all.py ;;
            publish) script=publish_qwen25.py ;;
            mteb) script=evaluate_qwen25_mteb.py ;;
        esac
        python "$here/$script" "$@"
        ;;
    page)
        set_up
        PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" python -m qwen25.commands.main page "$@"
        ;;
    test)
        cd "$here"
        if [ "${1:-}" = --oldest ]; then
            shift
            set_up --oldest
        else
            set_up --with-tests
            python -m ruff check .
            python -m ruff format --check .
            python -m mypy
        fi
        python -m pytest -n auto --dist loadfile "$@"
        ;;
    -h | --help | help)
        usage
        ;;
    *)
        usage >&2
        [ -z "$phase" ] || echo "error: there is no phase '$phase': give one of those above" >&2
        exit 2
        ;;
esac
