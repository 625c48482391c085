"""Training over several nodes, of which one is killed and another one comes."""

from tests.benchmarks.elastic import disturbed_and_not

STEPS = 200


def test_a_lost_node_shrinks_the_training_and_a_new_one_lets_it_grow(latents, tmp_path):
    found = disturbed_and_not(str(latents), tmp_path, STEPS)
    assert [workers for _, workers in found.resumed] == [1, 2]
    assert found.elastic.keys() == set(range(1, STEPS + 1))
    assert found.apart < 1e-3  # other rows would give another loss altogether
