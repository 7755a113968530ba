"""The settings of phase 1: flags and their help, presets, and what is refused before anything is loaded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import distill_qwen25_1024d as phase1
from qwen25.distillation.settings import PRESETS, Settings, settings_of
from qwen25.runtime import console
from qwen25.runtime.errors import InputError


def parsed(*flags: str) -> Settings:
    return settings_of(console.given_fields(phase1.build_parser().parse_args(flags), Settings))


class TestFlags:
    def test_no_flags_are_the_defaults(self) -> None:
        assert parsed() == Settings()
        assert (Settings().size_mb, Settings().number_format, Settings.dims) == (65, "int8", 1024)

    def test_values_get_their_types(self) -> None:
        found = parsed("--dims", "64", "--epochs", "2", "--languages", "en, fr,", "--output", "x")
        assert (found.dims, found.epochs, found.languages, found.output) == (64, 2.0, ("en", "fr"), Path("x"))
        assert parsed("--pairs", "packaged", "--pairs", "recommended").pairs == ("packaged", "recommended")
        assert parsed("--pairs", "none").pairs == ()

    @pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "much"])
    def test_a_size_is_a_number_above_0(self, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            parsed("--max-size-mb", text)
        assert "megabytes above 0 or none" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("flags", "size", "number_format"),
        [
            ((), 65, "int8"),
            (("--max-size-mb", "none"), math.inf, "float32"),
            (("--teacher", "Qwen/Qwen2.5-1.5B-Instruct@main"), 65, "int8"),
            (("--teacher", "smollm2-135m"), math.inf, "float32"),
            (("--storage", "float16"), 65, "float16"),
        ],
    )
    def test_the_default_teacher_is_cut_to_a_size(
        self, flags: tuple[str, ...], size: float, number_format: str
    ) -> None:
        assert (parsed(*flags).size_mb, parsed(*flags).number_format) == (size, number_format)


class TestPresets:
    @pytest.mark.parametrize("name", list(PRESETS))
    def test_a_preset_sets_its_fields(self, name: str) -> None:
        found = parsed("--preset", name)
        assert {field: getattr(found, field) for field in PRESETS[name]} == PRESETS[name]
        assert found == settings_of({"preset": name})

    def test_a_flag_wins_over_the_preset_on_either_side(self) -> None:
        """Also with the default of another teacher: given all the same."""
        for line in (("--dims", "1024", "--preset", "gemma-768d"), ("--preset", "gemma-768d", "--dims", "1024")):
            found = vars(parsed(*line))
            assert {name: found[name] for name in PRESETS["gemma-768d"]} == {**PRESETS["gemma-768d"], "dims": 1024}


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"dims": 0}, "--dims must be from 1"),
            ({"epochs": math.nan}, "--epochs must be from"),
            ({"tune": "rows"}, "needs something to learn from"),
            ({"recipe": "magic"}, "choose from default, plain, pooled"),
            ({"name": "two\nlines"}, "--name"),
        ],
    )
    def test_values_that_cannot_be_run(self, fields: dict[str, object], why: str) -> None:
        with pytest.raises(InputError, match=why):
            settings_of(fields)

    @pytest.mark.parametrize("field", ["teacher", "corpus", "vocabulary", "pairs"])
    def test_what_is_read_must_not_be_replaced(self, field: str, tmp_path: Path) -> None:
        inside = tmp_path / "model" / "pairs.jsonl"
        inside.parent.mkdir()
        inside.write_text("{}")
        values: dict[str, object] = {"teacher": str(inside), "pairs": (str(inside),)}
        settings = Settings(output=tmp_path / "model", overwrite=True, **{field: values.get(field, inside)})
        with pytest.raises(InputError, match=r"is inside the --output folder"):
            settings.check()
