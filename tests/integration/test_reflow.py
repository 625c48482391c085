"""Reflow: couplings are a dataset like any other, and a flow that was trained on them is judged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.dataset.latents import read_manifest, read_row_groups
from pipelines.dataset.verify import VerifyConfig, verify
from pipelines.inference.predictors import ModelOptions
from pipelines.reflow import reflow
from pipelines.straightening.config import ReflowConfig
from pipelines.straightening.couplings import make_couplings
from pipelines.training.config import TrainConfig
from semflow import Perturbation, SemFlow, Solver


@pytest.fixture(scope="module")
def reflowed(latents, model, tmp_path_factory):
    cfg = ReflowConfig(
        model=str(model), data=str(latents), output=str(tmp_path_factory.mktemp("reflow") / "out"),
        couplings=20, solver=Solver(name="heun", steps=4), shard_rows=8, row_group_rows=4,
        actors=ModelOptions(batch_size=3), judge_rows=6, judge_steps=(1, 3),
        train=TrainConfig(steps=3, batch_size=4, lr=1e-3, threads=1, log_every=1, validate_rows=4,
                          shuffle_groups=2, online_masks=True, register_as=None),
    )  # fmt: skip
    return cfg, reflow(cfg)


def rows_of(folder: Path | str):
    manifest = read_manifest(str(folder))
    for shard in manifest.split("train").shards:
        groups = list(range(len(shard.row_groups)))
        table = read_row_groups(manifest.shard_uri(shard), groups)
        for i in range(shard.rows):
            yield {name: values[i] for name, values in table.items()}


def test_the_couplings_are_a_whole_dataset_that_says_which_flow_made_them(reflowed):
    cfg, result = reflowed
    where = Path(cfg.output) / "couplings"
    assert verify(VerifyConfig(data=str(where))) == {}
    manifest = read_manifest(str(where))
    assert (manifest.splits["train"].rows, manifest.splits["val"].rows) == (20, 6)
    coupling = manifest.recipe["coupling"]
    assert coupling["direction"] == "both"
    assert coupling["solver"]["name"] == "heun"
    assert len(coupling["model"]) == 64
    assert result["coupling"] == coupling


def test_each_coupling_is_the_models_way_from_its_row_of_the_data(reflowed, latents):
    cfg, _ = reflowed
    source = {(row["id"], row["view"]): row for row in rows_of(latents)}
    net, seen = SemFlow.load(cfg.model), {"segment": 0, "synthesize": 0}
    perturbation = Perturbation(**read_manifest(str(latents)).recipe["perturbation"])
    for row in rows_of(Path(cfg.output) / "couplings"):
        origin = source[row["id"], row["view"]]
        assert np.array_equal(row["mask"], origin["mask"])
        image, mask = (torch.tensor(row[c])[None] for c in ("image_mean", "mask_draw_0"))
        if row["direction"] == "segment":
            assert np.array_equal(row["image_mean"], origin["image_mean"])
            assert row["seed"] == -1
            start, end, ends = image, mask, (0.0, 1.0)
        else:
            picture = net.palette.encode(torch.tensor(row["mask"])[None])
            start = net.autoencoder.encode(perturbation.apply(picture, [int(row["seed"])])).mean
            assert torch.equal(start.half(), mask)
            end, ends = image, (1.0, 0.0)
        with torch.inference_mode():
            assert torch.allclose(net.flow(start, *ends, cfg.solver).x, end.float(), atol=5e-3)
        seen[str(row["direction"])] += 1
    assert seen == {"segment": 10, "synthesize": 10}


def test_a_killed_coupling_goes_on_to_the_bytes_of_an_undisturbed_one(reflowed, tmp_path):
    cfg, _ = reflowed
    whole = Path(cfg.output) / "couplings"
    output = tmp_path / "out"
    # As a kill within the second shard leaves it: a torn file without its record.
    shutil.copytree(whole, output)
    (output / "manifest.json").unlink()
    (output / "_progress/train/00001.json").unlink()
    (output / "train/00001.parquet").write_bytes(b"PAR1")
    arguments = (cfg.model, cfg.data, str(output))
    make_couplings(*arguments, cfg, gpus=0)
    for path in whole.rglob("*.parquet"):
        assert (output / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert read_manifest(str(output)).fingerprint == read_manifest(str(whole)).fingerprint
    with pytest.raises(ValueError, match="another configuration"):
        make_couplings(*arguments, replace(cfg, seed=1), gpus=0)


def test_before_and_after_are_judged_and_shown(reflowed, capsys):
    cfg, result = reflowed
    written = json.loads((Path(cfg.output) / "reflow.json").read_text())
    assert written["scores"] == result["scores"]
    for way in ("segment", "synthesize"):
        assert set(result["scores"][way]) == {"1", "3"}
        assert result["straightness"][way]["before"] != result["straightness"][way]["after"]
    assert result["scores"]["segment"]["3"]["after"]["nfe"] == 3
    after = SemFlow.load(Path(cfg.output) / "run/model")
    assert after.provenance["step"] == 3
    assert after.provenance["config"]["online_masks"] is False
    assert (Path(cfg.output) / "report.html").read_text().count("data:image/png;base64") == 3
    capsys.readouterr()
    assert reflow(cfg) == written
    assert "nothing to do" in capsys.readouterr().out
