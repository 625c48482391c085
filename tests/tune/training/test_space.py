import pytest

from pipelines.presets import TRAIN
from tune.training import space
from tune.training.space import Dimension

DIGITS = TRAIN["digits"][1]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lr=1e-4..1e-2:log", Dimension("lr", low=1e-4, high=1e-2, log=True)),
        ("lr=0.0001..0.01", Dimension("lr", low=1e-4, high=1e-2)),
        ("path.at_image=0..0.7", Dimension("path.at_image", low=0, high=0.7)),
        ("path.at-image=0..0.7", Dimension("path.at_image", low=0, high=0.7)),
        ("warmup_steps=10..200", Dimension("warmup_steps", low=10, high=200, whole=True)),
        ("velocity=tiny,small", Dimension("velocity", values=("tiny", "small"))),
        ("online_masks=true,false", Dimension("online_masks", values=(True, False))),
        ("batch_size=8,16", Dimension("batch_size", values=(8, 16))),
    ],
)
def test_a_dimension_is_read_with_its_type(word, expected):
    assert space.parse([word], DIGITS) == [expected]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lr"], "write KEY=LOW"),
        (["learning_rate=1..2"], "there is no 'learning_rate'"),
        (["lr=2..1"], "a range rises"),
        (["lr=0..1:log"], "above 0"),
        (["lr=a..b"], "two numbers"),
        (["velocity=tiny,huge"], "velocity cannot be 'huge'"),
        (["batch_size=0,8"], "batch_size cannot be 0"),
        (["ema_decay=a,b"], "ema_decay cannot be 'a'"),
        (["lr=1e-4,1e-3", "lr=1e-4..1e-3"], "twice"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_trial(words, message):
    with pytest.raises(ValueError, match=message):
        space.parse(words, DIGITS)


def test_draws_stay_in_their_domain_and_are_allowed():
    found = space.parse(
        ["lr=1e-4..1e-2:log", "warmup_steps=1..5", "schedule=linear,cosine"], DIGITS
    )
    for _ in range(50):
        values = {one.key: one.domain.sample() for one in found}
        cfg = space.changed(DIGITS, values)
        assert 1e-4 <= cfg.lr <= 1e-2
        assert 1 <= cfg.warmup_steps <= 5


def test_values_become_the_command_line_of_train():
    from pipelines import config
    from pipelines.training.config import TrainConfig

    values = {"lr": 0.00123, "path.at_image": 0.25, "online_masks": False, "velocity": "tiny"}
    flags = space.flags(values)
    assert flags == "--lr 0.00123 --path.at-image 0.25 --no-online-masks --velocity tiny"
    cfg = config.parse(TrainConfig, "", TRAIN, ["digits", *flags.split()])
    assert cfg == space.changed(DIGITS, values)
    assert space.current(cfg, space.parse(["lr=1e-4..1e-2"], cfg)) == {"lr": 0.00123}
