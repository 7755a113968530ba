"""The measurements -> docs/PERFORMANCE.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

JSON = Path("docs/performance.json")
REPORT = Path("docs/PERFORMANCE.md")
HEADINGS = {
    "smollm2": "SmolLM2-135M",
    "coder05": "Qwen2.5-Coder-0.5B",
    "coder15": "Qwen2.5-Coder-1.5B",
    "qwen7": "Qwen2.5-7B's shape, random weights, a few layers",
    "cuda": "CUDA, Qwen2.5-1.5B's shape, random weights",
}
SECTIONS = tuple(HEADINGS)
#: The sections of real weights, and the packaged teacher of each.
PACKAGED_TEACHERS = {"smollm2": "smollm2-135m", "coder05": "qwen2.5-coder-0.5b", "coder15": "qwen2.5-coder-1.5b"}


def render(data: dict[str, Any]) -> str:
    """Turn the measurements into Markdown; every number in it is one of theirs."""
    lines = [
        "# How long phase 1's token states take",
        "",
        "Written by `python -m benchmarks.distill_speed --render` from "
        "[`performance.json`](performance.json): do not edit.",
        "",
        "Both sides load the same files, compute one state a token and save the array; each is a process of its own,",
        "timed from start to end, and its memory is the kernel's peak. *plain recipe*: each token alone, the last",
        "layer, which is what model2vec computes; *default recipe*: what phase 1 does unless told otherwise.",
        "*products in*: the number format of our products with weights, whose states stay float32, and of all that",
        "model2vec computes. Phase 1 takes bfloat16 where the processor has it built in; older sections were measured",
        "before it did.",
        "The rate is that of the plain forward pass's operations, also where some of them are left out.",
        "A time marked with * is projected: measured on fewer rows or layers, its computation scaled to the whole.",
    ]
    for name in SECTIONS:
        if name in data:
            lines += ["", f"## {HEADINGS[name]}", "", *_section_lines(data[name])]
    return "\n".join(lines) + "\n"


def _section_lines(found: dict[str, Any]) -> list[str]:
    if "skipped" in found:
        return [f"Not measured: {found['skipped']}. To measure it:", "", "```bash", found["command"], "```"]
    teacher, machine, run_facts = found["teacher"], found["machine"], found["provenance"]
    hardware, versions = run_facts["hardware"], run_facts["versions"]
    lines = [
        "| side | products in | rows | last layer | wall time | whole | peak memory | rate | of the machine's |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for side, result in found["sides"].items():
        mark = "*" if result["projected"] else ""
        lines.append(
            f"| {side} | {result['dtype']} | {result['rows']:,} | {result['layers'][-1]} "
            f"| {result['wall_seconds']:.1f} s | {_clock(result['whole_wall_seconds'])}{mark} "
            f"| {result['peak_bytes'] / 1e9:.2f} GB "
            f"| {result['operations_per_second'] / 1e9:.0f} GFLOP/s | {result['share_of_machine']:.0%} |"
        )
    lines.append("")
    mine, peer = found["sides"].get("ours, plain recipe"), found["sides"].get("model2vec.distill")
    if mine and peer:
        quick = found["sides"]["ours, default recipe"]
        for what, side in (("the same states, our plain recipe", mine), ("our default recipe", quick)):
            times, memory = (peer[key] / side[key] for key in ("whole_wall_seconds", "peak_bytes"))
            lines.append(f"- Against {what}: model2vec takes {times:.1f} times as long, {memory:.1f} times the memory.")
    elif mine:
        lines.append(
            f"Measured with {teacher['num_hidden_layers']} of {teacher['whole_layers']} layers; "
            "the other side would have to hold the whole model, and is not measured."
        )
    if found["agreement"]:
        same = found["agreement"]
        lines.append("")
        lines.append(
            f"Both sides' last states of {same['tokens']:,} tokens agree: least cosine {same['least_cosine']:.6f}, "
            f"largest relative error {same['largest_relative_error']:.1e}."
        )
    for whole in found["phase1"] or []:
        steps = whole["step_seconds"]
        lines += [
            "",
            f"The whole of phase 1 with `{' '.join(whole['flags'])}`: {_clock(whole['wall_seconds'])} and "
            f"{whole['peak_bytes'] / 1e9:.2f} GB at its peak, for",
            f"{whole['rows']:,} rows x {whole['dims']} ({whole['file_bytes'] / 1e6:.2f} MB); token states take "
            f"{_clock(steps['token_states'])} of it.",
        ]
    threads = next(iter(machine.values()))["threads"]
    lines += [
        "",
        f"Machine: {hardware.get('gpu') or hardware['processor']}, {threads} thread(s); its matrix products",
        "at this layer's shapes:",
        *(
            f"{dtype} {products['rate'] / 1e9:.0f} GFLOP/s "
            f"({', '.join(f'{name} {rate / 1e9:.0f}' for name, rate in products['rates'].items())})."
            for dtype, products in machine.items()
        ),
        f"Measured {run_facts['created'][:10]} with torch {versions['torch']}, "
        f"transformers {versions['transformers']}, model2vec {versions['model2vec']}: `{run_facts['command']}`.",
    ]
    return lines


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
