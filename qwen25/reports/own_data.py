"""What models found on the user's own pairs, and what a score means, as sentences and tables of all reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from qwen25.evaluation.thresholds import LENGTHS, PERCENTILES
from qwen25.runtime.display import print_lines, print_table
from qwen25.runtime.text import difference_text, with_interval

Result = dict[str, Any]


class Part(NamedTuple):
    """A titled part of a report: sentences, then a table.

    :ivar text_columns: the columns that hold texts.
    """

    title: str
    lines: Sequence[str]
    header: list[str]
    rows: list[list[str]]
    text_columns: Sequence[int] = ()


def own_parts(result: Result) -> list[Part]:
    """Return the parts of an evaluation or a comparison that speak of the user's own pairs; none without --on."""
    parts = []
    for found in result.get("own_data", []):
        first, title = found["systems"][0], f"On {found['name']}"
        header = ["model", "MRR@10 [95 % interval]", "cut at (right above)", f"against {first['name']}"]
        header += ["recall@1", "recall@10", "difference of MRR@10", "MRR@10 back"]
        rows = [_row(system) for system in sorted(found["systems"], key=lambda s: -s["forward"]["mrr@10"]["score"])]
        parts.append(Part(title, own_lines(found), header, rows))
        worst = [[w["asked"], w["right"], w["chosen"], f"{w['place']:,}"] for w in first["worst"]]
        if worst:
            header, what = ["asked", "right", "found instead", "place of the right one"], "What went worst for"
            parts.append(Part(f"{title}: {what} {first['name']}", (), header, worst, (1, 2)))
    return parts


def _row(system: Result) -> list[str]:
    mrr, *recalls = (with_interval(system["forward"][name]) for name in ("mrr@10", "recall@1", "recall@10"))
    cut, word, gain, back = "-", "", "", with_interval(system["back"]["mrr@10"])
    if difference := system["forward"]["mrr@10"].get("difference"):
        more = difference["more_queries"]
        word = difference["word"] + (f", {more:,} more queries would decide" if more else "")
        gain = difference_text(difference)
    if meaning := system.get("score_meaning"):
        near = meaning["cuts"]["near"]
        cut = f"{near['cosine']:.2f} ({near['right_above']:.0%})" if meaning["parts"] else "nowhere"
    return [system["name"], mrr, cut, word, *recalls, gain, back]


def own_lines(found: Result) -> list[str]:
    """Return what has to be said of one file; that its texts taught the model comes first."""
    first, best, name = found["systems"][0], found["best"], found["name"]
    lines = [
        f"{shared['texts']:,} of {shared['of']:,} texts of {name} that were looked up are among those that "
        f"{system['name']} was trained on: its scores here are too high."
        for system in found["systems"]
        if (shared := system.get("shared_with_training")) and shared["texts"]
    ]
    tied = f"; not told from it: {', '.join(best['tied'])}" if best["tied"] else ""
    lines.append(f"For {name}, {best['name']} finds answers best{tied}.")
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in found["dropped"].items()) or "none"
    counts = f"{found['queries']:,} queries, {found['documents']:,} documents to choose from; back, each answer is to "
    lines.append(f"{counts}find its query. Rows left out: {left_out}.")
    if found["documents"] == 1:
        lines.append("With one document to choose from, every model finds it: nothing was measured.")
    if meaning := first.get("score_meaning"):
        lines += meaning_lines(meaning)
    return lines


def meaning_lines(meaning: Result) -> list[str]:
    """Return what a cosine of a model says, in three sentences."""
    near, match = meaning["cuts"]["near"], meaning["cuts"]["match"]
    lines = [
        f"Of 100 unrelated texts one reaches a cosine of {near['cosine']:.2f}, of 1,000 one reaches "
        f"{match['cosine']:.2f}; their median is {meaning['unrelated']['all']['median']:.2f}.",
        f"Of right answers {near['right_above']:.0%} reach {near['cosine']:.2f} and {match['right_above']:.0%} reach "
        f"{match['cosine']:.2f}; their median is {meaning['right']['median']:.2f}.",
    ]
    if not meaning["parts"]:
        return [*lines, "The two overlap too far for a threshold: take the best-ranked texts, and cut nowhere."]
    advice = f"Below {near['cosine']:.2f} call it unrelated, from there near, from {match['cosine']:.2f} a match."
    return [*lines, advice]


def meaning_table(meaning: Result) -> tuple[list[str], list[list[str]]]:
    """Return the distributions of cosines as a table: header and rows."""
    header = ["cosines of", "pairs", *(name.replace("p", "").replace("median", "50") + " %" for name in PERCENTILES)]
    names, last = {}, 0.0
    for name, most in LENGTHS.items():
        names[name] = f"up to {most:.0f} characters" if most < float("inf") else f"more than {last:.0f}"
        last = most
    found = {f"unrelated texts, {names.get(name, name)}": cells for name, cells in meaning["unrelated"].items()}
    found["right answers"] = meaning["right"]
    rows = [[name, f"{c['pairs']:,}", *(f"{c[p]:.2f}" for p in PERCENTILES)] for name, c in found.items()]
    return header, rows


def meaning_of(result: Result) -> Result | None:
    """Return what reports say of an evaluation's cosines: on the user's own first file, else on the packaged texts."""
    for found in result.get("own_data", []):
        if meaning := found["systems"][0].get("score_meaning"):
            return {**said_of(meaning), "on": found["name"]}
    return said_of(result["score_meaning"]) if "score_meaning" in result else None


def said_of(meaning: Result) -> Result:
    """Return a measurement with its sentences, its table, and what it was made on."""
    lines = meaning_lines(meaning)
    found = {"measured": meaning, "lines": lines, "table": meaning_table(meaning)}
    if "languages" not in meaning:
        return found
    read, most = meaning["languages"], "at least three times as often as by random directions"
    others = ", ".join(sorted(set(meaning.get("translations", ())) - set(read))) or "none"
    lines.append(f"It reads languages whose sentences find their English translations {most}: {', '.join(read)}.")
    lines[-1] += f" Of those measured it does not read: {others}."
    if facts := meaning.get("long_texts"):
        medians = ", ".join(f"{cosine:.2f} for {size}" for size, cosine in facts["median"].items())
        share = f"a chunk of sixteen beats a sentence's own paraphrase for {facts['chunk_beats_paraphrase']:.0%}"
        lines.append(f"Median cosine of unrelated English texts by their sentences: {medians}; {share} of sentences.")
    return {**found, "on": _measured_on(meaning)}


def _measured_on(meaning: Result) -> str:
    count = len(meaning["languages"])
    read = (
        "English" if count == 1 else f"the {count} languages that the model reads ({', '.join(meaning['languages'])})"
    )
    return f"sentences on different subjects in {read}, alone and several joined, and on the calibration items"


def print_own_data(result: Result) -> None:
    """Print the tables of one's own pairs, and what they say, on standard output."""
    for part in own_parts(result):
        if not part.text_columns:  # a terminal has no room for texts side by side
            print_table(part.title, part.header, part.rows)
            print_lines(part.lines)
