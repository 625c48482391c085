"""Checkpoints of the released code, with a small UNet of its class and random weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from semflow import SemFlow, SemFlowPipeline, Solver, released
from tests.semflow import reference
from tests.semflow.test_reference import make_unet, make_vae

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The checkpoint in both forms, an autoencoder, a null prompt and class names."""
    torch.manual_seed(0)
    root, unet, prompt = tmp_path_factory.mktemp("released"), make_unet(), torch.randn(1, 5, 8)
    unet.save_pretrained(root / "bin" / "unet", safe_serialization=False)
    unet.save_pretrained(root / "safetensors", safe_serialization=True)
    make_vae().save_pretrained(root / "sd" / "vae")
    torch.save(prompt, root / "prompt.pt")
    save_file({"null_prompt": prompt}, root / "prompt.safetensors")
    (root / "classes.txt").write_text("\n".join(f"class {i}" for i in range(19)) + "\n")
    return root, unet, prompt


@pytest.mark.parametrize(
    ("checkpoint", "prompt_file"), [("bin", "prompt.pt"), ("safetensors", "prompt.safetensors")]
)
def test_a_released_checkpoint_becomes_a_model_that_does_the_same(
    parts, checkpoint, prompt_file, tmp_path
):
    root, unet, prompt = parts
    released.main(
        ["--checkpoint", f"{root}/{checkpoint}", "--autoencoder", f"{root}/sd",
         "--null-prompt", f"{root}/{prompt_file}", "--classes", f"{root}/classes.txt",
         "--height", "64", "--width", "96", "--output", str(tmp_path)]
    )  # fmt: skip
    model = SemFlow.load(tmp_path)
    assert model.palette.colours[:8:7] == ((0, 0, 0), (0, 50, 50))
    assert model.defaults.segment == model.defaults.synthesize == Solver(steps=25)
    assert (len(model.palette), model.palette.ignore_colour) == (19, (255, 255, 255))
    x = torch.randn(1, 4, 8, 12)
    expected, _ = reference.segment(unet, x, prompt, 25)
    with torch.inference_mode():
        found = model.flow(x, 0.0, 1.0, model.defaults.segment).x
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert "released code" in (tmp_path / "README.md").read_text()
    pipe = SemFlowPipeline.from_pretrained(tmp_path)
    mask = pipe.segment(torch.rand(3, 50, 70), num_inference_steps=1).masks[0]
    assert mask.size == (70, 50)


def test_both_forms_are_one_model(parts):
    root, _, _ = parts
    one, other = (released.load_unet(root / form) for form in ("bin", "safetensors"))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_embedding_is_the_text_encoders_of_a_local_stable_diffusion(parts, tmp_path):
    transformers = pytest.importorskip("transformers")
    from semflow.networks.velocity import null_prompt

    torch.manual_seed(0)
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    tokenizer = transformers.CLIPTokenizer(vocabulary, [], model_max_length=5)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=5, bos_token_id=0, eos_token_id=1,
        )
    ).eval()  # fmt: skip
    encoder.save_pretrained(tmp_path / "text_encoder")
    with torch.inference_mode():
        expected = encoder(torch.tensor([[0, 1, 1, 1, 1]]))[0]
    torch.testing.assert_close(null_prompt(str(tmp_path)), expected)


def test_weights_alone_are_taken_for_stable_diffusions_own_kind(parts, tmp_path, monkeypatch):
    _, unet, _ = parts
    torch.save({name: w.bfloat16() for name, w in unet.state_dict().items()}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="can be read"):  # a small one's do not fit
        released.load_unet(tmp_path / "w.pt")
    ends = ("in_channels", "out_channels")
    small = {k: v for k, v in unet.config.items() if k not in ends and not k.startswith("_")}
    monkeypatch.setattr(released, "SD15", small)
    loaded = released.load_unet(tmp_path / "w.pt")
    for a, b in zip(loaded.parameters(), unet.parameters(), strict=True):
        assert torch.equal(a, b.bfloat16().float())


def test_what_does_not_fit_is_refused(parts, tmp_path):
    root, unet, prompt = parts
    names = ["sky", "road"]
    with pytest.raises(ValueError, match=r"no config\.json"):
        released.load_unet(tmp_path)
    with pytest.raises(ValueError, match="48"):
        released.import_released(root / "bin", "space-to-depth", prompt, names)
    with pytest.raises(ValueError, match="another text encoder"):
        released.import_released(root / "bin", root / "sd", torch.zeros(1, 5, 7), names)
    save_file({"a": prompt, "b": prompt.clone()}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="one tensor"):
        released.read_null_prompt(tmp_path / "two.safetensors")
    state = unet.state_dict()
    unet.save_config(tmp_path / "cut")
    save_file(
        {key: value for key, value in state.items() if "conv_out" not in key},
        tmp_path / "cut" / "diffusion_pytorch_model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ValueError, match=r"conv_out.*\.\.\."):
        released.load_unet(tmp_path / "cut")


def test_a_pickle_that_would_run_code_is_not_run(tmp_path):
    class Wicked:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"weight": Wicked()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="plain tensors"):
        released.load_unet(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_the_command_says_what_is_missing_in_one_line(parts):
    root, _, _ = parts
    command = [sys.executable, "-m", "semflow.released", "--checkpoint", "nowhere", "--autoencoder",
               f"{root}/sd", "--null-prompt", f"{root}/prompt.pt", "--classes",
               f"{root}/classes.txt", "--output", f"{root}/out"]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.strip().startswith("error: nowhere has no config.json")
