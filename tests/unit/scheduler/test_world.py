"""What one scheduler remembers of what it sees."""

from caravan.contracts.instances import Spec
from services.scheduler.core.cluster import ENDED, Observed
from services.scheduler.core.rows import Named
from services.scheduler.core.world import World

ROW = Named(
    spec=Spec(
        tenant="u-8105f7322477",
        name="test",
        instance="i-aaaaaa",
        generation=1,
        task="text-generation",
        source="file:///m",
    )
)


def test_an_instance_that_went_with_its_row_is_not_seen_as_unclaimed_until_the_next_look():
    world = World({}, 0.0)
    world.cluster_said([Observed(ref=ROW.ref, state=ENDED)])
    world.forget(ROW)

    assert world.observed == {}
