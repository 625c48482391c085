from dataclasses import replace

import pytest
from pydantic import ValidationError

from pipelines import config
from pipelines.dataset.config import EncodeConfig
from pipelines.evaluation.config import EvaluateConfig
from pipelines.inference.predictors import SolverChoice
from pipelines.labelling.config import LabelConfig
from pipelines.presets import ENCODE, TRAIN
from pipelines.reflow import presets
from pipelines.straightening.config import ReflowConfig
from pipelines.synthesis.config import SynthesizeConfig
from pipelines.training.config import TrainConfig
from semflow import Solver


@pytest.mark.parametrize("name", TRAIN)
def test_a_preset_survives_the_way_to_the_workers(name):
    preset = TRAIN[name][1]
    assert config.from_dict(TrainConfig, config.to_dict(preset)) == preset


def test_an_unknown_key_is_refused_by_name():
    data = config.to_dict(TRAIN["digits"][1])
    with pytest.raises(ValidationError, match=r"objective\.weigth"):
        config.from_dict(TrainConfig, data | {"objective": {"weigth": 1}})


def test_dotted_flags_override_a_preset():
    args = ["camvid", "--corpus.root", "/x", "--perturbation.amplitude", "0.1", "--overwrite"]
    cfg = config.parse(EncodeConfig, None, ENCODE, args)
    assert cfg.corpus.root == "/x"
    assert cfg.perturbation.amplitude == 0.1
    assert cfg.overwrite
    assert cfg.width == 128
    assert cfg.corpus.classes == ENCODE["camvid"][1].corpus.classes


def test_a_typo_is_answered_with_the_right_name(capsys):
    with pytest.raises(SystemExit):
        config.parse(TrainConfig, None, TRAIN, ["digits", "--leraning-rate", "1"])
    with pytest.raises(SystemExit):
        config.parse(TrainConfig, None, TRAIN, ["digits", "--warmup-step", "1"])
    assert "--warmup-steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "named"),
    [(EncodeConfig, ENCODE), (TrainConfig, TRAIN), (LabelConfig, None), (SynthesizeConfig, None),
     (EvaluateConfig, None), (ReflowConfig, presets())],
)  # fmt: skip
def test_every_option_is_explained_in_the_help(kind, named, capsys):
    with pytest.raises(SystemExit):
        config.parse(kind, "doc", named, [*([next(iter(named))] if named else []), "--help"])
    text = capsys.readouterr().out
    assert len(text) > 1500
    for field in kind.__dataclass_fields__.values():
        if field.type in ("int", "float", "str", "bool"):
            assert f"--{field.name.replace('_', '-')}" in text


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 10])
def test_a_batch_is_dealt_to_any_number_of_workers_each_row_once(workers):
    cfg = TrainConfig(batch_size=10, workers=workers, micro_batch_size=2)
    shares = [cfg.lanes(rank, workers) for rank in range(workers)]
    assert [row for share in shares for row in share] == list(range(10))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert cfg.micro_batches(workers) * 2 >= max(map(len, shares))


def test_a_batch_too_small_for_its_workers_is_refused():
    with pytest.raises(ValueError, match="4 workers have no share in 3 rows"):
        TrainConfig(batch_size=3, workers=4)


@pytest.mark.parametrize(("batch_size", "views", "side"), [(16, 1, 512), (16, 7, 64), (8, 12, 256)])
def test_blocks_are_whole_batches_so_their_size_decides_nothing(batch_size, views, side):
    base = ENCODE["camvid"][1]
    cfg = replace(base, batch_size=batch_size, views=views, height=side, width=side,
                  shard_rows=64 * views)  # fmt: skip
    rows = cfg.block_inputs(views) * views
    assert rows % batch_size == 0 or rows == cfg.shard_rows


def test_a_solver_choice_changes_only_what_it_names():
    assert SolverChoice().over(Solver(steps=7)) == Solver(steps=7)
    assert SolverChoice(name="heun").over(Solver(steps=7)) == Solver(name="heun", steps=7)


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    assert config.fingerprint({"a": 1, "b": 2}) == config.fingerprint({"b": 2, "a": 1})
    assert config.fingerprint({"a": 1}) != config.fingerprint({"a": 2})


def test_paths_become_absolute_and_uris_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = EvaluateConfig(model="m", data="s3://bucket/x")
    cfg = config.absolute_paths(cfg, "model", "data")
    assert cfg.model == str(tmp_path / "m")
    assert cfg.data == "s3://bucket/x"


@pytest.mark.parametrize(
    "uri",
    ["http://anna:hunter2@host/photos", "https://hunter2@host/photos", "s3://KEY:hunter2@bucket/a",
     "https://host/a.zip?X-Amz-Signature=hunter2", "https://host/a?sig=hunter2&se=1",
     "abfs://name:hunter2@account/photos", "https://host/a?access_token=hunter2"],
)  # fmt: skip
@pytest.mark.parametrize("option", ["--images", "--model", "--output", "--settings"])
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri, option, capsys):
    args = ["--model", "m", "--images", "i", option, uri]
    with pytest.raises(SystemExit) as told:
        config.parse(LabelConfig, None, args=args)
    assert f"{option} is a URI with" in str(told.value)
    assert "AWS_ACCESS_KEY_ID" in str(told.value)
    assert "hunter2" not in str(told.value) + capsys.readouterr().err


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/a@b/c", "abfs://container@account.dfs.core.windows.net/x", "/home/a:b@c/x",
     "https://host/a?page=2", "http://[::1", "memory://a"],
)  # fmt: skip
def test_what_only_looks_like_credentials_is_taken(uri):
    assert config.parse(LabelConfig, None, args=["--model", "m", "--images", uri]).images == uri
