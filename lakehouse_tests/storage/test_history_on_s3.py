"""What a lake had at an instant, and what was restated in it: in a folder and in a bucket."""

import pytest

from lakehouse.storage.objects import LakeObjects
from lakehouse_tests.making import BTC, MINUTE
from lakehouse_tests.query.test_history import LIFE, START, Living


@pytest.mark.slow
def test_the_history_of_a_lake_can_be_told_wherever_it_lies(objects: LakeObjects) -> None:
    living = Living(objects)
    for number, (source, variants) in enumerate(LIFE):
        living.learn(number, source, variants)
    living.hold()
    assert living.lake.restatements(BTC)["open_time"].to_list() == [START, START + 2 * MINUTE]
