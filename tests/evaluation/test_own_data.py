"""A model on the user's own pairs: each number is that of a search written out here; odd files get honest numbers."""

from __future__ import annotations

import csv
import math
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from conftest import ALL_RESAMPLES
from pyarrow import parquet

import quick_eval_qwen25_1024d as eval_script
import qwen25
from qwen25.evaluation import own_data
from qwen25.evaluation.matching import Cosine
from qwen25.evaluation.models import Encoder
from qwen25.evaluation.own_data import METRICS, OwnRun, start_runs
from qwen25.evaluation.own_pairs import read_own
from qwen25.evaluation.thresholds import measured_meaning, score_meaning, unrelated_texts
from qwen25.runtime.errors import InputError
from qwen25.runtime.files import read_json, resource, schema_fault
from qwen25.store.pairs import write_training_texts
from qwen25.store.static_model import Encode

SEED, DIMS = 42, 16
PAIRS = [(f"question {i}", f"answer {i}") for i in range(40)] + [
    (f"question {i}", f"other {i}") for i in range(0, 40, 3)
]
OTHERS = [f"stranger {i}" for i in range(30)]

pytestmark = pytest.mark.usefixtures("all_resamples")


def noise(text: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMS)


def knowing(share: float) -> Encode:
    """A model that knows to a share which texts belong together: those that end in the same number."""
    return lambda texts: np.stack([share * noise(text.split()[-1]) + noise(text) for text in texts])


def encoder(encode: Encode, name: str = "test") -> Encoder:
    return Encoder(name, "static", Cosine(encode), DIMS)


def run_of(source: Any, *encoders: Encoder, among: Sequence[str] = ()) -> dict[str, Any]:
    run = OwnRun(read_own(source, among), SEED)
    for one in encoders:
        run.add(one)
    return run.result()


def by_hand(encode: Encode, pairs: list[tuple[str, str]], others: Sequence[str] = ()) -> np.ndarray:
    """Return the metrics of each query, where no two documents tie; shape (queries, metrics)."""
    documents = list(dict.fromkeys([*(right for _, right in pairs), *others]))
    units = {text: vector / np.linalg.norm(vector) for text in documents for vector in encode([text])}
    rows = []
    for query in dict.fromkeys(left for left, _ in pairs):
        (vector,) = encode([query])
        ranked = sorted((d for d in documents if d != query), key=lambda d: -float(units[d] @ vector))
        places = sorted(1 + ranked.index(right) for left, right in set(pairs) if left == query)
        recalls = [sum(place <= k for place in places) / min(k, len(places)) for k in (1, 10)]
        rows.append([*recalls, 1 / places[0] if places[0] <= 10 else 0.0])
    return np.array(rows)


def swapped(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(right, left) for left, right in pairs]


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


class TestNumbers:
    def test_scores_intervals_and_differences_are_those_of_a_plain_search(self) -> None:
        weak, strong = knowing(0.4), knowing(0.5)
        found = run_of(PAIRS, encoder(weak, "weak"), encoder(strong, "strong"), among=OTHERS)
        for way, pairs, others in (("forward", PAIRS, OTHERS), ("back", swapped(PAIRS), [])):
            first, second = by_hand(weak, pairs, others), by_hand(strong, pairs, others)
            draws = np.random.default_rng(SEED).integers(0, len(first), (ALL_RESAMPLES, len(first)))
            for i, metric in enumerate(METRICS):
                base, score = (system[way][metric] for system in found["systems"])
                assert base["score"] == pytest.approx(first[:, i].mean(), abs=1e-5)
                assert base["interval"] == pytest.approx(
                    np.percentile(first[draws, i].mean(axis=1), [2.5, 97.5]), abs=1e-5
                )
                gain = second[:, i] - first[:, i]
                bounds = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
                assert score["difference"]["value"] == pytest.approx(gain.mean(), abs=1e-5)
                assert score["difference"]["interval"] == pytest.approx(bounds, abs=1e-5)
                word = "better" if bounds[0] > 0 else "worse" if bounds[1] < 0 else "undecided"
                assert score["difference"]["word"] == word
                if word == "undecided" and gain.any():
                    needed = math.ceil((2.8 * gain.std(ddof=1) / gain.mean()) ** 2) - len(gain)
                    assert score["difference"]["more_queries"] == max(1, needed)
        assert "undecided" in {
            system["forward"][m]["difference"]["word"] for system in found["systems"][1:] for m in METRICS
        }

    def test_blocks_do_not_change_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = run_of(PAIRS, encoder(knowing(0.4)), among=OTHERS)
        monkeypatch.setattr(own_data, "BLOCK", 200)
        assert (
            run_of(PAIRS, encoder(knowing(0.4)), among=OTHERS)["systems"][0]["forward"]
            == whole["systems"][0]["forward"]
        )

    def test_the_best_is_named_with_those_not_told_from_it(self) -> None:
        models = [encoder(knowing(share), f"{share}") for share in (0.0, 0.9, 0.9001)]
        assert run_of(PAIRS, *models, among=OTHERS)["best"] in (
            {"name": "0.9", "tied": ["0.9001"]},
            {"name": "0.9001", "tied": ["0.9"]},
        )

    def test_the_worst_queries_show_what_was_found_instead(self) -> None:
        pairs = [("red", "rouge"), ("green", "vert")]
        vectors = {"red": [1, 0], "rouge": [1, 0.1], "green": [0.9, 0.1], "vert": [-1, 1]}
        (system,) = run_of(pairs, encoder(lambda texts: np.array([vectors[text] for text in texts])))["systems"]
        assert system["worst"] == [{"asked": "green", "right": "vert", "chosen": "rouge", "place": 2}]

    def test_what_a_score_means_by_length_and_whether_it_parts(self) -> None:
        generator = np.random.default_rng(0)
        unrelated, right = generator.normal(0.1, 0.1, 5000), generator.normal(0.4, 0.1, 300)
        lengths = generator.uniform(1, 160, 5000)
        found = score_meaning(unrelated, lengths, right)
        assert found["unrelated"]["short"]["median"] == pytest.approx(np.median(unrelated[lengths <= 80]), abs=1e-4)
        assert found["parts"] and not score_meaning(unrelated, lengths, unrelated[:300])["parts"]

    def test_what_a_score_means_on_ones_own_texts(self) -> None:
        (system,) = run_of(PAIRS, encoder(knowing(2)), among=OTHERS)["systems"]
        queries, documents = (
            [*dict.fromkeys(texts)] for texts in ([q for q, _ in PAIRS], [a for _, a in PAIRS] + OTHERS)
        )
        units = [
            vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            for vectors in map(knowing(2), (queries, documents))
        ]
        is_right = np.array([[(query, document) in PAIRS for document in documents] for query in queries])
        cosines = units[0] @ units[1].T
        found = system["score_meaning"]
        assert found["unrelated"]["all"]["pairs"] == (~is_right).sum() and found["right"]["pairs"] == len(PAIRS)
        for name, percentile, key in (("near", 99, "p99"), ("match", 99.9, "p99.9")):
            cut = np.percentile(cosines[~is_right], percentile)
            assert found["cuts"][name]["cosine"] == found["unrelated"]["all"][key] == pytest.approx(cut, abs=1e-4)
            assert found["cuts"][name]["right_above"] == pytest.approx((cosines[is_right] >= cut).mean(), abs=1e-4)


def collapsed(texts: Sequence[str]) -> np.ndarray:
    return np.ones((len(texts), DIMS))


def unknown(texts: Sequence[str]) -> np.ndarray:
    return np.zeros((len(texts), DIMS))


class TestOddFiles:
    @pytest.mark.parametrize("encode", [collapsed, unknown], ids=["one vector for all", "no rows for the script"])
    def test_tied_documents_share_their_places(self, encode: Encode) -> None:
        pairs = [(f"ཀ {i}", f"ཁ {i}") for i in range(25)]
        (system,) = run_of(pairs, encoder(encode))["systems"]
        assert [system["forward"][metric]["score"] for metric in METRICS] == [0, 0, 0]

    def test_a_right_answer_stands_behind_half_of_the_wrong_ones_tied_with_it(self) -> None:
        (system,) = run_of([("q", "a"), ("q", "b")], encoder(collapsed), among=["c", "d"])["systems"]
        assert [system["forward"][metric]["score"] for metric in METRICS] == [0, 1, 1 / 2]

    @pytest.mark.parametrize("pairs", [PAIRS[:1], [(f"question {i}", "yes") for i in range(20)]], ids=["row", "answer"])
    def test_one_document_is_found_by_all(self, pairs: list[tuple[str, str]]) -> None:
        found = run_of(pairs, encoder(knowing(0)), encoder(collapsed))
        assert {
            system[way][m]["score"] for system in found["systems"] for way in ("forward", "back") for m in METRICS
        } == {1}
        assert found["documents"] == 1 and found["best"]["tied"]
        assert found["systems"][1]["forward"]["mrr@10"]["difference"]["more_queries"] is None

    def test_a_query_does_not_find_itself(self) -> None:
        found = run_of([*PAIRS[:9], ("same", "same")], encoder(knowing(9)), among=["question 3"])
        assert found["dropped"] == {"alike": 1} and found["queries"] == 9
        assert found["systems"][0]["forward"]["recall@1"]["score"] == 1

    def test_rows_labelled_0_are_no_pairs(self, tmp_path: Path) -> None:
        rows = [[*pair, i % 2] for i, pair in enumerate(PAIRS)]
        found = run_of(write_csv(tmp_path / "a.csv", ["q", "a", "label"], rows), encoder(knowing(0)))
        assert found["rows"] == len(PAIRS) // 2 and found["dropped"] == {"labelled 0": len(PAIRS) - len(PAIRS) // 2}
        table = [{"q": q, "a": a, "label": bool(mark)} for q, a, mark in rows]
        parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "a.parquet")
        assert read_own(tmp_path / "a.parquet").facts["dropped"] == found["dropped"]
        with pytest.raises(InputError, match="'label' holds '2' beside 0 and 1"):
            read_own(write_csv(tmp_path / "b.csv", ["q", "a", "label"], [*rows, ["q", "a", 2]]))

    def test_empty_sides_are_counted_and_alone_refused(self, tmp_path: Path) -> None:
        rows = [*PAIRS, ("only a question", ""), ("", "only an answer")]
        assert run_of(write_csv(tmp_path / "a.csv", ["q", "a"], rows), encoder(knowing(0)))["dropped"] == {
            "one-sided": 2
        }
        for rows in ([], [("a", "a")], [("a", "")]):
            with pytest.raises(InputError, match=r"b\.csv"):
                read_own(write_csv(tmp_path / "b.csv", ["q", "a"], rows))
        with pytest.raises(InputError, match=r"--on nowhere\.csv: no such file"):
            read_own("nowhere.csv")
        with pytest.raises(InputError, match="add --on FILE"):
            start_runs([], ["a.txt"])


@pytest.mark.usefixtures("on_few_items")
def test_the_command_writes_what_python_returns(tmp_path: Path, model: Path) -> None:
    model = Path(shutil.copytree(model, tmp_path / "mine"))
    write_training_texts(model, [text.upper() for pair in PAIRS[:5] for text in pair])
    on, among = write_csv(tmp_path / "faq.csv", ["question", "answer"], PAIRS), tmp_path / "more.txt"
    among.write_text("\n".join(OTHERS), encoding="utf-8")
    output = tmp_path / "result.json"
    flags = ["--model", str(model), "--on", on, "--among", str(among), "--output", str(output), "-q"]
    assert eval_script.main(flags) == 0
    (found,) = read_json(output)["own_data"]
    assert schema_fault(read_json(output), "evaluation") is None
    assert [system["name"] for system in found["systems"]] == ["mine", "random directions", "BM25"]
    assert found["systems"][0]["shared_with_training"] == {"texts": 10, "of": 40 + len(PAIRS)}
    same = qwen25.evaluate(model, on=[PAIRS], among=[among])
    assert same["own_data"][0]["systems"] == found["systems"]


def test_unrelated_texts_share_no_sentence_and_languages_that_are_not_read_are_left_out() -> None:
    sentences = read_json(resource("data") / "sentences.json")["languages"]
    for left, right in unrelated_texts("fi", sentences["fi"]):
        assert not any(sentence in left and sentence in right for sentence in sentences["fi"])
    subject = {text: noise(str(i)) for name in ("en", "fi") for i, text in enumerate(sentences[name])}
    found = measured_meaning(Cosine(lambda texts: np.stack([subject.get(text, noise(text)) for text in texts])))
    assert found["languages"] == ["en", "fi"]
