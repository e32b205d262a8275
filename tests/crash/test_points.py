"""The list of points is the code's own."""

from .cases import STORIES_AT
from .places import CROSSINGS, places
from .points import ELSEWHERE, POINTS
from .stories import STORIES


def test_every_commit_and_every_call_of_daraja_is_a_point() -> None:
    found = [place.point for place in places() if not place.is_for_others]
    assert sorted(found) == sorted([*POINTS, *ELSEWHERE])


def test_every_crossing_that_commits_is_looked_for_at_its_callers() -> None:
    assert {
        place.function for place in places() if place.file.endswith(("crossings.py", "callback_log.py"))
    } == CROSSINGS


def test_a_process_dies_at_every_point_and_in_every_story() -> None:
    assert sorted(STORIES_AT) == sorted(POINTS)
    assert {story for stories in STORIES_AT.values() for story in stories} == {*STORIES}
