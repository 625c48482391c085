import hashlib
import io
import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from semflow.metrics.inception import Inception, network_class
from semflow.metrics.weights import Unavailable, Weights


def of(file, **options):
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return Weights("a network", Path(file).as_uri(), digest, "--file", **options)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file of weights where its publisher has it, and an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    file = tmp_path / "network-0.pth"
    torch.save({"w": torch.arange(3.0)}, file)
    return file


def test_weights_are_fetched_only_when_asked_and_then_are_in_the_cache(published):
    weights = of(published)
    with pytest.raises(Unavailable, match="--file FILE"):
        weights.find()
    assert weights.find(download=True)["w"].tolist() == [0, 1, 2]
    published.unlink()
    assert weights.find()["w"].tolist() == [0, 1, 2]


def test_what_cannot_be_fetched_is_unavailable_and_another_file_is_refused(published, tmp_path):
    weights = of(published)
    wrong = Weights("a network", published.as_uri(), "0" * 64, "--file")
    with pytest.raises(Unavailable, match="could not be fetched"):
        wrong.find(download=True)
    assert not list((tmp_path / "home").rglob("*.pth"))
    other = tmp_path / "other.pth"
    torch.save({"w": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match="SHA-256"):
        weights.find(other)
    published.unlink()
    with pytest.raises(Unavailable, match="could not be fetched"):
        weights.find(download=True)


def test_a_file_of_the_cache_may_have_another_name(published, tmp_path):
    folder = tmp_path / "home/hub/checkpoints"
    folder.mkdir(parents=True)
    weights = of(published, also=("same.pth",))
    published.rename(folder / "same.pth")
    assert weights.find()["w"].tolist() == [0, 1, 2]


def test_code_in_a_file_of_weights_is_not_run(published):
    with published.open("wb") as file:
        pickle.dump({"w": Path("x")}, file, protocol=2)
    with pytest.raises(pickle.UnpicklingError):
        of(published).find(published)


def test_without_the_library_inception_is_unavailable(monkeypatch):
    monkeypatch.setattr("semflow.metrics.inception.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="torch-fidelity is not installed"):
        Inception({})


@pytest.mark.skipif(find_spec("torch_fidelity") is None, reason="torch-fidelity is not here")
def test_the_librarys_network_runs_from_a_state_dict_and_in_another_process(monkeypatch):
    kind = network_class()
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with monkeypatch.context() as patch:
        patch.setattr(kind, "load_state_dict", lambda self, state: None)
        state = kind("x", ["2048"], feature_extractor_weights_path=empty).state_dict()
    inception = Inception(state)
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    features = inception(images)
    assert features.shape == (2, 2048)
    assert torch.equal(pickle.loads(pickle.dumps(inception))(images), features)
    with pytest.raises(ValueError, match="uint8"):
        inception(images.float())
