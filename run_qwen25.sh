#!/usr/bin/env bash
# Run the pipeline, setting up first what is missing. Arguments after the phase are passed through.
#
#   bash run_qwen25.sh demo       all three phases on a real Qwen2.5 (0.5B), and a search, into demo/; no account, no hub
#   bash run_qwen25.sh all        the real thing: Qwen2.5-1.5B-Instruct through phases 1 to 3, trained on --pairs
#                                 recommended (of the hub), or packaged (of the package index) for a packaged teacher
#   bash run_qwen25.sh distill    phase 1: distill_qwen25_1024d.py
#   bash run_qwen25.sh eval       phase 2: quick_eval_qwen25_1024d.py
#   bash run_qwen25.sh compare    phase 3: compare_qwen25_vs_all.py
#   bash run_qwen25.sh publish    phase 4: render, check and upload what is published
#   bash run_qwen25.sh mteb       phase 5: score a model on MTEB
#   bash run_qwen25.sh encode     the vectors of a corpus of any size: Parquet, JSON Lines and CSV files
#   bash run_qwen25.sh page       a page for the browser, to try a model without a server
#   bash run_qwen25.sh test       ruff, mypy and the tests; test --oldest: the tests, in the oldest versions supported
#
# A single phase runs in the current folder, so that the paths it is given, and its defaults, start there.
set -euo pipefail
# Containers set it, and each command would then compile all libraries anew, which takes longer than to import them.
unset PYTHONDONTWRITEBYTECODE

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")") # absolute, through links
venv="$here/venv_qwen25"
export HF_HUB_DISABLE_TELEMETRY=1
# What messages advise is to be run as this was.
QWEN25_COMMAND="bash $(printf %q "$0")"
export QWEN25_COMMAND
phase=${1:-}
[ $# -gt 0 ] && shift

usage() { sed -n '2,16s/^# \{0,1\}//p' "$here/run_qwen25.sh"; }

set_up() { # set_up [--with-extras|--with-tests|--oldest]: install unless that was done already, with this Python
    local wanted constraints=.ci/constraints.txt
    if [ "${1:-}" = --oldest ]; then
        venv="$here/venv_oldest"
        constraints=.ci/constraints_oldest.txt
    fi
    wanted=$(cd "$here" && cat requirements_qwen25.txt pyproject.toml "$constraints" | cksum)
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
            -h | --help) usage && exit 0 ;;
            --output | --output=* | --preset | --preset=* | --dry-run)
                echo "error: $phase takes no ${word%%=*}: give it to the single phase, $QWEN25_COMMAND distill" >&2
                exit 2
                ;;
        esac
    done
}

case "$phase" in
    demo)
        for_phase_1_alone "$@"
        set_up
        cd "$here"
        mkdir -p demo
        # demo:begin (rendered by python -m benchmarks.render_readme)
        echo "demo: Qwen2.5-Coder-0.5B at 65 MB: downloads 649.5 MB once, took 7 minutes on 2 cores when measured"
        # demo:end
        name="Qwen2.5-Coder-0.5B static"
        echo "== 1 of 4: distil"
        python distill_qwen25_1024d.py --teacher qwen2.5-coder-0.5b --pairs packaged --tune rows --ask uk,fa,el \
            --output demo/model --name "$name" --overwrite --log-file demo/distill.log "$@"
        echo "== 2 of 4: evaluate"
        python quick_eval_qwen25_1024d.py --model demo/model --output demo/eval_results.json
        echo "== 3 of 4: compare" # pip fetches the peer that the index has; the hub is asked for nothing
        HF_HUB_OFFLINE=1 python compare_qwen25_vs_all.py --model "$name=demo/model" \
            --output demo/comparison_results.json
        echo "== 4 of 4: search thirty help articles"
        PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" python examples/help_search.py
        ;;
    all)
        for_phase_1_alone "$@"
        set_up
        cd "$here"
        # A packaged teacher is for a machine without a hub: so are packaged pairs.
        case " $* " in
            *" --teacher"[\ =]qwen2.5-coder* | *" --teacher"[\ =]smollm2-135m*) pairs=packaged ;;
            *) pairs=recommended ;;
        esac
        case " $* " in
            *" --pairs"*) ;;
            *) set -- --pairs $pairs --tune rows "$@" ;;
        esac
        echo "== 1 of 3: distill_qwen25_1024d.py $*"
        python distill_qwen25_1024d.py "$@"
        echo "== 2 of 3: evaluate"
        python quick_eval_qwen25_1024d.py
        echo "== 3 of 3: compare"
        python compare_qwen25_vs_all.py
        ;;
    distill | eval | compare | publish | mteb | encode | page)
        if [ "$phase" = mteb ]; then set_up --with-extras; else set_up; fi
        PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" python -m qwen25.commands.main "$phase" "$@"
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
    -h | --help | help) usage ;;
    *)
        usage >&2
        hint="give one of those above"
        [ "$phase" != distil ] || hint="did you mean distill?"
        [ -z "$phase" ] || echo "error: there is no phase '$phase': $hint" >&2
        exit 2
        ;;
esac
