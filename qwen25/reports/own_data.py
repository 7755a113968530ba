"""What models found on the user's own pairs, and what a score means, as sections of all reports."""

from __future__ import annotations

from typing import Any

from qwen25.evaluation.thresholds import LENGTHS, PERCENTILES
from qwen25.reports.sections import Section
from qwen25.runtime.text import difference_text, with_interval

Result = dict[str, Any]


def own_sections(result: Result) -> list[Section]:
    """Return what an evaluation or a comparison says of the user's own pairs; nothing without --on."""
    sections = []
    for found in result.get("own_data", []):
        first, title = found["systems"][0], f"On {found['name']}"
        header = ["model", "MRR@10 [95 % interval]", "cut at (right above)", f"against {first['name']}"]
        header += ["recall@1", "recall@10", "difference of MRR@10", "MRR@10 back"]
        rows = [_row(system) for system in sorted(found["systems"], key=lambda s: -s["forward"]["mrr@10"]["score"])]
        sections.append(Section(title, own_lines(found), header, rows))
        if worst := [[w["asked"], w["right"], w["chosen"], f"{w['place']:,}"] for w in first["worst"]]:
            header = ["asked", "right", "found instead", "place of the right one"]
            sections.append(Section(f"{title}: what went worst for {first['name']}", (), header, worst, texts=True))
    return sections


def _row(system: Result) -> list[str]:
    mrr, *recalls = (with_interval(system["forward"][name]) for name in ("mrr@10", "recall@1", "recall@10"))
    cut, word, gain = "-", "", ""
    if difference := system["forward"]["mrr@10"].get("difference"):
        more = difference["more_queries"]
        word = difference["word"] + (f", {more:,} more queries would decide" if more else "")
        gain = difference_text(difference)
    if meaning := system.get("score_meaning"):
        near = meaning["cuts"]["near"]
        cut = f"{near['cosine']:.2f} ({near['right_above']:.0%})" if meaning["parts"] else "nowhere"
    return [system["name"], mrr, cut, word, *recalls, gain, with_interval(system["back"]["mrr@10"])]


def own_lines(found: Result) -> list[str]:
    """Return what has to be said of one file; that its texts taught the model comes first."""
    best, name = found["best"], found["name"]
    lines = [
        f"{shared['texts']:,} of {shared['of']:,} texts of {name} that were looked up are among those that "
        f"{system['name']} was trained on: its scores here are too high."
        for system in found["systems"]
        if (shared := system.get("shared_with_training")) and shared["texts"]
    ]
    tied = f"; not told from it: {', '.join(best['tied'])}" if best["tied"] else ""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in found["dropped"].items()) or "none"
    lines += [
        f"For {name}, {best['name']} finds answers best{tied}.",
        f"{found['queries']:,} queries, {found['documents']:,} documents to choose from; back, each answer is to find "
        f"its query. Rows left out: {left_out}.",
    ]
    if found["documents"] == 1:
        lines.append("With one document to choose from, every model finds it: nothing was measured.")
    meaning = found["systems"][0].get("score_meaning")
    return lines + (meaning_lines(meaning) if meaning else [])


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


def meaning_sections(result: Result) -> list[Section]:
    """Return what an evaluation's cosines say: on the user's own first file, else on the packaged texts."""
    for found in result.get("own_data", []):
        if meaning := found["systems"][0].get("score_meaning"):
            return [_meaning_section(meaning, found["name"])]
    return [packaged_meaning(result["score_meaning"])] if "score_meaning" in result else []


def packaged_meaning(meaning: Result) -> Section:
    """Return what a model's cosines say on the packaged texts, and which languages it reads."""
    read, most = meaning["languages"], "at least three times as often as by random directions"
    others = ", ".join(sorted(set(meaning["translations"]) - set(read))) or "none"
    lines = [
        f"It reads languages whose sentences find their English translations {most}: {', '.join(read)}. "
        f"Of those measured it does not read: {others}."
    ]
    if facts := meaning.get("long_texts"):
        medians = ", ".join(f"{cosine:.2f} for {size}" for size, cosine in facts["median"].items())
        share = f"a chunk of sixteen beats a sentence's own paraphrase for {facts['chunk_beats_paraphrase']:.0%}"
        lines.append(f"Median cosine of unrelated English texts by their sentences: {medians}; {share} of sentences.")
    known = f"the {len(read)} languages that the model reads ({', '.join(read)})" if read[1:] else "English"
    where = f"sentences on different subjects in {known}, alone and several joined, and on the calibration items"
    return _meaning_section(meaning, where, lines)


def _meaning_section(meaning: Result, measured_on: str, more_lines: list[str] | None = None) -> Section:
    """Return the sentences and the table of what a model's cosines say."""
    lengths = {name: f"up to {most:.0f} characters" for name, most in LENGTHS.items()} | {"long": "longer"}
    found = {f"unrelated texts, {lengths.get(name, name)}": cells for name, cells in meaning["unrelated"].items()}
    found["right answers"] = meaning["right"]
    return Section(
        "What a score means",
        [*meaning_lines(meaning), *(more_lines or [])],
        ["cosines of", "pairs", *(name.replace("p", "").replace("median", "50") + " %" for name in PERCENTILES)],
        [[name, f"{cells['pairs']:,}", *(f"{cells[p]:.2f}" for p in PERCENTILES)] for name, cells in found.items()],
        note=f"Measured on {measured_on}.",
    )
