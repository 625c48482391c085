"""Presets: they parse, they teach, and what the paper's need holds for their numbers."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import config
from pipelines.corpora.classes import with_classes
from pipelines.corpora.pixels import View, plan_views
from pipelines.dataset.config import EncodeConfig
from pipelines.evaluation.config import EvaluateConfig, ScoreConfig
from pipelines.labelling.config import LabelConfig
from pipelines.presets import ENCODE, TRAIN
from pipelines.score import presets as scored
from pipelines.synthesis.config import SynthesizeConfig
from pipelines.training.config import TrainConfig
from semflow.networks.velocity import SD15

PAPER = {"celebamask": 19, "cityscapes": 19, "cocostuff": 171}
"""Names, and how many classes."""
LAYOUTS = [*PAPER, "celebamask-parts", "cityscapes-train-ids"]


def test_whoever_can_train_by_a_preset_can_encode_for_it():
    assert TRAIN.keys() <= ENCODE.keys()


@pytest.mark.parametrize("name", TRAIN)
def test_the_help_of_a_preset_has_the_way_to_a_model_and_the_list_one_line(name, capsys):
    for kind, presets in ((EncodeConfig, ENCODE), (TrainConfig, TRAIN)):
        with pytest.raises(SystemExit):
            config.parse(kind, "doc", presets, [name, "--help"])
        told = capsys.readouterr().out
        assert "python pipelines/" in told.partition("options")[0]
        with pytest.raises(SystemExit):
            config.parse(kind, "doc", presets, ["--help"])
        assert "python pipelines/" not in capsys.readouterr().out


REPRODUCE = (Path(__file__).parents[2] / "docs/tutorials/reproduce.md").read_text()
JOBS = {
    "encode": (EncodeConfig, ENCODE), "train": (TrainConfig, TRAIN), "label": (LabelConfig, None),
    "synthesize": (SynthesizeConfig, None), "evaluate": (EvaluateConfig, None),
    "score": (ScoreConfig, scored()),
}  # fmt: skip


@pytest.mark.parametrize("text", [REPRODUCE, *(ENCODE[name][0] for name in PAPER)])
def test_every_command_of_a_recipe_is_one_that_our_parser_takes(text):
    found = re.findall(r"^ *python pipelines/(\w+)\.py (.*)$", text.replace("\\\n", ""), re.M)
    assert JOBS.keys() <= {job for job, _ in found}
    for job, flags in found:
        words = shlex.split(flags, comments=True)
        config.parse(*(JOBS[job][0], None, JOBS[job][1]), [w for w in words if w != "preview"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_papers_perturbation_changes_no_label_on_the_papers_grid(name):
    cfg = ENCODE[name][1]
    cfg = replace(cfg, corpus=with_classes(cfg.corpus))
    palette = cfg.make_palette()
    assert len(palette) == PAPER[name.split("-")[0]]
    assert palette.colours[:7] == (*((0, 0, 50 * i) for i in range(6)), (0, 50, 0))
    cfg.perturbation.check(palette)
    bound, _, _ = palette.perturbation_bound()
    assert bound == pytest.approx(25 / 127.5)
    assert cfg.perturbation.amplitude == 0.05


@pytest.mark.parametrize("name", LAYOUTS)
def test_sizes_divide_by_the_autoencoder_and_by_the_unet(name):
    """Stable Diffusion's autoencoder takes 8 pixels a latent; its UNet halves these thrice."""
    halvings = len(SD15["block_out_channels"]) - 1
    cfg = ENCODE[name][1]
    assert (cfg.height, cfg.width) == (512, 1024 if name.startswith("cityscapes") else 512)
    assert cfg.height % (8 * 2**halvings) == cfg.width % (8 * 2**halvings) == 0


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16])
def test_the_batch_is_the_same_on_any_number_of_gpus(name, workers):
    cfg = replace(TRAIN[name][1], workers=workers)
    released = {"celebamask": (32, 80_000, 2e-5), "cityscapes": (32, 8_000, 5e-5),
                "cocostuff": (16, 320_000, 1e-5)}[name]  # fmt: skip
    assert (cfg.micro_batch_size, cfg.steps, cfg.lr) == released
    assert cfg.batch_size == 8 * cfg.micro_batch_size
    shares = [cfg.lanes(rank, workers) for rank in range(workers)]
    assert [row for share in shares for row in share] == list(range(cfg.batch_size))
    assert {len(share) for share in shares} == {cfg.batch_size // workers}
    assert cfg.micro_batches(workers) == max(1, 8 // workers)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_training_is_the_plain_loss_and_stops_at_none_of_its_traps(name):
    encode, train = ENCODE[name][1], TRAIN[name][1]
    plain = TrainConfig()
    assert (train.objective, train.path, train.flow) == (plain.objective, plain.path, plain.flow)
    assert (train.segment.nfe, train.synthesize.nfe) == (25, 25)
    assert train.checkpoint_every < train.steps
    assert train.online_masks or encode.draws > 1, "else training would see clean masks only"


def test_views_are_the_papers_crops_and_flips():
    """Whole and mirrored where it does not crop; else squares of the short side, within 1 %."""
    for name in ("celebamask", "cityscapes"):
        cfg = ENCODE[name][1]
        views = plan_views(1024, 512, count=cfg.views, min_scale=cfg.min_scale, aspect=2, seed=[0])
        assert views == [View(0, 0, 1024, 512, flip) for flip in (False, True)]
    cfg = ENCODE["cocostuff"][1]
    whole, *crops = plan_views(640, 480, count=cfg.views, min_scale=cfg.min_scale, aspect=1,
                               seed=[0])  # fmt: skip
    assert whole == View(0, 0, 640, 480, flip=False)
    assert all(view.width == view.height and 475 <= view.width <= 480 for view in crops)
    assert len({view.left for view in crops}) > 3
