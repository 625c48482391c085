"""--overwrite removes an earlier job's output, and never what the job was given to read."""

from dataclasses import replace

import pytest

from infra import storage
from pipelines.labelling.config import LabelConfig
from pipelines.sharding import claim


@pytest.fixture
def cfg(tmp_path):
    """A model, photos and settings side by side, and what an earlier labelling made."""
    for file in ("run/model/model_index.json", "run/checkpoints/a", "photos/cats/a.jpg",
                 "found/settings.json"):  # fmt: skip
        storage.write_bytes(str(tmp_path / file), b"{}")
    made = LabelConfig(
        model=str(tmp_path / "run/model"), images=str(tmp_path / "photos"),
        output=str(tmp_path / "labels"), settings=str(tmp_path / "found/settings.json"),
    )  # fmt: skip
    claim.start(made.output, "one", made)
    storage.write_bytes(storage.join(made.output, "masks/a.png"), b"mask")
    return replace(made, overwrite=True)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "output",
    ["run/model", "run", ".", "run/model/unet", "photos", "photos/cats", "found",
     "found/settings.json", "run/../run", "link", "link/model", "run/model/"],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_an_output_that_is_holds_or_lies_in_an_input_is_refused(cfg, tmp_path, output, scheme):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for inside in ("run", "run/model", "photos", "photos/cats", "found", "."):
        claim.start(str(tmp_path / inside), "one", None)  # even where a job has worked
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"what this job reads: --(model|images|settings) "):
        claim.start(f"{scheme}{tmp_path}/{output}", "two", cfg)
    assert files(tmp_path) == before


def test_inputs_by_links_into_the_output_are_found(cfg, tmp_path):
    (tmp_path / "photos-link").symlink_to(tmp_path / "labels/masks")
    linked = replace(cfg, images=str(tmp_path / "photos-link"))
    with pytest.raises(ValueError, match=r"reads: --images .*photos-link"):
        claim.start(cfg.output, "two", linked)


def test_the_same_holds_on_other_storage(cfg):
    storage.write_bytes("memory://claim/run/model/model_index.json", b"{}")
    there = replace(cfg, model="memory://claim/run/model")
    for output in ("memory://claim/run", "memory://claim/run/model", "memory://claim//run/x/.."):
        with pytest.raises(ValueError, match="reads: --model"):
            claim.start(output, "two", there)
    assert storage.exists("memory://claim/run/model/model_index.json")


def test_what_no_job_made_is_not_removed(cfg, tmp_path):
    storage.write_bytes(str(tmp_path / "thesis/chapter.tex"), b"x")
    with pytest.raises(ValueError, match=r"is none: it holds 1 files, chapter\.tex for one"):
        claim.start(str(tmp_path / "thesis"), "two", cfg)
    assert files(tmp_path / "thesis") == {"chapter.tex"}


def test_earlier_work_is_aside_until_the_new_stands(cfg, tmp_path):
    claim.start(cfg.output, "two", cfg)
    aside = tmp_path / "labels.overwritten"
    assert files(aside) == {"masks/a.png", "_progress/plan.json"}
    assert claim.noted(cfg.output) == {"fingerprint": "two"}
    claim.start(cfg.output, "three", cfg)  # 'two' came to nothing: the first is still what counts
    assert "masks/a.png" in files(aside)
    claim.stands(cfg.output)
    assert not aside.exists()
    assert claim.noted(cfg.output) == {"fingerprint": "three"}


def test_options_that_are_no_places_are_none(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = dict(
        claim.places(
            {
                "model": cfg.model,
                "output": "labels",
                "name": "euler",
                "deep": {"a_list": ["photos", "nothing"]},
                "uri": "s3://b/k",
            }
        )
    )
    assert found == {"model": cfg.model, "deep.a-list": "photos", "uri": "s3://b/k"}
