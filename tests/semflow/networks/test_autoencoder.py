import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from semflow import load_autoencoder, make_palette
from semflow.networks.autoencoder import DiffusersAutoencoder

SHAPE = (2, 3, 32, 48)


def small_kl(**options):
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        **options,
    )


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_space_to_depth_is_lossless(factor):
    autoencoder, pixels = load_autoencoder(f"space-to-depth:{factor}"), torch.rand(SHAPE) * 2 - 1
    posterior = autoencoder.encode(pixels)
    assert posterior.std is None
    assert posterior.mean.shape[1:] == autoencoder.latent_size(32, 48)
    assert torch.equal(autoencoder.decode(posterior.mean), pixels)


def test_masks_survive_the_lossless_autoencoder_exactly():
    palette, autoencoder = make_palette("grid", 171), load_autoencoder("space-to-depth")
    ids = torch.randint(0, 171, (1, 32, 32))
    latents = autoencoder.encode(palette.encode(ids)).mean.half().float()  # as shards store them
    assert torch.equal(palette.decode(autoencoder.decode(latents)).ids, ids)


def test_a_kl_autoencoder_is_scaled_and_shifted_by_its_own_configuration(tmp_path):
    model = small_kl(scaling_factor=0.5, shift_factor=0.1)
    model.save_pretrained(tmp_path)
    autoencoder, pixels = load_autoencoder(tmp_path), torch.rand(SHAPE) * 2 - 1
    assert autoencoder.stochastic
    assert autoencoder.latent_size(32, 48) == (4, 16, 24)
    with torch.inference_mode():
        expected = model.encode(pixels).latent_dist
        posterior = autoencoder.encode(pixels)
        torch.testing.assert_close(posterior.mean, (expected.mean - 0.1) * 0.5)
        torch.testing.assert_close(posterior.std, expected.std * 0.5)
        back = autoencoder.decode(posterior.mean)
        torch.testing.assert_close(back, model.decode(expected.mean).sample)


def test_a_posterior_sample_has_the_posteriors_moments():
    posterior = DiffusersAutoencoder(small_kl()).encode(torch.zeros(1, 3, 8, 8))
    draws = torch.stack([posterior.sample(torch.randn_like(posterior.mean)) for _ in range(4000)])
    torch.testing.assert_close(draws.mean(0), posterior.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(draws.std(0), posterior.std, rtol=0.1, atol=0)


def test_a_tiny_autoencoder_is_deterministic_and_survives_saving(tmp_path):
    torch.manual_seed(0)
    model = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    )  # fmt: skip
    autoencoder = DiffusersAutoencoder(model)
    assert not autoencoder.stochastic
    autoencoder.save(tmp_path)
    again = load_autoencoder(tmp_path)
    assert again.identity() == autoencoder.identity()
    pixels = torch.rand(SHAPE)
    with torch.inference_mode():
        assert torch.equal(again.encode(pixels).mean, autoencoder.encode(pixels).mean)


def test_the_identity_tells_weights_apart():
    one, other = small_kl(), small_kl()
    assert DiffusersAutoencoder(one).identity() == DiffusersAutoencoder(other).identity()
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1
    assert DiffusersAutoencoder(one).identity() != DiffusersAutoencoder(other).identity()


def test_what_cannot_be_loaded_says_what_was_tried(tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        load_autoencoder(tmp_path)
    with pytest.raises(ValueError, match="do not divide"):
        load_autoencoder("space-to-depth:4").latent_size(30, 32)


def test_the_real_8x_autoencoder_reconstructs_a_photo(taef2, camvid):
    import numpy as np
    from PIL import Image

    autoencoder = load_autoencoder(taef2)
    photo = next(iter(sorted((camvid / "images" / "val").glob("*.jpg"))))
    array = np.array(Image.open(photo).resize((256, 192)))
    pixels = torch.from_numpy(array).movedim(-1, 0)[None].float() / 127.5 - 1
    with torch.inference_mode():
        latents = autoencoder.encode(pixels).mean
        back = autoencoder.decode(latents)
    assert latents.shape == (1, 32, 24, 32)
    assert 10 * torch.log10(4 / (back - pixels).square().mean()) > 24  # its README: 24 to 32 dB
