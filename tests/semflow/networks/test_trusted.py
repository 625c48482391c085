"""A model's folder from anywhere: hostile or damaged, it is a sentence, and nothing of it runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from semflow import SemFlow, load_autoencoder, make_palette, make_velocity
from semflow.networks.velocity import Velocity
from semflow.sampler import Defaults

UNET = "unet/config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    SemFlow(
        make_velocity("tiny", 48), load_autoencoder("space-to-depth"), make_palette("grid", 3),
        Defaults(height=32, width=48),
    ).save(folder)  # fmt: skip
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def changed(folder: Path, file: str, *keys: object, value: object) -> None:
    """Set one value deep in a JSON file."""
    data = inner = json.loads((folder / file).read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (folder / file).write_text(json.dumps(data))


def test_what_was_saved_is_loaded(saved):
    assert SemFlow.load(saved).defaults == Defaults(height=32, width=48)


def test_a_class_is_never_looked_up_by_a_name_that_is_not_listed(folder, tmp_path):
    """As reports of loaders have it: a pipeline whose part is a file of code beside it."""
    ran = tmp_path / "ran"
    (folder / "unet/evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass UNet2DModel: pass\n")
    (folder / "unet/model_index.json").write_text(
        json.dumps({"_class_name": "DiffusionPipeline", "unet": ["evil", "UNet2DModel"]})
    )
    for name in (
        "DiffusionPipeline",
        "AutoModel",
        "AutoencoderKL",
        "evil.UNet2DModel",
        "",
        None,
        7,
    ):
        changed(folder, UNET, "_class_name", value=name)
        with pytest.raises(
            ValueError, match=r"names the class .*UNet2DModel, UNet2DConditionModel"
        ):
            SemFlow.load(folder)
        with pytest.raises(ValueError, match="names the class"):
            Velocity.load(folder, weights=False)
    for name in ("DiffusionPipeline", "AutoPipelineForText2Image", "UNet2DModel"):
        changed(folder, "autoencoder/config.json", "_class_name", value=name)
        with pytest.raises(ValueError, match=r"names the class .*AutoencoderKL"):
            load_autoencoder(folder / "autoencoder")
    assert not ran.exists()


@pytest.mark.parametrize("part", ["pytorch_model.bin", "../../other.safetensors", "/etc/passwd", 3])
def test_an_index_names_safetensors_beside_it_and_nothing_else(folder, part):
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": part}}))
    with pytest.raises(ValueError, match="as a part of the weights"):
        SemFlow.load(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("layers_per_block",), 10**9),
        (("block_out_channels",), [10**9, 10**9, 10**9]),
        (("block_out_channels",), [48] * 5000),
        (("block_out_channels",), "wide"),
        (("norm_num_groups",), 7),
        (("down_block_types",), ["DownBlock2D", "NoSuchBlock", "DownBlock2D"]),
        (("act_fn",), "os.system"),
        (("in_channels",), 47),
        (("in_channels",), None),
    ],
)
def test_a_configuration_that_no_network_has_is_a_sentence(folder, keys, value):
    changed(folder, UNET, *keys, value=value)
    with pytest.raises(ValueError, match=r"unet"):
        SemFlow.load(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("defaults", "height"), 10**9),
        (("defaults", "height"), "32"),
        (("defaults", "segment", "steps"), 10**9),
        (("defaults", "segment"), None),
        (("defaults", "perturbation", "amplitude"), 1e9),
        (("palette",), []),
        (("palette", "names"), ["a"]),
        (("palette", "colours"), [[0, 0], [1], [2, 2, 2]]),
        (("provenance",), None),
        (("flow",), "__class__"),
        (("flow",), ["semflow"]),
        (("weights",), "none"),
        (("format",), 2),
    ],
)
def test_an_index_that_was_changed_is_a_sentence(folder, keys, value):
    changed(folder, "model_index.json", *keys, value=value)
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        SemFlow.load(folder)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"_class_name": "UNet2DMo', "[" * 200_000, '{"a":' * 90_000, "\x00\xff"]
)
@pytest.mark.parametrize("file", ["model_index.json", UNET, "autoencoder/config.json"])
def test_json_that_is_none_names_its_file(folder, file, text):
    (folder / file).write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=file.rpartition("/")[2]):
        SemFlow.load(folder)


def test_an_autoencoder_of_any_factor_is_not_made(folder):
    for factor in (0, -1, 10**9, "4", None):
        changed(folder, "autoencoder/config.json", "factor", value=factor)
        with pytest.raises(ValueError, match="a factor lies in"):
            SemFlow.load(folder)


def test_weights_that_are_not_those_that_were_saved(folder):
    file = folder / WEIGHTS
    data = bytearray(file.read_bytes())
    data[-100] ^= 64
    file.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"unet/diffusion_pytorch_model.safetensors is not the file"
    ):
        SemFlow.load(folder)
    changed(folder, "model_index.json", "weights", value=None)  # of an earlier version: not known
    SemFlow.load(folder)
    for kept in (len(data) // 2, 8, 0):
        file.write_bytes(data[:kept])
        with pytest.raises(ValueError, match="damaged"):
            SemFlow.load(folder)
    file.unlink()
    with pytest.raises(ValueError, match="only safetensors are read"):
        SemFlow.load(folder)
