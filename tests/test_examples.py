"""The published examples: they run on any model, count rightly, and stand on their own."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import EVAL_DATA, ROOT
from model2vec import StaticModel
from tokenizers import Tokenizer

FOLDER = ROOT / "examples"
SCRIPTS = ["instruction_awareness_demo.py", "real_world_use_cases.py"]
demo, cases = MODULES = [importlib.import_module(Path(script).stem) for script in SCRIPTS]


def environment(**variables: str) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, **variables}


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script from another folder and without this checkout on the path, as whoever downloads it does."""
    command = [sys.executable, str(FOLDER / script), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT.parent, env=environment(**variables)
    )


def shown(module: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a script in this process, which is faster, and return what it prints."""
    assert module.main(arguments) == 0
    return capsys.readouterr().out


def run_on_a_terminal(script: str, *arguments: str, **variables: str) -> str:
    """Run a script whose output goes to a terminal, and return that output."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(FOLDER / script), *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=environment(**variables)) as process:
        os.close(theirs)
        found = b""
        try:
            while chunk := os.read(ours, 65536):
                found += chunk
        except OSError:  # how Linux says that the other side has closed
            pass
        os.close(ours)
    assert process.returncode == 0
    return found.decode()


def with_vectors(source: Path, folder: Path, change: Any) -> Path:
    """Save a copy of a model whose table was changed."""
    model = StaticModel.from_pretrained(source)
    changed = change(np.array(model.embedding, dtype=np.float32))
    StaticModel(changed, model.tokenizer, config=model.config, normalize=True).save_pretrained(folder)
    return folder


def blind(texts: list[str]) -> dict[str, np.ndarray]:
    """A space in which all texts are the same."""
    return dict.fromkeys(texts, np.array([1.0, 0.0], dtype=np.float32))


def scattered(texts: list[str], seed: int) -> dict[str, np.ndarray]:
    """A space of random directions, one a text."""
    vectors = np.random.default_rng(seed).standard_normal((len(texts), 256), dtype=np.float32)
    return dict(zip(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))


DEMO_TEXTS = [*demo.REQUESTS, *demo.DOCUMENTS, *demo.TOPICS, *demo.ASKED]


def oracle() -> dict[str, np.ndarray]:
    """A space in which every request, of the grid and of step 2, is at its own document."""
    space = scattered(DEMO_TEXTS, 0)
    space |= {request: space[document] for request, document in zip(demo.REQUESTS, demo.DOCUMENTS, strict=True)}
    grid = np.array(demo.DOCUMENTS).reshape(demo.SHAPE).T.ravel().tolist()
    return space | {asked: space[document] for asked, document in zip(demo.ASKED, grid, strict=True)}


def use_case_oracle() -> dict[str, np.ndarray]:
    """A space in which every question is at its answer, and every request of a route at the same place."""
    space = scattered(cases.TEXTS, 0)
    for row in (*cases.DOCUMENTATION, *cases.SUPPORT, *cases.CODE, *cases.IDIOMS):
        space[row[0]] = space[row[1]]
    for learned, asked in cases.ROUTES.values():
        space |= dict.fromkeys([*learned, *asked], space[learned[0]])
    return space


class TestRuns:
    @pytest.mark.parametrize("script", SCRIPTS)
    def test_plain_and_the_same_twice_in_a_pipe(self, script: str, tiny_model: Path) -> None:
        first = run(script, "--model", str(tiny_model), PYTHONHASHSEED="1")
        again = run(script, "--model", str(tiny_model), PYTHONHASHSEED="2")
        assert first.returncode == 0, first.stderr
        assert first.stdout == again.stdout and first.stderr == ""
        assert "\033" not in first.stdout and first.stdout.isascii()
        assert "random directions" in first.stdout and "chance" in first.stdout
        assert first.stdout.count("wrong") > 0

    @pytest.mark.parametrize("arguments", [SCRIPTS[:1], [SCRIPTS[1], "--use-case", "support"]], ids=SCRIPTS)
    def test_colour_only_where_it_is_wanted(self, arguments: list[str], tiny_model: Path) -> None:
        coloured = run_on_a_terminal(*arguments, "--model", str(tiny_model))
        plain = run_on_a_terminal(*arguments, "--model", str(tiny_model), NO_COLOR="1")
        assert "\033[" in coloured and "\033" not in plain
        assert re.sub(r"\033\[[\d;]*m", "", coloured) == plain

    @pytest.mark.parametrize("script", SCRIPTS)
    @pytest.mark.parametrize(
        ("redirection", "said"), [(">&-", "standard output is closed"), (">/dev/full", "cannot print: No space left")]
    )
    def test_nowhere_to_print_to(self, script: str, redirection: str, said: str, tiny_model: Path) -> None:
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, str(FOLDER / script)]
        done = subprocess.run([*command, "--model", str(tiny_model)], stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {said}") and len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize("script", SCRIPTS)
    def test_interrupted_while_it_imports(self, script: str, tmp_path: Path) -> None:
        (tmp_path / "model2vec.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
        done = run(script, PYTHONPATH=str(tmp_path))
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: interrupted: run it again\n")

    @pytest.mark.parametrize("module", MODULES)
    @pytest.mark.parametrize("seed", ["-1", "4294967296"])
    def test_a_seed_that_no_generator_takes(
        self, module: ModuleType, seed: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            module.main(["--seed", seed])
        said = f"error: --seed is a whole number from 0 to 4294967295, not {seed}\n"
        assert stopped.value.code == 2 and capsys.readouterr().err == said

    @pytest.mark.parametrize("script", SCRIPTS)
    def test_a_folder_that_is_no_model(self, script: str, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no model here")
        done = run(script, "--model", str(tmp_path))
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize("module", MODULES)
    @pytest.mark.parametrize("fault", ["absent", "NaN"])
    def test_a_model_that_cannot_be_used(
        self, module: ModuleType, fault: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        broken = with_vectors(tiny_model, tmp_path / "broken", lambda table: table * np.nan)
        with pytest.raises(SystemExit) as stopped:
            module.main(["--model", str(broken) if fault == "NaN" else "nobody/no-such-model"])
        shown = capsys.readouterr()
        assert stopped.value.code == 2 and shown.out == ""
        assert shown.err.startswith("error: ") and len(shown.err.splitlines()) == 1
        assert ("NaN" in shown.err) == (fault == "NaN")

    @pytest.mark.parametrize("module", MODULES)
    def test_another_seed_is_another_control(
        self, module: ModuleType, tiny_model: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, two = (
            re.findall(r"control +([\d.]+)", shown(module, capsys, "--model", str(tiny_model), "--seed", seed))
            for seed in ("1", "2")
        )
        assert len(one) == len(two) > 5 and one != two

    @pytest.mark.parametrize("module", MODULES)
    def test_half_precision(
        self, module: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        StaticModel.from_pretrained(tiny_model, quantize_to="float16").save_pretrained(tmp_path / "half")
        assert "128 dimensions" in shown(module, capsys, "--model", str(tmp_path / "half"))

    def test_every_use_case_of_the_help_runs(self, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        names = re.search(r"--use-case \{([\w,]+)\}", run(SCRIPTS[1], "--help").stdout)[1].split(",")
        assert names == list(cases.USE_CASES)
        whole = shown(cases, capsys, "--model", str(tiny_model))
        for name in names:
            assert f"{name}:" in cases.__doc__
            alone = shown(cases, capsys, "--model", str(tiny_model), "--use-case", name)
            body, ending = alone.split("\n\n", 1)[1].split("\nRight answers")
            assert body in whole
            assert f"in {int(': better' in ending)} of 1" in ending

    def test_an_unknown_use_case(self) -> None:
        with pytest.raises(SystemExit, match="2"):
            cases.main(["--use-case", "magic"])

    def test_without_scikit_learn(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
        # A text as its code: Python prints it on standard error and exits with 1.
        with pytest.raises(SystemExit, match="error: routing needs scikit-learn: pip install scikit-learn"):
            cases.main(["--model", str(tiny_model), "--use-case", "routing"])
        assert "Right answers" in shown(cases, capsys, "--model", str(tiny_model), "--use-case", "idioms")

    def test_a_closed_pipe_is_quiet(self, tiny_model: Path) -> None:
        command = [sys.executable, str(FOLDER / SCRIPTS[0]), "--model", str(tiny_model)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode != 0

    @pytest.mark.parametrize("module", MODULES)
    def test_a_collapsed_model_gets_chance(
        self, module: ModuleType, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = with_vectors(tiny_model, tmp_path / "collapsed", lambda table: np.ones_like(table))
        output = shown(module, capsys, "--model", str(folder))
        rows = re.findall(r"([\d.]+) of \d+ \[.*chance +([\d.]+): ([\w ]+)", output)
        assert len(rows) > 6
        assert all(right == chance and better == "not shown better" for right, chance, better in rows)
        assert "Neither instructions nor words" in output or "in 0 of 5: none" in output


class TestCounting:
    @pytest.mark.parametrize("module", MODULES)
    @pytest.mark.parametrize(
        ("row", "right", "points"),
        [
            ([0.1, 0.9, 0.3], 1, 1),
            ([0.1, 0.9, 0.3], 2, 0),
            ([0.5, 0.5, 0.1], 0, 0.5),
            ([0.5, 0.5, 0.1], 2, 0),
            ([0, 0, 0, 0], 3, 0.25),
            ([-0.2, -0.1], 1, 1),
        ],
    )
    def test_credit(self, module: ModuleType, row: list[float], right: int, points: float) -> None:
        assert module.credit(np.array(row), right) == points

    @pytest.mark.parametrize(
        ("row", "points"),
        [([3, 9, 8, 7], 0), ([8, 9, 7, 3], 1), ([8, 9, 8, 3], 0.5), ([8, 8, 8, 3], 2 / 3), ([1, 1, 1, 1], 0.5)],
    )
    def test_credit_among_the_first_two(self, row: list[float], points: float) -> None:
        assert cases.credit(np.array(row), 0, places=2) == pytest.approx(points)

    def test_the_grid_counts_what_it_says(self) -> None:
        perfect = demo.grid_credits(np.eye(len(demo.REQUESTS)))
        assert all(part.all() for part in perfect.values())
        tied = demo.grid_credits(np.zeros((len(demo.REQUESTS), len(demo.DOCUMENTS))))
        assert {part: pytest.approx(credits) for part, credits in tied.items()} == {
            part: np.full(len(demo.REQUESTS), chance) for part, chance in demo.CHANCE.items()
        }

    def test_topic_and_intent_are_not_mixed_up(self) -> None:
        topics, intents = demo.SHAPE
        same_topic = np.kron(np.eye(topics), np.ones((intents, intents)))
        same_intent = np.kron(np.ones((topics, topics)), np.eye(intents))
        by_topic, by_intent = demo.grid_credits(same_topic), demo.grid_credits(same_intent)
        assert by_topic["topic"].all() and by_topic["intent"] == pytest.approx(1 / 6)
        assert by_intent["intent"].all() and by_intent["topic"] == pytest.approx(1 / 8)
        assert by_topic["both"] == pytest.approx(1 / 6) and by_intent["both"] == pytest.approx(1 / 8)

    def test_random_cosines_get_about_chance(self) -> None:
        tables = np.random.default_rng(0).standard_normal((200, len(demo.REQUESTS), len(demo.DOCUMENTS)))
        for part, chance in demo.CHANCE.items():
            share = np.mean([demo.grid_credits(table)[part].mean() for table in tables])
            assert abs(share - chance) < 4 * np.sqrt(chance * (1 - chance) / tables[:, :, 0].size)

    @pytest.mark.parametrize("module", MODULES)
    @pytest.mark.parametrize(
        ("right", "of", "low", "high"), [(10, 20, 0.2993, 0.7007), (0, 8, 0, 0.3244), (8, 8, 0.6756, 1)]
    )
    def test_wilsons_interval(self, module: ModuleType, right: float, of: int, low: float, high: float) -> None:
        found = module.Count(right, of, 0, 0)
        assert found.interval == pytest.approx((low, high), abs=1e-4)
        assert "-0%" not in str(found)

    @pytest.mark.parametrize("module", MODULES)
    def test_better_needs_the_whole_interval_above_both(self, module: ModuleType) -> None:
        assert module.Count(10, 20, 5.9, 5).better
        assert not module.Count(10, 20, 6.0, 5).better
        assert not module.Count(10, 20, 5, 6.0).better

    def test_controls_are_averaged(self) -> None:
        found = demo.count([np.ones(4), np.array([1, 0, 0, 0]), np.array([1, 1, 1, 0])], 0.25)
        assert found == demo.Count(right=4, of=4, control=2, chance=1)
        found = cases.count([np.eye(4), np.zeros((4, 4)), np.eye(4)], range(4), places=2)
        assert found == cases.Count(right=4, of=4, control=3, chance=2)

    def test_a_perfect_model_follows_instructions(self, capsys: pytest.CaptureFixture[str]) -> None:
        spaces = [oracle(), *(scattered(DEMO_TEXTS, seed) for seed in (1, 2))]
        with_word, without = demo.intents_by_wording(spaces)
        assert with_word.right == with_word.of == without.right == without.of == 24
        assert demo.conclusion(with_word, without).startswith("Instructions are followed")
        for step in (demo.one_topic, demo.other_topics, demo.whole_grid, demo.worst_mistakes):
            step(spaces)
        shown = capsys.readouterr().out
        assert "wrong" not in shown and shown.count("++++++++   8.0 of 8") == 6 and "48.0 of 48" in shown
        assert "0 of 48 requests have another" in shown and "asked" not in shown

    def test_without_its_instruction_a_perfect_model_is_lost(self, capsys: pytest.CaptureFixture[str]) -> None:
        demo.without_instruction([oracle(), blind(DEMO_TEXTS)])
        rows = {line[2:32].strip(): line[32:].split() for line in capsys.readouterr().out.splitlines()}
        assert rows["as asked"] == ["48.0", "48.0", "48.0"]
        assert rows["the request of another intent"][0] == "0.0"
        assert rows["the topic alone"][0] == "8.0"
        assert rows["as asked, random directions"] == rows["chance"] == ["8.0", "6.0", "3.7"]

    def test_a_model_that_matches_words_alone_is_told(self) -> None:
        perfect, random = oracle(), scattered(DEMO_TEXTS, 3)
        requests = zip(demo.REQUESTS, demo.WORDED, strict=True)
        words_only = perfect | {request: random[request] for request, worded in requests if not worded}
        controls = [scattered(DEMO_TEXTS, seed) for seed in (1, 2)]
        assert demo.conclusion(*demo.intents_by_wording([words_only, *controls])).startswith("Only words are matched")

    def test_a_model_without_directions_is_told(self) -> None:
        counts = demo.intents_by_wording([blind(DEMO_TEXTS), scattered(DEMO_TEXTS, 1)])
        assert [c.right for c in counts] == pytest.approx([4, 4])
        assert demo.conclusion(*counts).startswith("Neither instructions nor words")

    def test_the_worst_mistake_comes_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        space = oracle()
        space[demo.REQUESTS[7]] = space[demo.DOCUMENTS[30]]
        demo.worst_mistakes([space])
        shown = capsys.readouterr().out
        assert shown.index(demo.REQUESTS[7]) < shown.index(demo.DOCUMENTS[30]) < shown.index(demo.DOCUMENTS[7])
        assert shown.count("asked") == 1 and "1 of 48 requests" in shown

    @pytest.mark.parametrize("name", list(cases.USE_CASES))
    def test_use_cases(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        controls = [scattered(cases.TEXTS, seed) for seed in range(1, 4)]
        perfect = cases.USE_CASES[name]([use_case_oracle(), *controls])
        shown = capsys.readouterr().out
        assert perfect.right == perfect.of >= 10 and perfect.better
        assert "wrong" not in shown and shown.count("right ") >= perfect.of
        collapsed = cases.USE_CASES[name]([blind(cases.TEXTS), *controls])
        assert collapsed.right == pytest.approx(collapsed.chance) and not collapsed.better

    def test_the_meaning_before_the_misreading(self, capsys: pytest.CaptureFixture[str]) -> None:
        literal = use_case_oracle()
        for turn, _, misreading in cases.IDIOMS[:4]:
            literal[turn] = literal[misreading]
        assert cases.idioms([literal, blind(cases.TEXTS)]).right == 10
        assert "meaning before misreading  10.0 of 14" in capsys.readouterr().out

    @pytest.mark.parametrize("module", MODULES)
    def test_differences_of_arithmetic_are_ties(self, module: ModuleType) -> None:
        space = {"a": np.array([1.0, 0.0]), "b": np.array([0.5, 0.1]), "c": np.array([0.5 + 1e-8, 0.1])}
        assert module.credit(module.cosines(space, ["a"], ["b", "c"])[0], 0) == 0.5

    def test_an_answer_in_the_prompt_need_not_come_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Two other passages before the right one still leave it among the three of the prompt."""
        space = {text: np.zeros(12, dtype=np.float32) for text in cases.TEXTS}
        for k, (question, passage) in enumerate(cases.SUPPORT):
            space[passage] = np.eye(12, dtype=np.float32)[k]
            space[question] = sum(w * np.roll(np.eye(12, dtype=np.float32)[k], s) for w, s in ((0.5, 0), (0.6, 1)))
        found = cases.support([space, blind(cases.TEXTS)])
        assert found.right == 0
        assert "answer is in the prompt    12.0 of 12" in capsys.readouterr().out


class TestControl:
    @pytest.mark.parametrize("module", MODULES)
    def test_same_norms_and_tokens_other_directions(self, module: ModuleType, tiny_model: Path) -> None:
        model = StaticModel.from_pretrained(tiny_model)
        one, same, other = (module.random_directions(model, seed) for seed in (1, 1, 2))
        norms = [np.linalg.norm(m.embedding, axis=1) for m in (model, one)]
        np.testing.assert_allclose(*norms, rtol=1e-4)
        assert (one.embedding == same.embedding).all() and (one.embedding != other.embedding).any()
        directions = [m.embedding / np.linalg.norm(m.embedding, axis=1, keepdims=True) for m in (model, one)]
        assert abs(float((directions[0] * directions[1]).sum(axis=1).mean())) < 0.05
        assert one.tokenize(["How do I knit?"]) == model.tokenize(["How do I knit?"])

    def test_a_model_of_few_vectors(self, tiny_tokenizer: Tokenizer) -> None:
        """A quantised vocabulary keeps its weights and its mapping of tokens to vectors."""
        size = tiny_tokenizer.get_vocab_size()
        generator = np.random.default_rng(0)
        model = StaticModel(
            generator.standard_normal((50, 8)),
            tiny_tokenizer,
            weights=generator.random(size),
            token_mapping=generator.integers(0, 50, size),
        )
        control = demo.random_directions(model, 0)
        assert control.embedding.shape == (50, 8)
        assert control.token_mapping is model.token_mapping and control.weights is model.weights
        assert len(demo.embed(control)) == len(set(DEMO_TEXTS))

    def test_it_is_the_projects_control(self, tiny_model: Path) -> None:
        from qwen25.evaluation.encoder import random_control
        from qwen25.evaluation.loading import load_encoder

        ours = random_control(load_encoder(str(tiny_model)), 7)
        theirs = demo.random_directions(StaticModel.from_pretrained(tiny_model), 7)
        np.testing.assert_array_equal(ours.encode(demo.REQUESTS), theirs.encode(demo.REQUESTS))


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_of(part)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def runs(text: str, length: int = 6) -> set[tuple[str, ...]]:
    """Return the runs of ``length`` words of a text; a shorter text is one run."""
    found = words(text)
    return {tuple(found[k : k + length]) for k in range(max(1, len(found) - length + 1))}


class TestItems:
    def test_the_grid_is_whole(self) -> None:
        assert demo.SHAPE == (8, 6) and len(set(demo.INTENTS)) == 6
        assert all(len(pairs) == 6 for pairs in demo.GRID.values())
        assert len(set(DEMO_TEXTS)) == len(DEMO_TEXTS) == 48 + 48 + 8 + 48
        assert (demo.WORDED.reshape(demo.SHAPE).sum(axis=0) == 4).all()

    def test_the_projects_intents(self) -> None:
        from qwen25.evaluation.categories.instruction_awareness import INTENTS

        assert demo.INTENTS == INTENTS

    def test_use_cases_have_room(self) -> None:
        sizes = [len(rows) for rows in (cases.DOCUMENTATION, cases.SUPPORT, cases.CODE, cases.IDIOMS)]
        assert all(10 <= size <= 16 for size in sizes)
        assert sum(len(asked) for _, asked in cases.ROUTES.values()) == 16
        assert sum(len(learned) for learned, _ in cases.ROUTES.values()) == 20
        assert len(set(cases.TEXTS)) == len(cases.TEXTS)

    def test_half_of_the_requests_share_no_content_word(self) -> None:
        """The project's own rule: words of three letters and more, the same if their first five letters are."""
        stop_words = set((EVAL_DATA / "stop_words.txt").read_text(encoding="utf-8").split())

        def content(text: str) -> set[str]:
            found = (word.strip("'") for word in re.findall(r"[a-z']+", text.lower()))
            return {word[:5] for word in found if len(word) >= 3 and word not in stop_words}

        topics = [topic for topic in demo.TOPICS for _ in demo.INTENTS]
        for request, document, topic, worded in zip(demo.REQUESTS, demo.DOCUMENTS, topics, demo.WORDED, strict=True):
            shared = (content(request) & content(document)) - content(topic)
            assert bool(shared) == worded, (request, shared)

    def test_nothing_is_repeated_from_the_projects_data(self) -> None:
        """No text is a whole text of the data, and no prose shares six words in a row with it."""
        files = sorted(ROOT.glob("*_data/*.jsonl"))
        assert {path.parent.name for path in files} == {"calibration_data", "eval_data"}
        lines = (line for path in files for line in path.read_text(encoding="utf-8").splitlines())
        known = {text for line in lines for text in texts_of(json.loads(line))}
        assert len(known) > 3000
        ours = {*DEMO_TEXTS, *cases.TEXTS}
        assert not {" ".join(words(text)) for text in ours} & {" ".join(words(text)) for text in known}
        # A loop over a range is written in one way; such code is nobody's.
        prose = ours - {code for _, code in cases.CODE} - set(cases.NEAR_MISSES)
        assert not {run for text in prose for run in runs(text)} & {run for text in known for run in runs(text)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_stand_on_their_own(script: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / script).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("(relative)" if node.level else str(node.module).split(".")[0])
    allowed = {"numpy", "model2vec"} | ({"sklearn"} if script == SCRIPTS[1] else set())
    assert imported - set(sys.stdlib_module_names) == allowed


@pytest.mark.parametrize("name", ["random_directions", "cosines", "paint"])
def test_what_both_scripts_have_is_the_same(name: str) -> None:
    assert inspect.getsource(getattr(demo, name)) == inspect.getsource(getattr(cases, name))


def test_both_scripts_start_and_end_in_the_same_way() -> None:
    blocks = [re.findall(r"^if __name__ == .*\n(?: .*\n)+", inspect.getsource(module), re.M) for module in MODULES]
    assert len(blocks[0]) == 2 and blocks[0] == blocks[1]


def test_counts_are_the_same_in_both_scripts() -> None:
    assert inspect.getsource(demo.Count) == inspect.getsource(cases.Count)
    assert {demo.MODEL, cases.MODEL} == {"tss-deposium/qwen25-deposium-1024d"}
    assert demo.CONTROL_SEEDS == cases.CONTROL_SEEDS


class TestRetrieval:
    def test_passages_come_by_falling_cosine_and_land_in_the_prompt(self, tiny_model: Path, tmp_path: Path) -> None:
        pytest.importorskip("vicinity", reason="setup_qwen25.sh --with-extras installs vicinity")
        passages = ["the cat sat on the mat", "the bank lends money", "a cat sleeps on a sofa", "rain is likely"]
        (tmp_path / "texts.txt").write_text("\n".join([*passages, "", passages[0]]), encoding="utf-8")
        arguments = ["--model", str(tiny_model), "--passages", str(tmp_path / "texts.txt"), "--count", "2"]
        done = run("retrieval.py", *arguments, "where does the cat sit?")
        assert done.returncode == 0, done.stderr
        model = StaticModel.from_pretrained(tiny_model)
        cosines = model.encode(passages) @ model.encode(["where does the cat sit?"])[0]
        expected = [passages[i] for i in np.argsort(-cosines)[:2]]
        first, second, *rest = done.stdout.splitlines()
        assert [line[8:] for line in (first, second)] == expected
        assert float(first[:6]) == pytest.approx(float(cosines.max()), abs=2e-3)
        assert rest[2:4] == [f"[1] {expected[0]}", f"[2] {expected[1]}"]

    def test_a_file_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        done = run("retrieval.py", "--model", str(tmp_path), "--passages", str(tmp_path / "none"), "a question")
        assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
