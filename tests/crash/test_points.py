"""The list of points is the code's own."""

from collections import Counter

from .cases import STORIES_AT
from .places import CROSSINGS, places
from .points import ELSEWHERE, POINTS
from .stories import STORIES


def test_every_commit_and_every_call_of_daraja_is_a_point() -> None:
    found = [place.point for place in places() if not place.is_for_others]
    known = [*POINTS, *ELSEWHERE]
    new, gone = Counter(found) - Counter(known), Counter(known) - Counter(found)
    assert not new, (
        f"new: on the way of a payment, name them in points.POINTS and in cases.STORIES_AT; else in ELSEWHERE: {[*new]}"
    )
    assert not gone, f"gone from the code: take them out of points.POINTS and cases.STORIES_AT: {[*gone]}"


def test_every_crossing_that_commits_is_looked_for_at_its_callers() -> None:
    assert {
        place.function for place in places() if place.file.endswith(("crossings.py", "callback_log.py"))
    } == CROSSINGS


def test_a_process_dies_at_every_point_and_in_every_story() -> None:
    without, gone = {*POINTS} - {*STORIES_AT}, {*STORIES_AT} - {*POINTS}
    assert not without, f"no process dies there: name in cases.STORIES_AT a story that reaches them: {without}"
    assert not gone, f"no points any more: take them out of cases.STORIES_AT: {gone}"
    assert {story for stories in STORIES_AT.values() for story in stories} == {*STORIES}
