"""The made clients count what boto3's would."""

from __future__ import annotations

from tests.bench.organisation import HOME, Shape
from tests.bench.sweep import sweeps, sweeps_in_moto


def test_made_clients_are_called_as_often_as_real_ones() -> None:
    """The same organisation in moto takes the same boto3 calls, operation by operation."""
    shape = Shape(accounts=2, regions=(HOME,), vpcs=4, instances=6, sharing=False)

    made = sweeps(shape, "remediate", ["new", "new"], traced=False)
    real = sweeps_in_moto(shape, "remediate", 2)

    assert [cost.calls for cost in made] == [cost.calls for cost in real]
    assert [cost.survey_calls for cost in made] == [cost.survey_calls for cost in real]
