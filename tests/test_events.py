"""events.py: what promotions and rollbacks add up to, and a chain that shows every change of what was written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.problems import BadInput
from recdistill.promotion.events import MOST_CHARACTERS, Event, chained, read_chain, standing


def event(action="promote", version=1, **about):
    given = {"replaced": None, "at": 0.0, "who": "ann", "why": "better", "key": f"{action}-{version}", **about}
    return Event(action=action, version=version, **given)


def chain(events):
    entries = []
    for one in events:
        entries.append(chained(one, entries))
    return entries


@given(st.lists(st.tuples(st.sampled_from(["promote", "challenger", "shadow"]), st.integers(1, 4)), max_size=12))
def test_the_champion_is_the_last_one_promoted_and_no_version_is_in_two_stages(made):
    found = standing([event(action, version) for action, version in made])
    promoted = [version for action, version in made if action == "promote"]
    assert found.champion == (promoted[-1] if promoted else None)
    assert found.challenger is None or found.challenger != found.shadow
    last = {version: action for action, version in made}
    assert found.challenger in (None, *(v for v, action in last.items() if action == "challenger"))
    assert found.shadow in (None, *(v for v, action in last.items() if action == "shadow"))


def test_rollbacks_walk_back_and_a_new_promotion_goes_on_from_there():
    walked = [event(version=1), event(version=2), event(version=3), event("rollback", 2), event("rollback", 1)]
    assert [standing(walked[:n]).champions for n in range(6)] == [(), (1,), (1, 2), (1, 2, 3), (1, 2), (1,)]
    assert standing([*walked, event(version=4)]).previous == 1


@given(st.integers(0, 4), st.integers(0, 10_000), st.characters(codec="ascii"))
def test_a_changed_character_of_any_entry_is_found(place, where, character):
    events = [event(version=n, why="\u4e2d é", at=n / 7) for n in range(1, 7)]
    entries = chain(events)
    assert read_chain("log", entries) == events
    text = entries[place]
    changed = text[: where % len(text)] + character + text[where % len(text) + 1 :]
    if changed != text:
        with pytest.raises(BadInput, match=f"log: entry {place + 1}|log: entry {place + 2}: wanted the sha256"):
            read_chain("log", [*entries[:place], changed, *entries[place + 1 :]])


def test_an_entry_that_is_gone_added_or_moved_is_found_and_all_are_named():
    entries = chain([event(version=n) for n in range(1, 5)])
    for wrong in (entries[1:], [entries[0], *entries[2:]], [entries[1], entries[0]], [*entries, entries[-1]]):
        with pytest.raises(BadInput):
            read_chain("log", wrong)
    with pytest.raises(BadInput) as caught:
        read_chain("log", [entries[0], json.dumps({"number": 2}), entries[2], "x"])
    assert [line.split(":")[1] for line in caught.value.problems] == [" entry 2", " entry 3", " entry 4"]


def test_an_entry_that_mlflow_would_cut_off_is_refused():
    fits = chained(event(why=""), [])
    room = MOST_CHARACTERS - len(fits)
    assert len(chained(event(why="x" * room), [])) == MOST_CHARACTERS
    with pytest.raises(BadInput, match="wanted at most 6000 characters"):
        chained(event(why="x" * (room + 1)), [])
