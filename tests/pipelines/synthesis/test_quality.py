"""Quality control: what it measures, whom it rejects, and what others read of what it kept."""

import io
import tarfile

import numpy as np
import pytest
import torch

from pipelines.inference.predictors import ModelOptions
from pipelines.synthesis import formats, tally
from pipelines.synthesis.quality import CheckedSynthesizer, Quality, agreement, attempt_seed
from semflow import (
    Perturbation,
    SemFlow,
    Solver,
    load_autoencoder,
    make_palette,
    make_velocity,
)
from semflow.sampler import Defaults
from tests.pictures import CLASSES, scene


def test_agreement_is_the_mean_iou_of_the_masks_classes():
    ids = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    seen = np.array([[0, 0, 1, 2], [0, 1, 1, 2]], np.uint8)
    found = agreement(seen, ids, 3)
    # 0: 3 of 4; 1: 2 shared, 3 of it, 1 more seen; 2 is not in the mask, and has no IoU of its own
    assert found.agreement == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert found.shared.tolist() == [3, 2, 0]
    assert found.either.tolist() == [4, 4, 1]


def test_ignored_pixels_do_not_matter_and_nothing_agrees_with_nothing():
    ids = scene(0)[1].copy()
    seen = ids.copy()
    ids[:10], seen[:10] = 255, 2
    assert agreement(seen, ids, 3).agreement == 1
    assert agreement(seen, np.full_like(ids, 255), 3).agreement == 0


def test_images_of_other_masks_agree_less():
    """The check on masks that were exchanged: what was seen is right, but for another image."""
    several = [scene(number)[1] for number in range(20)]
    true = [agreement(ids, ids, 3).agreement for ids in several]
    shuffled = [agreement(ids, other, 3).agreement
                for ids, other in zip(several, several[1:] + several[:1], strict=True)]  # fmt: skip
    assert min(true) == 1
    assert max(shuffled) < 0.9


class Mirror(torch.nn.Module):
    """No flow at all: an image is its mask's picture, and is seen as such."""

    def forward(self, x, t):
        return torch.zeros_like(x)


@pytest.fixture
def checked(tmp_path):
    """A checked synthesizer whose flow stands still, and what it makes of a batch."""
    defaults = Defaults(height=32, width=48, segment=Solver(steps=1), synthesize=Solver(steps=1))
    SemFlow(make_velocity("tiny", 48), load_autoencoder("space-to-depth"),
            make_palette("sphere", CLASSES), defaults).save(tmp_path)  # fmt: skip

    def make(quality, spoil=lambda images: images):
        still = Solver(name="euler", steps=1)
        actor = CheckedSynthesizer(
            str(tmp_path), ModelOptions(), still, Perturbation(amplitude=0.0), still, quality
        )
        actor.model.velocity = Mirror()
        actor.model.velocity.register_parameter("p", torch.nn.Parameter(torch.zeros(1)))
        look = actor.look
        actor.look = lambda images: look(spoil(images))
        return actor

    return make


def batch(count=5):
    ids = np.stack([scene(number, 32, 48)[1] for number in range(count)])
    error = np.array([""] * (count - 1) + ["a broken mask"])
    return {"ids": ids, "seed": np.arange(count), "error": error, "name": np.arange(count)}


def test_what_shows_its_mask_is_kept_at_the_first_attempt(checked):
    result = checked(Quality(min_agreement=0.99, attempts=3))(batch())
    assert result["agreement"][:4].tolist() == [1] * 4
    assert result["kept"].tolist() == [True] * 4 + [False]  # bad rows go through untouched
    assert result["attempts"].tolist() == [1] * 4 + [0]
    assert result["seed"][:4].tolist() == [0, 1, 2, 3]
    assert np.array_equal(result["seen"][:4], batch()["ids"][:4])


def test_images_that_were_exchanged_in_a_batch_are_rejected(checked):
    # Each image is that of another mask.
    exchange = lambda images: np.roll(images, 1, axis=0)  # noqa: E731
    result = checked(Quality(min_agreement=0.9), exchange)(batch())
    assert not result["kept"].any()
    assert result["agreement"][:4].max() < 0.9
    assert (result["agreement"][:4] > 0).all()
    measured = checked(Quality(min_agreement=0), exchange)(batch())
    assert measured["kept"][:4].all()
    assert np.array_equal(measured["agreement"], result["agreement"])


def test_each_attempt_has_its_seed_and_the_best_is_handed_on(checked):
    tries = []
    others = torch.from_numpy((batch()["ids"][:4] + 1) % len(CLASSES))
    wrong = make_palette("sphere", CLASSES).colourize(others).movedim(1, -1).numpy()

    def spoil(images):
        """Attempts show more and more of the mask; the third shows all."""
        images = images.copy()
        rows = (20, 10, 0)[len(tries)]
        images[:, :rows] = wrong[:, :rows]
        tries.append(len(images))
        return images

    quality = Quality(min_agreement=0.99, attempts=5)
    result = checked(quality, spoil)(batch())
    assert tries == [4, 4, 4]
    assert result["attempts"].tolist() == [3] * 4 + [0]
    assert result["kept"][:4].all()
    assert result["seed"][:4].tolist() == [attempt_seed(n, 2) for n in range(4)]
    tries.clear()
    result = checked(Quality(min_agreement=0.99, attempts=2), spoil)(batch())
    assert not result["kept"].any()
    assert result["seed"][:4].tolist() == [attempt_seed(n, 1) for n in range(4)]
    assert attempt_seed(7, 0) == 7


def test_quality_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="attempts needs"):
        Quality(attempts=2)
    for wrong in ({"min_agreement": 1.5}, {"min_agreement": 0.5, "attempts": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Quality(**wrong)


def rows(count=12):
    """Rows of three samples a mask, every fourth rejected."""
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        ids = scene(number // 3, 32, 48)[1].copy()
        ids[0] = 255
        seen = np.where(rng.random(ids.shape) < 0.1, 1, ids).astype(np.uint8)
        found.append({
            "ids": ids, "pixels": rng.integers(0, 256, (32, 48, 3)).astype(np.uint8), "seen": seen,
            "path": f"{number // 3}.png", "variant": 0, "edit": "", "split": "train",
            "agreement": agreement(seen, ids, 3).agreement, "kept": number % 4 != 3,
            "attempts": 1 + number % 2,
        })  # fmt: skip
    return found


def test_counts_of_shards_add_up_to_those_of_all():
    whole = tally.count(rows(), 3, checked=True)
    parts = tally.count(rows()[:6], 3, checked=True) + tally.count(rows()[6:], 3, checked=True)
    for name, value in vars(whole).items():
        assert getattr(parts, name) == pytest.approx(value), name
    kept = [row for row in rows() if row["kept"]]
    assert (whole.rows, whole.kept, whole.attempts) == (12, 9, 18)
    assert sum(whole.histogram) == 12
    assert whole.splits == {"train": 9}
    for c in range(3):
        assert whole.pixels[c] == sum((row["ids"] == c).sum() for row in kept)
        assert whole.images[c] == sum((row["ids"] == c).any() for row in kept)
        assert whole.images[c] + whole.rejected[c] == sum((r["ids"] == c).any() for r in rows())


def test_an_edited_mask_that_could_not_be_edited_does_not_count_as_one():
    some = [row | {"variant": 1, "edit": '{"flip": true}' if n < 5 else ""}
            for n, row in enumerate(rows())]  # fmt: skip
    assert tally.count(some, 3, checked=True).variants == 4  # the fourth is rejected


def test_diversity_is_the_distance_that_the_search_measures():
    one, other = rows()[0]["pixels"], rows()[1]["pixels"]
    a, b = (torch.from_numpy(p).float() / 127.5 - 1 for p in (one, other))
    assert tally.distance(one, other) == pytest.approx(float((a - b).square().mean().sqrt()))
    counts = tally.count(rows(3), 3, checked=False)
    assert counts.pairs == 2
    assert tally.count([rows(1)[0], rows(4)[3] | {"kept": True}], 3, checked=False).pairs == 0


def test_a_tar_depends_on_nothing_but_its_samples_and_keys_have_no_dots():
    samples = [
        (formats.Sample(name, "train", row["pixels"], row["ids"], {"seed": n}), b"png")
        for n, (name, row) in enumerate(zip(("b.c-1", "a/ü-0", "b.c-10"), rows(3), strict=True))
    ]
    data = formats.tar(samples)
    assert data == formats.tar(samples[::-1])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        assert {member.mtime for member in archive} == {0}
    assert names == sorted(names)
    assert names[:3] == ["a/ü-0.json", "a/ü-0.mask.png", "a/ü-0.png"]
    assert names[3] == "b%2Ec-1.json"
