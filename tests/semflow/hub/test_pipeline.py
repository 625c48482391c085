"""The pipeline as users of diffusers meet it. What it computes is SemFlow's, tested elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semflow import (
    Perturbation,
    SemFlow,
    SemFlowPipeline,
    Solver,
    load_autoencoder,
    make_palette,
    make_velocity,
)
from semflow.hub.images import mask_output
from semflow.masks.classmap import ClassMap
from semflow.networks.autoencoder import DiffusersAutoencoder
from semflow.networks.velocity import Velocity
from semflow.sampler import Defaults
from tests.semflow.test_reference import make_unet, make_vae

HEIGHT, WIDTH = 32, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    defaults = Defaults(
        height=HEIGHT, width=WIDTH, segment=Solver(steps=1),
        synthesize=Solver(name="heun", steps=2),
        class_map=ClassMap(classes=3, ids=(1, 2, 3), ignore_ids=(0, 9)),
    )  # fmt: skip
    where = tmp_path_factory.mktemp("model")
    SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"),
        make_palette("sphere", ["sky", "road", "tree"]), defaults, {"step": 7},
    ).save(where)  # fmt: skip
    return where


@pytest.fixture
def pipe(folder):
    pipe = SemFlowPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def conditional():
    """A model of Stable Diffusion's kinds of networks."""
    torch.manual_seed(0)
    velocity = Velocity(make_unet(), torch.randn(1, 5, 8))
    autoencoder = DiffusersAutoencoder(make_vae())
    solver = Solver(steps=2)
    defaults = Defaults(height=32, width=48, segment=solver, synthesize=solver)
    return SemFlow(velocity, autoencoder, make_palette("grid", 4), defaults).eval()


def photo(width=WIDTH, height=HEIGHT, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixels(array):
    return torch.from_numpy(array).movedim(-1, 0).float()[None] / 127.5 - 1


def test_it_segments_as_the_model_does_and_a_mask_has_its_photos_size(pipe):
    photos = [photo(), photo(100, 70, 1), photo(31, 90, 2)]
    output = pipe.segment([Image.fromarray(one) for one in photos], output_type="np", batch_size=2)
    for one, mask, margin in zip(photos, output.masks, output.margins, strict=True):
        small = Image.fromarray(one).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        expected = pipe.semflow.segment(pixels(np.array(small)))
        nearest = Image.fromarray(expected.ids[0].byte().numpy()).resize(
            one.shape[1::-1], Image.Resampling.NEAREST
        )
        assert np.array_equal(mask, np.array(nearest))
        assert margin.shape == mask.shape
    assert output.nfe == 1


def test_all_kinds_of_photos_and_of_masks_say_the_same(pipe):
    array = photo()
    given = [
        Image.fromarray(array), array, torch.from_numpy(array).movedim(-1, 0),
        array.astype(np.float64) / 255, torch.from_numpy(array).movedim(-1, 0).float() / 255,
    ]  # fmt: skip
    found = [pipe.segment(one, output_type="pt").masks[0] for one in given]
    assert all(torch.equal(found[0], other) for other in found[1:])
    batch = pipe.segment(torch.stack([given[2], given[2]]), output_type="pt").masks
    assert len(batch) == 2
    assert torch.equal(batch[1], found[0])
    (image,) = pipe.segment(array).masks
    assert (image.mode, image.size) == ("P", (WIDTH, HEIGHT))
    assert np.array_equal(np.array(image), found[0].numpy())
    assert image.convert("RGB").getpixel((0, 0)) == pipe.semflow.palette.colours[found[0][0, 0]]
    seeds = [1, 2]
    made = [
        pipe.synthesize(mask, num_images_per_mask=2, seeds=seeds, output_type="np").images
        for mask in (image, np.array(image), found[0], found[0][None])
    ]
    assert all(np.array_equal(made[0], other) for other in made[1:])


def test_it_synthesizes_as_the_model_does_from_seeds_that_a_generator_draws(pipe):
    ids = torch.randint(0, 3, (2, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1))

    def generator():
        return torch.Generator().manual_seed(5)

    output = pipe.synthesize(
        ids, num_images_per_mask=3, generator=generator(), output_type="pt", batch_size=4
    )
    expected = pipe.semflow.synthesize(ids.repeat_interleave(3, 0), output.seeds)
    torch.testing.assert_close(output.images, expected.images / 2 + 0.5, rtol=0, atol=1e-5)
    assert output.nfe == expected.nfe == 4
    assert len(set(output.seeds)) == 6
    again = pipe.synthesize(ids[1], seeds=output.seeds[3:4], output_type="pil")
    assert again.images[0].size == (WIDTH, HEIGHT)
    torch.testing.assert_close(
        torch.from_numpy(np.array(again.images[0])).movedim(-1, 0) / 255,
        output.images[3], rtol=0, atol=1 / 255,
    )  # fmt: skip
    same = pipe.synthesize(ids, num_images_per_mask=3, generator=generator(), output_type="pt")
    assert same.seeds == output.seeds
    each = pipe.synthesize(ids, generator=[generator(), generator()], output_type="pt")
    assert each.seeds[0] == each.seeds[1] == output.seeds[0]


def test_a_float_photo_of_another_size_is_resized_as_an_8_bit_one_nearly(pipe):
    array = np.array(Image.fromarray(photo(12, 9)).resize((150, 100), Image.Resampling.BICUBIC))
    masks = [
        pipe.segment(one, output_type="np").masks[0] for one in (array, array / np.float32(255))
    ]
    assert (masks[0] == masks[1]).mean() > 0.99


def test_a_photo_is_turned_as_its_camera_says(pipe, tmp_path):
    upright = Image.fromarray(photo(64, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        found = [pipe.segment(one, output_type="np").masks[0] for one in (upright, turned)]
    assert np.array_equal(*found)


def test_the_solver_is_the_models_the_named_or_the_given_one(pipe):
    array = photo()
    assert pipe.segment(array, num_inference_steps=3).nfe == 3
    assert pipe.segment(array, solver="rk4").nfe == 4
    assert pipe.segment(array, solver="heun", num_inference_steps=2).nfe == 4
    solver = Solver(steps=2, grid=(0.0, 0.3, 1.0))
    assert pipe.segment(array, solver=solver).nfe == 2
    loose = Solver(name="dopri5", rtol=1.0, atol=1.0)
    assert pipe.segment(array, solver=loose).nfe >= 7
    with pytest.raises(ValueError, match="no solver 'leapfrog'"):
        pipe.segment(array, solver="leapfrog")


def test_the_progress_bar_counts_evaluations(pipe, capsys):
    pipe.set_progress_bar_config(disable=False)
    pipe.segment([photo()] * 3, num_inference_steps=5, batch_size=2)
    assert "10/10" in capsys.readouterr().err
    assert not pipe.semflow.velocity._forward_hooks


@pytest.mark.parametrize(
    ("call", "value", "message"),
    [
        ("segment", [], "no pictures"),
        ("segment", "photo.jpg", "not str"),
        ("segment", np.zeros((4, 4), np.uint8), "3 axes"),
        ("segment", np.zeros((3, 4, 4), np.uint8), r"\[H, W, 3\]"),
        ("segment", np.full((4, 4, 3), -1.0), r"floats in \[0, 1\]"),
        ("segment", np.full((4, 4, 3), np.nan), r"floats in \[0, 1\]"),
        ("segment", Image.new("I;16", (4, 4)), "8-bit"),
        ("synthesize", Image.new("RGB", (4, 4)), "channel of class ids"),
        ("synthesize", np.zeros((4, 4)), "integers"),
        ("synthesize", np.full((4, 4), 3), r"values \[3\] are beyond"),
        ("synthesize", np.full((4, 4), 300), r"values \[300\] are beyond"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_is_expected(pipe, call, value, message):
    with pytest.raises(ValueError, match=message):
        getattr(pipe, call)(value)


def test_other_wrong_calls_are_refused(pipe):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    with pytest.raises(ValueError, match="output_type"):
        pipe.segment(photo(), output_type="latent")
    with pytest.raises(ValueError, match="1 seeds or generators for 2 images"):
        pipe.synthesize(mask, num_images_per_mask=2, seeds=[1])
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"batch_size is at least 1, not {number}"):
            pipe.segment(photo(), batch_size=number)
        with pytest.raises(ValueError, match=f"num_images_per_mask is at least 1, not {number}"):
            pipe.synthesize(mask, num_images_per_mask=number)
    with pytest.raises(ValueError, match="not both"):
        pipe.synthesize(mask, seeds=[1], generator=torch.Generator())
    with pytest.raises(ValueError, match="could turn class"):
        pipe.synthesize(mask, perturbation=Perturbation(amplitude=1.9))


def test_a_corpus_s_values_are_read_by_its_class_map_and_numbers_as_numbers(pipe):
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[8:], numbers[20:], numbers[:3] = 1, 2, 255
    values = np.where(numbers == 255, 0, numbers + 1).astype(np.uint8)  # (1, 2, 3), 0 is no class
    made = [
        pipe.synthesize(mask, seeds=[1], output_type="np", masks_are=masks_are).images
        for mask, masks_are in ((numbers, None), (numbers, "classes"), (values, "corpus"),
                                (Image.fromarray(values), "corpus"),
                                (Image.fromarray(numbers), "classes"))
    ]  # fmt: skip
    assert all(np.array_equal(made[0], other) for other in made[1:])
    own = mask_output(torch.from_numpy(numbers), (HEIGHT, WIDTH), "pil", pipe.semflow.palette)
    again = pipe.synthesize(own, seeds=[1], output_type="np").images
    assert np.array_equal(again, made[0])  # its colours say that it has class numbers


def test_a_mask_that_could_be_both_is_refused_and_a_value_names_who_takes_it(pipe):
    either = np.full((HEIGHT, WIDTH), 1, np.uint8)  # road, or a corpus's sky
    with pytest.raises(ValueError, match=r"of class 1 if .* of class 0 if .*masks_are='corpus'"):
        pipe.synthesize(Image.fromarray(either))
    with pytest.raises(ValueError, match=r"values \[3\] .*; masks_are='corpus' takes it"):
        pipe.synthesize(either + 2)
    with pytest.raises(ValueError, match=r"values \[255\] .*; masks_are='classes' takes it"):
        pipe.synthesize(np.where(either == 1, 255, 0), masks_are="corpus")
    own = mask_output(torch.from_numpy(either), (HEIGHT, WIDTH), "pil", pipe.semflow.palette)
    with pytest.raises(ValueError, match="has the anchors' colours"):
        pipe.synthesize(own, masks_are="corpus")


def test_a_pipeline_survives_its_folder_and_its_parts_make_another(pipe, conditional, tmp_path):
    for number, one in enumerate([pipe, SemFlowPipeline.of(conditional)]):
        where = tmp_path / str(number)
        one.set_progress_bar_config(disable=True)
        one.save_pretrained(where)
        again = SemFlowPipeline.from_pretrained(str(where))
        again.set_progress_bar_config(disable=True)
        found = [p.segment(photo(), output_type="np").masks[0] for p in (one, again)]
        assert np.array_equal(*found)
        assert again.class_names == one.class_names
        assert dict(again.config) == dict(one.config) | {"_name_or_path": str(where)}
        kind = type(again.unet)  # the subfolders are diffusers' own
        assert kind.from_pretrained(where, subfolder="unet").config.in_channels in (4, 48)
        parts = SemFlowPipeline(
            **again.components,
            **again.parameters,
            null_prompt=again.semflow.velocity.null_prompt,
        )
        parts.set_progress_bar_config(disable=True)
        assert np.array_equal(parts.segment(photo(), output_type="np").masks[0], found[0])
    with pytest.raises(ValueError, match="no pickles"):
        pipe.save_pretrained(tmp_path / "2", safe_serialization=False)
    with pytest.raises(ValueError, match="variant"):
        pipe.save_pretrained(tmp_path / "2", variant="fp16")


def test_a_folder_of_before_the_networks_were_named_is_read(folder, tmp_path):
    old = tmp_path / "old"
    SemFlow.load(folder).save(old)
    index = json.loads((old / "model_index.json").read_text())
    assert index.pop("flow") == "semflow"
    assert index.pop("preconditioned") is False
    assert index.pop("unet") == ["diffusers", "UNet2DModel"]
    assert index.pop("autoencoder") == ["semflow.networks.autoencoder", "SpaceToDepth"]
    assert index.pop("weights").keys() == {"unet/diffusion_pytorch_model.safetensors"}
    assert set(index) == {"_class_name", "format", "defaults", "palette", "provenance"}
    (old / "model_index.json").write_text(json.dumps(index))
    (old / "README.md").unlink()
    pipe = SemFlowPipeline.from_pretrained(tmp_path, subfolder="old")
    assert pipe.class_names == ("sky", "road", "tree")


def test_a_hub_id_is_read_from_the_hubs_cache(folder, tmp_path):
    """The layout that huggingface_hub keeps downloads in; its own code finds it, off line."""
    commit = "0" * 40
    repository = tmp_path / "models--someone--scenes"
    SemFlow.load(folder).save(repository / "snapshots" / commit / "small")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    hub = {"cache_dir": tmp_path, "local_files_only": True, "subfolder": "small"}
    pipe = SemFlowPipeline.from_pretrained("someone/scenes", **hub)
    assert pipe.name_or_path == "someone/scenes"
    with pytest.raises(ValueError, match="neither a folder nor a hub id"):
        SemFlowPipeline.from_pretrained("someone/else", **hub)
    with pytest.raises(TypeError, match="device_map"):
        SemFlowPipeline.from_pretrained(folder, device_map="balanced")


def test_another_precision_and_other_networks_reach_the_model(folder, conditional):
    half = SemFlowPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    assert half.dtype == half.semflow.velocity.unet.conv_in.weight.dtype == torch.bfloat16
    assert half.segment(photo()).masks[0].size == (WIDTH, HEIGHT)
    pipe = SemFlowPipeline.of(conditional)
    pipe.unet, pipe.autoencoder = make_unet(), make_vae()
    assert pipe.semflow.velocity.unet is pipe.unet
    assert pipe.semflow.autoencoder.model is pipe.autoencoder


def test_offloading_hooks_the_networks_and_changes_nothing(pipe, conditional):
    """On a CPU only the mechanics can be seen: what is hooked, in which order, and the result."""
    pytest.importorskip("accelerate")
    model = SemFlowPipeline.of(conditional)
    model.set_progress_bar_config(disable=True)
    before = model.segment(photo(), output_type="np").masks[0]
    model.enable_model_cpu_offload(device="cpu")
    unet, autoencoder = model.unet._hf_hook, model.autoencoder._hf_hook
    assert model.semflow.device == unet.execution_device == torch.device("cpu:0")
    assert autoencoder.prev_module_hook.model is model.unet  # decoding sends the UNet away
    assert np.array_equal(model.segment(photo(), output_type="np").masks[0], before)
    assert model.unet._hf_hook is not unet  # the call ended with all of it offloaded again
    model.remove_all_hooks()
    pipe.enable_model_cpu_offload(device="cpu")
    assert not hasattr(pipe.autoencoder, "_hf_hook")  # nothing to offload
    assert pipe.segment(photo()).masks


def test_the_card_says_what_the_folder_knows(folder, conditional, tmp_path):
    card = (folder / "README.md").read_text()
    head, body = card.removeprefix("---\n").split("---\n", 1)
    assert "library_name: semflow" in head
    assert not [line for line in head.splitlines() if line.startswith("license")]
    for fact in ("3 classes at 48x32", "| 1 | road |", "UNet2DModel", "SpaceToDepth",
                 "euler, 1 step, each pixel by its nearest anchor.",
                 "heun, 2 steps", "step: 7", "no class are: 0, 9"):  # fmt: skip
        assert fact in body, fact
    conditional.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "The folder does not say." in card
    assert "AutoencoderKL" in card


def test_importing_semflow_leaves_diffusers_pipelines_alone():
    program = "import sys, semflow; print('diffusers' in sys.modules, 'PIL' in sys.modules)"
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True
    )
    assert found.stdout.split() == ["False", "False"]
    with pytest.raises(ImportError):
        exec("from semflow import SemFlowPipelin")
