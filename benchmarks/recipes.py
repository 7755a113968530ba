#!/usr/bin/env python3
"""Which recipe distils best, and which form keeps most of it in how many bytes?

    python -m benchmarks.recipes --public-eval FOLDER      # a folder with score.py and dev/; writes docs/recipes.json
    python -m benchmarks.recipes --render                  # docs/RECIPES.md and docs/size_frontier.svg from it
    python -m benchmarks.recipes --quick                   # a small vocabulary and few rows, to try the benchmark out

Everything comes from one teacher, one pass of token states and one set of texts that it wrote, and is
scored on the calibration items and, if there is a folder of it, on public data. The public scorer is any
module with ``score(encode, data_folder) -> {"overall": ..., "categories": ...}``. Each difference is from
the default recipe's whole float32 table, on the same bootstrap resamples.

Every form of a size is distilled for its own vocabulary: the tokenizer is cut, frequencies are counted
for what is left, and the vectors are computed from its tokens' states. Run it on a quiet machine: the
last section is a measurement of time.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from model2vec import StaticModel
from model2vec.persistence import save_pretrained
from safetensors.numpy import load_file

from benchmarks.evaluation_validity import public_scorer
from distill_qwen25_1024d import DIMS, SEED, TEXTS, sums_of
from qwen25.distillation.frequencies import ZIPF_SHARE, rank_frequencies, teacher_frequencies
from qwen25.distillation.recipe import RECIPES, ZIPF_SIF, Recipe
from qwen25.distillation.sentences import PROMPT, bend, sentence_vectors
from qwen25.distillation.vectors import distil_vectors
from qwen25.distillation.vocabulary import Vocabulary, first_rows, rows_within, static_vocabulary
from qwen25.distillation.writing import BATCH, write_texts
from qwen25.evaluation.categories.all import WEIGHTS
from qwen25.evaluation.categories.multilingual_alignment import LANGUAGES
from qwen25.evaluation.encoder import Encoder, random_control, static_encoder
from qwen25.evaluation.evaluate import Evaluation, evaluate
from qwen25.evaluation.fields import Item
from qwen25.evaluation.items import calibration_folder, default_items_folder, items_sha256, load_items
from qwen25.evaluation.loading import load_encoder
from qwen25.evaluation.statistics import interval
from qwen25.reports.comparison_report import markdown_table
from qwen25.runtime import console
from qwen25.runtime.console import add_common_flags
from qwen25.runtime.errors import EXIT_OK, InputError, PipelineError
from qwen25.runtime.files import read_json, sha256, write_json, write_text
from qwen25.runtime.log import logger
from qwen25.runtime.provenance import Clock, provenance
from qwen25.runtime.wording import difference_text, size_text, with_interval
from qwen25.states.checkpoint import Checkpointing
from qwen25.states.jobs import frame_for
from qwen25.states.token_states import token_states
from qwen25.teacher.teacher import Teacher, find_teacher

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "recipes.json"
#: Beside the result.
DOCUMENT, PLOT = "RECIPES.md", "size_frontier.svg"
LAYERS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
SENTENCES = 4096
FEWER_DIMS = (1024, 512, 256, 128)
BUDGETS_MB = (20.0, 40.0, 65.0, 100.0)
CLUSTERED_MB = (65.0,)
#: The size that the text sets beside the whole table.
SHOWN_MB = 65.0
HALF_DIMS = 512
#: What a token of a clustered table costs besides: the number of its centroid and its weight.
MAPPING_BYTES = 4 + 4
CLUSTER_EPOCHS = 3
SPEED_SENTENCES, SPEED_REPEATS = 20_000, 3
QUICK_ROWS, QUICK_TEXTS, QUICK_SENTENCES = 4096, 64, 2000
QUICK_BUDGETS_MB, QUICK_CLUSTERED_MB = (2.0, 6.5, 10.0), (6.5,)
Row = dict[str, Any]


@dataclass
class Scorer:
    """Scores tables on the calibration items and on the public data.

    :ivar public: the public scorer's ``score``, or None.
    :ivar reference: the evaluation that differences are taken from, once there is one.
    """

    items: dict[str, list[Item]]
    public: Callable[[Any], dict[str, Any]] | None
    seed: int
    reference: Evaluation | None = None

    def table(self, name: str, table: np.ndarray, vocab: Vocabulary) -> Row:
        """Return the scores of a table of vectors."""
        return self.encoder(static(name, table, vocab))

    def encoder(self, encoder: Encoder) -> Row:
        """Return a model's scores; the first model of all is the reference."""
        ours = evaluate(encoder, self.items, self.seed, with_control=False, with_health=False)
        base = self.reference = self.reference or ours
        difference = interval(ours.replicates - base.replicates)
        public = self._public(encoder)
        outside = f"public {public['overall']:.3f}  " if public else ""
        print(f"{ours.overall:.3f}  {outside}{encoder.name}", flush=True)
        return {
            "overall": {"score": ours.overall, "interval": list(ours.interval)},
            "difference": {"value": ours.overall - base.overall, "interval": list(difference)},
            "categories": {name: score.score for name, score in ours.categories.items()},
            "public": public,
        }

    def _public(self, encoder: Encoder) -> Row | None:
        if self.public is None:
            return None
        found = self.public(encoder.encode)
        return {"overall": found["overall"], "categories": found["categories"]}


def static(name: str, table: np.ndarray, vocab: Vocabulary) -> Encoder:
    """Return a table of vectors as a model; float16 is widened, which changes no value and saves time."""
    wide = table.astype(np.float32) if table.dtype == np.float16 else table
    model = StaticModel(wide, vocab.tokenizer, normalize=True, max_length=None)
    return static_encoder(name, model, size_bytes=table.nbytes)


@dataclass(frozen=True)
class Source:
    """What the teacher gives.

    :ivar states: layer -> state of each row, behind the default recipe's prefix.
    :ivar alone: the last state of each row without a prefix.
    :ivar texts: how many texts ``counts`` are from.
    :ivar counts: how often the teacher uses each of its tokens in the first texts.
    :ivar all_counts: the same in all texts.
    :ivar sentences: texts that ``targets`` are the teacher's vectors of.
    """

    teacher: Teacher
    vocab: Vocabulary
    compute: dict[int, np.ndarray]
    alone: np.ndarray
    texts: int
    counts: np.ndarray
    all_counts: np.ndarray
    sentences: list[str]
    targets: np.ndarray

    def frequencies(self, vocab: Vocabulary, counts: np.ndarray) -> np.ndarray:
        """Return the tokens' probabilities as phase 1 takes them."""
        return teacher_frequencies(vocab, self.teacher.tokenizer(), counts)

    def rows_of(self, cut: Vocabulary) -> np.ndarray:
        """Return where the tokens of a cut vocabulary are in the uncut one."""
        return np.searchsorted(self.vocab.teacher_ids, cut.teacher_ids)


def load_source(args: argparse.Namespace, teacher: Teacher, clock: Clock) -> Source:
    """Compute the states, let the teacher write and read; what is done is kept in ``--work``."""
    vocab = static_vocabulary(teacher.tokenizer())
    if args.quick:
        vocab = first_rows(vocab, QUICK_ROWS)
    prefix = RECIPES["default"].prefix

    def compute(text: str, layers: list[int], name: str) -> dict[int, np.ndarray]:
        states = token_states(teacher, frame_for(teacher, text), layers)
        found = states.compute(vocab.sequences, Checkpointing(args.work / name))
        clock.lap(f"states {name}")
        return found

    numbers = replace(RECIPES["default"], layers=LAYERS).layer_numbers(teacher.layers)
    by_layer = compute(prefix, numbers, "prefixed")
    alone = compute(RECIPES["plain"].prefix, [teacher.layers], "alone")[teacher.layers]
    count, folder = max(args.texts, args.sentence_vectors), args.work / "texts"
    written = write_texts(teacher, count, prefix=prefix, seed=args.seed, checkpointing=Checkpointing(folder))
    clock.lap("texts")
    texts, counts = first_counts(folder, args.texts, count)
    lines = written.lines(teacher, args.sentence_vectors)
    targets = read_sentences(args.work, teacher, lines)
    clock.lap("sentence vectors")
    return Source(teacher, vocab, by_layer, alone, texts, counts, written.counts, lines, targets)


def first_counts(folder: Path, wanted: int, written: int) -> tuple[int, np.ndarray]:
    """Return the token counts of the first texts, whole batches of them, and how many texts that is."""
    batches = math.ceil(wanted / BATCH)
    files = [folder / f"batch-{i:05d}.safetensors" for i in range(batches)]
    counts: np.ndarray = np.sum([load_file(file)["counts"] for file in files], axis=0)
    return min(batches * BATCH, written), counts


def read_sentences(work: Path, teacher: Teacher, lines: list[str]) -> np.ndarray:
    """Return the teacher's vectors of the texts, kept in a file for the next run."""
    key = hashlib.sha256("\0".join([teacher.weights_sha256, *PROMPT, *lines]).encode()).hexdigest()
    path = work / f"sentences-{key[:16]}.npy"
    if not path.exists():
        np.save(path, sentence_vectors(teacher, lines))
    found: np.ndarray = np.load(path)
    return found


def variants() -> list[tuple[str, Recipe, bool]]:
    """Return the recipes beside the default one: name, recipe, whether a tenth of Zipf's law is mixed in."""
    default = RECIPES["default"]
    zipf = replace(default, frequencies="zipf", sif=ZIPF_SIF)
    found = [
        ("embeddings only", replace(zipf, layers=(0.0,)), True),
        ("without 1/8", replace(zipf, layers=(0.0, 0.25)), True),
        ("Zipf's law", zipf, True),
        ("SIF 1e-4", replace(default, sif=1e-4), True),
        ("SIF 1e-3", replace(default, sif=1e-3), True),
    ]
    found += [
        (f"with {share_text(share)}", replace(default, layers=(*default.layers, share)), True)
        for share in LAYERS
        if share not in default.layers
    ]
    found += [
        ("no whitening", replace(default, whitening=0.0), True),
        ("half whitening", replace(default, whitening=0.25), True),
        ("no Zipf share", default, False),
    ]
    return found


def share_text(share: float) -> str:
    """Name a layer by its share of the depth."""
    top, bottom = share.as_integer_ratio()
    return {0: "embeddings", 1: "last"}.get(share) or f"{top}/{bottom}"  # type: ignore[call-overload]


def distil(source: Source, recipe: Recipe, frequencies: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the table of a recipe, of some rows or of all."""
    layers = [source.states[n] for n in recipe.layer_numbers(source.teacher.layers)]
    chosen = layers if rows is None else [layer[rows] for layer in layers]
    return distil_vectors(chosen, frequencies, recipe, DIMS)


def described(name: str, recipe: Recipe, source: str, texts: int, **more: Any) -> Row:
    """Return what a row says of its recipe; ``source``: where its frequencies are from."""
    return {
        "name": name, "layers": list(recipe.layers), "prefix": recipe.prefix, "frequencies": source,
        "texts": texts, "sif": recipe.sif, "whitening": recipe.whitening, "sentence_vectors": 0, **more,
    }  # fmt: skip


def recipe_rows(source: Source, scorer: Scorer, full: np.ndarray, args: argparse.Namespace) -> list[Row]:
    """Score the recipes; the default one first, because differences are taken from it."""
    default, plain = RECIPES["default"], RECIPES["plain"]
    facts = described("default", default, "teacher", source.texts, dims=full.shape[1])
    ours = {**facts, **scorer.table("default", full, source.vocab)}
    control = random_control(static("default", full, source.vocab), args.seed)
    if control is None:
        raise PipelineError("the default table has no control")
    zipf = rank_frequencies(source.vocab)
    table = distil_vectors([source.alone], zipf, plain, DIMS)
    return [
        {**described("plain", plain, "zipf", 0, dims=table.shape[1]), **scorer.table("plain", table, source.vocab)},
        {**facts, "name": "random directions", **scorer.encoder(control)},
        ours,
        *([] if args.quick else [variant_row(source, scorer, *variant) for variant in variants()]),
        sentence_row(source, scorer),
    ]


def variant_row(source: Source, scorer: Scorer, name: str, recipe: Recipe, share: bool) -> Row:
    """Score one variant of the default recipe."""
    if recipe.frequencies == "zipf":
        frequencies, origin = rank_frequencies(source.vocab), "zipf"
    elif share:
        frequencies, origin = source.frequencies(source.vocab, source.counts), "teacher"
    else:
        counts = source.counts[source.vocab.teacher_ids]
        frequencies, origin = counts / counts.sum(), "teacher alone"
    table = distil(source, recipe, frequencies)
    texts = 0 if origin == "zipf" else source.texts
    return {
        **described(name, recipe, origin, texts, dims=table.shape[1]),
        **scorer.table(name, table, source.vocab),
    }


def sentence_row(source: Source, scorer: Scorer) -> Row:
    """Score the default recipe bent to sentence vectors; its frequencies are from all that was written."""
    frequencies = source.frequencies(source.vocab, source.all_counts)
    table = distil(source, RECIPES["default"], frequencies)
    table = bend(table, frequencies, sums_of(table, source.vocab, source.sentences), source.targets)
    count = len(source.sentences)
    texts = max(count, source.texts)
    name = f"sentence vectors of {count:,} texts"
    facts = described(name, RECIPES["default"], "teacher", texts, sentence_vectors=count, dims=table.shape[1])
    return {**facts, **scorer.table(name, table, source.vocab)}


def dims_rows(source: Source, scorer: Scorer, full: np.ndarray) -> list[Row]:
    """Score the default table's first principal directions."""
    rows = []
    for dims in FEWER_DIMS:
        table = np.ascontiguousarray(full[:, :dims])
        scores = scorer.table(f"{table.shape[1]} dimensions", table, source.vocab)
        rows.append({"dims": table.shape[1], "bytes": table.nbytes, **scores})
    return rows


FORMS = {
    "float16": "first merges x 1024, float16",
    "float32": "first merges x 1024, float32",
    "all_float16": "all tokens, fewer dimensions, float16",
    "float16_512": "first merges x 512, float16",
    "clustered": "all tokens, clustered, float16",
    "int8": "first merges x 1024, int8",
}
#: form -> (bytes a number, least of the default's dimensions and this).
CUT_FORMS = {"float16": (2, DIMS), "float32": (4, DIMS), "float16_512": (2, HALF_DIMS), "int8": (1, DIMS)}


class Tables:
    """The default recipe's tables of cut vocabularies, each computed once."""

    def __init__(self, source: Source, full: np.ndarray) -> None:
        """Start with the whole one."""
        self.source, self.full = source, full
        self._made: dict[int, tuple[Vocabulary, np.ndarray]] = {}

    def first(self, rows: int) -> tuple[Vocabulary, np.ndarray]:
        """Return the vocabulary of the first merges and its own table."""
        if rows >= len(self.source.vocab):
            return self.source.vocab, self.full
        if rows not in self._made:
            cut = first_rows(self.source.vocab, rows)
            frequencies = self.source.frequencies(cut, self.source.counts)
            table = distil(self.source, RECIPES["default"], frequencies, self.source.rows_of(cut))
            self._made[rows] = cut, table
        return self._made[rows]


def stored(table: np.ndarray, form: str) -> np.ndarray:
    """Return a table in the numbers of a form."""
    if form == "int8":
        return np.rint(table * (127 / np.abs(table).max())).astype(np.int8)
    return table.astype(np.float32 if form == "float32" else np.float16)


def size_rows(tables: Tables, scorer: Scorer, args: argparse.Namespace) -> list[Row]:
    """Score every form at every size, and the whole tables."""
    whole = {form: cut_row(tables, scorer, form, None) for form in CUT_FORMS}
    rows = []
    for budget in QUICK_BUDGETS_MB if args.quick else BUDGETS_MB:
        for form, (width, _) in CUT_FORMS.items():
            fits = rows_within(budget, whole[form]["dims"], width) >= whole[form]["tokens"]
            rows.append({**whole[form], "budget_mb": budget} if fits else cut_row(tables, scorer, form, budget))
        if rows_within(budget, whole["float16"]["tokens"], 2) < whole["float16"]["dims"]:
            rows.append(fewer_dims_row(tables, scorer, budget))
        else:
            rows.append({**whole["float16"], "form": "all_float16", "budget_mb": budget})
        if budget in (QUICK_CLUSTERED_MB if args.quick else CLUSTERED_MB):
            rows.append(clustered_row(tables, scorer, budget, args.seed))
    return rows + list(whole.values())


def size_row(scorer: Scorer, form: str, budget: float | None, vocab: Vocabulary, table: np.ndarray, **more: Any) -> Row:
    """Score one form at one size; ``budget`` None: the whole table."""
    name = f"{'whole' if budget is None else f'{budget:g} MB'}: {FORMS[form]}"
    facts = {
        "form": form, "budget_mb": budget, "whole": budget is None, "tokens": len(vocab),
        "dims": table.shape[1], "bytes": table.nbytes, **more,
    }  # fmt: skip
    return {**facts, **scorer.table(name, table, vocab)}


def cut_row(tables: Tables, scorer: Scorer, form: str, budget: float | None) -> Row:
    """Score the first merges, as many as fit."""
    width, dims = CUT_FORMS[form]
    dims = min(dims, tables.full.shape[1])
    rows = len(tables.source.vocab) if budget is None else rows_within(budget, dims, width)
    vocab, table = tables.first(rows)
    return size_row(scorer, form, budget, vocab, stored(table[:, :dims], form))


def fewer_dims_row(tables: Tables, scorer: Scorer, budget: float) -> Row:
    """Score the whole vocabulary with as many dimensions as fit."""
    vocab = tables.source.vocab
    dims = rows_within(budget, len(vocab), 2)
    return size_row(scorer, "all_float16", budget, vocab, stored(tables.full[:, :dims], "float16"))


def clustered_row(tables: Tables, scorer: Scorer, budget: float, seed: int) -> Row:
    """Score the whole vocabulary with a centroid for each token, scaled by the token's own weight."""
    vocab, full = tables.source.vocab, tables.full
    mapping = MAPPING_BYTES * len(vocab)
    count = rows_within(budget - mapping / 1e6, full.shape[1], 2)
    norms = np.maximum(np.linalg.norm(full, axis=1, keepdims=True), 1e-12)
    centroids, nearest = clusters(full / norms, count, seed)
    kept = centroids.astype(np.float16)
    row = size_row(scorer, "clustered", budget, vocab, kept[nearest].astype(np.float32) * norms, centroids=count)
    return {**row, "bytes": kept.nbytes + mapping}


def clusters(rows: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return k-means centroids of the rows and the number of each row's nearest one."""
    from sklearn.cluster import MiniBatchKMeans

    # k-means++ would take hours with so many centroids; most of them stay at one row.
    fit = MiniBatchKMeans(
        count, init="random", n_init=1, batch_size=4096, max_iter=CLUSTER_EPOCHS, random_state=seed,
        max_no_improvement=None, reassignment_ratio=0.0,
    ).fit(rows)  # fmt: skip
    return fit.cluster_centers_, fit.labels_


def speed_rows(tables: Tables, args: argparse.Namespace) -> list[Row]:
    """Measure how many sentences a second each stored form encodes, in turn, several times."""
    models, absent = speed_models(tables, args)
    texts = speed_texts(QUICK_SENTENCES if args.quick else SPEED_SENTENCES)
    rates: dict[str, list[float]] = {model.name: [] for model in models}
    for model in models:
        model.encode(texts[:200])
    for _, model in itertools.product(range(SPEED_REPEATS), models):
        started = time.perf_counter()
        model.encode(texts)
        rates[model.name].append(len(texts) / (time.perf_counter() - started))
    base = statistics.median(rates[models[0].name])
    rows = []
    for model in models:
        middle = statistics.median(rates[model.name])
        print(f"{middle:,.0f} sentences/s  {model.name}", flush=True)
        rows.append({
            "name": model.name, "dims": model.dims, "rate": middle, "rates": rates[model.name],
            "ratio_to_float32": middle / base, "sentences": len(texts), "unavailable": None,
        })  # fmt: skip
    return rows + absent


def speed_models(tables: Tables, args: argparse.Namespace) -> tuple[list[Encoder], list[Row]]:
    """Return the models to time, the whole float32 table first, and a row for each that cannot be had."""
    budget = QUICK_BUDGETS_MB[0] if args.quick else SHOWN_MB
    cut, small = tables.first(rows_within(budget, tables.full.shape[1], 2))
    whole, small_name = tables.source.vocab, f"{budget:g} MB, float16"
    models = [
        loaded("float32", tables.full, whole, args.work),
        loaded("float16", stored(tables.full, "float16"), whole, args.work),
        loaded("float16", stored(tables.full, "float16"), whole, args.work, widen=True),
        loaded(small_name, stored(small, "float16"), cut, args.work),
        loaded(small_name, stored(small, "float16"), cut, args.work, widen=True),
    ]
    try:
        return [*models, load_encoder("wordllama:")], []
    except InputError as error:
        return models, [{"name": "WordLlama-256", "unavailable": str(error)}]


def loaded(name: str, table: np.ndarray, vocab: Vocabulary, work: Path, widen: bool = False) -> Encoder:
    """Save a table and load it as model2vec does, as stored or widened to float32."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        config: Any = {"model_type": "model2vec", "normalize": True, "max_length": None}
        save_pretrained(Path(folder), table, vocab.tokenizer, config, create_model_card=False)
        model = StaticModel.from_pretrained(folder, quantize_to="float32" if widen else None, force_download=False)
    label = f"{name}, loaded as float32" if widen else f"{name}, as stored"
    return static_encoder(label, model, size_bytes=table.nbytes)


def speed_texts(count: int) -> list[str]:
    """Return the texts of the evaluation's items, repeated until there are ``count``."""
    names = ("anchor", "paraphrase", "text", "meaning", "description", "code", "document", *LANGUAGES)
    items = [item for category in WEIGHTS for item in load_items(default_items_folder(), category)]
    texts = sorted({item[name] for item in items for name in names if name in item})
    order = np.random.default_rng(0).permutation(len(texts))
    return list(itertools.islice(itertools.cycle(texts[i] for i in order.tolist()), count))


def measure(args: argparse.Namespace) -> int:
    """Measure every section and write the result."""
    clock = Clock()
    if args.quick:
        args.texts, args.sentence_vectors = min(args.texts, QUICK_TEXTS), min(args.sentence_vectors, QUICK_TEXTS)
        args.work /= "quick"
    args.work.mkdir(parents=True, exist_ok=True)
    items = {category: load_items(calibration_folder(), category) for category in WEIGHTS}
    scorer = Scorer(items, public_score(args.public_eval), args.seed)
    teacher = find_teacher(args.teacher)
    source = load_source(args, teacher, clock)
    full = distil(source, RECIPES["default"], source.frequencies(source.vocab, source.counts))
    result: Row = {
        "schema_version": 1,
        "quick": args.quick,
        "teacher": {
            "name": teacher.name, "layers": teacher.layers, "hidden_size": teacher.hidden_size,
            "weights_sha256": teacher.weights_sha256,
        },
        "tokens": len(source.vocab),
        "items": {category: len(rows) for category, rows in items.items()},
        "items_sha256": items_sha256(calibration_folder(), items),
        "public_scorer_sha256": sha256([args.public_eval / "score.py"]) if args.public_eval else None,
    }  # fmt: skip
    tables = Tables(source, full)
    sections: dict[str, Callable[[], list[Row]]] = {
        "recipes": lambda: recipe_rows(source, scorer, full, args),
        "dims": lambda: dims_rows(source, scorer, full),
        "sizes": lambda: size_rows(tables, scorer, args),
        "speed": lambda: speed_rows(tables, args),
    }
    for name, section in sections.items():
        logger.info("section %s", name)
        result[name] = rounded(section())
        clock.lap(name)
    write_json(args.output, {**result, "step_seconds": clock.steps, **provenance(clock, args.seed)})
    print(args.output)
    return EXIT_OK


def public_score(folder: Path | None) -> Callable[[Any], dict[str, Any]] | None:
    """Return the public scorer on its data, or None without a folder."""
    if folder is None:
        return None
    module = public_scorer(folder)
    return lambda encode: module.score(encode, folder / "dev")


def rounded(value: Any) -> Any:
    """Round floats to six places, far below any interval."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(float(value), 6) if isinstance(value, float) else value


def document(result: Row) -> str:
    """Render docs/RECIPES.md; every number in it is one of the result's."""
    lines = [
        "# Which recipe, and which form in how many bytes?",
        "",
        f"Rendered by `python -m benchmarks.recipes --render` from [`{RESULT.name}`]({RESULT.name}): do not edit.",
        "",
        *_what_lines(result),
        "",
        "## Recipes",
        "",
        *_recipe_lines(result),
        "",
        "## Fewer dimensions",
        "",
        "The default table's first principal directions.",
        "",
        *_dims_lines(result),
        "",
        "## Equal bytes",
        "",
        *_size_lines(result),
        "",
        "## Speed",
        "",
        *_speed_lines(result),
        "",
        f"Measured {result['created'][:10]} on {result['hardware']['processor']}, {result['hardware']['cores']} cores, "
        f"in {result['wall_seconds'] / 60:.0f} minutes: `{result['command']}`.",
        "",
    ]
    return "\n".join(lines)


def _what_lines(result: Row) -> list[str]:
    teacher = result["teacher"]
    quick = ["", "**A quick run on a cut vocabulary: its numbers only show that the benchmark runs.**"]
    return [
        f"The teacher is {teacher['name']} ({teacher['layers']} layers x {teacher['hidden_size']}, weights "
        f"`{teacher['weights_sha256'][:12]}`), {result['tokens']:,} tokens. All tables are made from one pass",
        "of its token states and one set of texts that it wrote.",
        "",
        f"- *ours*: the overall score on the {sum(result['items'].values()):,} items of `calibration_data/`, "
        "with its 95 % interval.",
        "- *difference*: from the default recipe's whole float32 table, on the same resamples of the items, so its",
        "  interval is narrower than those of the two scores. An interval that holds 0 shows no difference.",
        *(
            ["- *public*: the overall score on public data that nobody on this project wrote."]
            if _public(result)
            else []
        ),
        *(quick if result["quick"] else []),
    ]


def _public(result: Row) -> bool:
    return result["recipes"][0]["public"] is not None


def _score_header(result: Row, categories: bool) -> list[str]:
    names = [name.split("_")[0] for name in WEIGHTS] if categories else []
    return ["ours [95 % interval]", "difference", *(["public"] if _public(result) else []), *names]


def _score_cells(row: Row, categories: bool) -> list[str]:
    """Return the cells of a row's scores; the categories are the public data's where there is any."""
    public = row["public"]
    found = (public or row)["categories"]
    values = [f"{found[name]:.3f}" if name in found else "-" for name in WEIGHTS] if categories else []
    overall = [f"{public['overall']:.3f}"] if public else []
    return [with_interval(row["overall"]), difference_text(row["difference"]), *overall, *values]


def _category_note(result: Row) -> str:
    return f"The six categories are those of {'the public data' if _public(result) else 'our items'}."


def _recipe_lines(result: Row) -> list[str]:
    header = ["recipe", "layers", "frequencies", "SIF", "whitening", "dims", *_score_header(result, True)]
    rows = []
    for row in result["recipes"]:
        layers = " + ".join(share_text(share) for share in row["layers"])
        cells = [row["name"], layers, _frequency_text(row), f"{row['sif']:g}", f"{row['whitening']:g}"]
        rows.append([*cells, str(row["dims"]), *_score_cells(row, True)])
    return [
        "Layers are shares of the teacher's depth. *plain* takes each token alone, all others take it after a newline.",
        "*random directions* has the default's tokenizer and row norms and random vectors: it can only match words.",
        f"*teacher* is what the teacher uses in texts that it writes, mixed with {ZIPF_SHARE:.0%} of Zipf's "
        "law; *teacher alone* is not mixed.",
        f"{_category_note(result)}",
        "",
        *markdown_table(header, rows),
        "",
        *_best_lines(result, result["recipes"], lambda row: f"*{row['name']}*", "Of these recipes"),
    ]


def _frequency_text(row: Row) -> str:
    return "Zipf" if row["frequencies"] == "zipf" else f"{row['frequencies']}, {row['texts']:,} texts"


def _best_lines(result: Row, rows: list[Row], name: Callable[[Row], str], where: str) -> list[str]:
    """Say which row is highest, on our items and on the public data."""
    best = max(rows, key=lambda row: row["overall"]["score"])
    text = f"- {where}, {name(best)} is highest on our items ({best['overall']['score']:.3f})"
    if _public(result):
        outside = max(rows, key=lambda row: row["public"]["overall"])
        text += f", {name(outside)} on the public data ({outside['public']['overall']:.3f})"
    return [f"{text}."]


def _dims_lines(result: Row) -> list[str]:
    rows = [[str(r["dims"]), size_text(r["bytes"]), *_score_cells(r, True)] for r in result["dims"]]
    header = ["dims", "size, float32", *_score_header(result, True)]
    return markdown_table(header, rows)


def _size_lines(result: Row) -> list[str]:
    header = ["up to", "form", "tokens", "dims", "size", *_score_header(result, False)]
    rows = []
    for row in result["sizes"]:
        limit = "no limit" if row["budget_mb"] is None else f"{row['budget_mb']:g} MB"
        tokens = f"{row['tokens']:,}" + (" (whole)" if row["whole"] else "")
        if "centroids" in row:
            tokens += f" on {row['centroids']:,} centroids"
        cells = [limit, FORMS[row["form"]], tokens, str(row["dims"]), size_text(row["bytes"])]
        rows.append([*cells, *_score_cells(row, False)])
    best = []
    for budget in dict.fromkeys(row["budget_mb"] for row in result["sizes"] if row["budget_mb"] is not None):
        there = [row for row in result["sizes"] if row["budget_mb"] == budget]
        best += _best_lines(result, there, lambda row: f"*{FORMS[row['form']]}*", f"Up to {budget:g} MB")
    return [
        "Which form of the default recipe keeps most in how many bytes (10^6 bytes to the MB; the tensors alone)?",
        "A cut vocabulary keeps the first merges of the tokenizer, and is distilled anew for what is left.",
        "*Clustered* gives each token the nearest of a number of k-means centroids, scaled by the token's own weight.",
        "*int8* has one scale for the whole table; model2vec loads it, sentence-transformers cannot.",
        "Where a form's whole table fits, its row is the whole table's.",
        "",
        f"![Score against size, one line a form]({PLOT})",
        "",
        *markdown_table(header, rows),
        "",
        *_loss_lines(result),
        *best,
    ]


def _loss_lines(result: Row) -> list[str]:
    """Set the shown size beside the whole table."""
    sizes = result["sizes"]
    whole = next(row for row in sizes if row["form"] == "float32" and row["budget_mb"] is None)
    cut = next((row for row in sizes if row["form"] == "float16" and row["budget_mb"] == SHOWN_MB), None)
    if cut is None:
        return []
    text = (
        f"- {FORMS['float16']} at {SHOWN_MB:g} MB ({cut['tokens']:,} of {whole['tokens']:,} tokens, "
        f"{cut['bytes'] / whole['bytes']:.0%} of the bytes) beside the whole float32 table: ours "
        f"{cut['overall']['score']:.3f} against {whole['overall']['score']:.3f}, {difference_text(cut['difference'])}"
    )
    if _public(result):
        mine, theirs = cut["public"]["overall"], whole["public"]["overall"]
        text += f"; public {mine:.3f} against {theirs:.3f}, {mine - theirs:+.3f}"
    return [f"{text}."]


def _speed_lines(result: Row) -> list[str]:
    measured = [row for row in result["speed"] if row["unavailable"] is None]
    rows = [
        [r["name"], str(r["dims"]), f"{r['rate']:,.0f}", f"{min(r['rates']):,.0f} to {max(r['rates']):,.0f}",
         f"{r['ratio_to_float32']:.2f}"]
        for r in measured
    ]  # fmt: skip
    return [
        f"`encode` of the same {measured[0]['sentences']:,} sentences, the texts of `eval_data/` repeated, in one "
        f"process, the models in turn, {len(measured[0]['rates'])} times; the median.",
        "",
        *markdown_table(["model", "dims", "sentences/s", "least to most", "of the first"], rows),
        *[f"\n{row['name']}: not measured ({row['unavailable']})." for row in result["speed"] if row["unavailable"]],
    ]


def plot(result: Row) -> str:
    """Draw score against size, one line a form, as an SVG whose bytes depend on the result alone."""
    import matplotlib
    from matplotlib.figure import Figure

    panels: dict[str, Callable[[Row], float]] = {"our calibration items": lambda row: row["overall"]["score"]}
    if _public(result):
        panels["public data"] = lambda row: row["public"]["overall"]
    with matplotlib.rc_context({"svg.hashsalt": "recipes", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
        for axes, (title, score) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            _panel(axes, result["sizes"], title, score)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _panel(axes: Any, sizes: list[Row], title: str, score: Callable[[Row], float]) -> None:
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    for (form, label), marker in zip(FORMS.items(), "os^Dvx", strict=True):
        # A whole table is drawn once: of the rows that repeat it, only that of its size.
        points = sorted({(row["bytes"] / 1e6, score(row)) for row in sizes if row["form"] == form})
        axes.plot(
            [x for x, _ in points], [y for _, y in points], marker=marker, markersize=5, linewidth=1.2, label=label
        )
    axes.set_xscale("log")
    ticks = sorted({row["budget_mb"] for row in sizes if row["budget_mb"] is not None})
    largest = max(row["bytes"] for row in sizes) / 1e6
    axes.set_xticks([*ticks, *([largest] if largest > 1.1 * ticks[-1] else [])])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("size of the tensors (MB)")
    axes.set_ylabel("overall score")
    axes.set_title(title)
    axes.grid(alpha=0.3)


def render(output: Path) -> int:
    """Write the document and the plot beside the result."""
    result = read_json(output)
    for name, text in ((DOCUMENT, document(result)), (PLOT, plot(result))):
        write_text(output.with_name(name), text)
        print(output.with_name(name))
    return EXIT_OK


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--public-eval", type=Path, help="folder with score.py and dev/ (default: only our own items)")
    add(
        "--teacher",
        default="smollm2-135m",
        metavar="SPEC",
        help="a decoder, as phase 1 takes it (default: %(default)s)",
    )
    counted = f"texts that frequencies are counted in, in whole batches of {BATCH} (default: %(default)s)"
    add("--texts", type=int, default=TEXTS, help=counted)
    vectors = "texts of the recipe with sentence vectors; its frequencies are from all texts (default: %(default)s)"
    add("--sentence-vectors", type=int, default=SENTENCES, metavar="N", help=vectors)
    add("--seed", type=int, default=SEED, help="of texts, resamples and clusters (default: %(default)s)")
    work = Path(tempfile.gettempdir()) / "qwen25-recipes"
    add("--work", type=Path, default=work, help="keeps what the teacher gave for the next run (default: %(default)s)")
    output = f"the result, and beside it what is rendered (default: docs/{RESULT.name}; with --quick, in --work)"
    add("--output", type=Path, help=output)
    add("--render", action="store_true", help="only render the document and the plot (default: only measure)")
    add("--quick", action="store_true", help="a small vocabulary, few texts and few rows (default: all)")
    add_common_flags(parser)
    return parser


def body(args: argparse.Namespace) -> int:
    """Measure or render."""
    if min(args.texts, args.sentence_vectors) < 1:
        raise InputError("--texts and --sentence-vectors must be at least 1")
    if args.output is None:
        args.output = args.work / "quick" / RESULT.name if args.quick else RESULT
    return render(args.output) if args.render else measure(args)


def main() -> int:
    """Run the command line and return the exit code."""
    return console.run(build_parser(), body, None)


if __name__ == "__main__":
    sys.exit(main())
