"""Two routers share the studies: each study has one, and another when that one is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_files import ct_series
from pydicom.uid import generate_uid
from routing_scene import CHEST, Scene

from node.ledger.engine import open_ledger
from node.membership import Membership, new_member
from node.routing.router import Router


class SharedScene(Scene):
    """Two routers, each a member of the fleet; ``examined``: the series that each has examined."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CHEST)
        self.engines = [self.node.engine, open_ledger(str(self.node.engine.url))]
        self.members = [Membership(engine, new_member("router")) for engine in self.engines]
        self.routers: list[Router] = []
        self.examined: list[list[str]] = [[], []]
        for member, engine, examined in zip(self.members, self.engines, self.examined, strict=True):
            member.begin()
            router = Router(self.config, engine, self.node.spool, self.node.jobs, member.is_responsible)
            examine = router._examiner.examine

            def noted(key, question, at, examine=examine, examined=examined):  # type: ignore[no-untyped-def]
                examined.append(key[1])
                return examine(key, question, at)

            router._examiner.examine = noted  # type: ignore[method-assign]
            self.routers.append(router)
        self.members[0].beat()  # sees the second one

    def receive_studies(self, number: int) -> list[str]:
        return [self.receive(ct_series(n=2, size=16, study=str(generate_uid()))) for _ in range(number)]

    def step(self) -> list[int]:
        self.at += 3600.0
        return [router.step(self.at) for router in self.routers]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SharedScene]:
    made = SharedScene(tmp_path)
    yield made
    for engine in made.engines:
        engine.dispose()


def test_each_study_has_one_of_two_routers_and_neither_examines_those_of_the_other(scene: SharedScene) -> None:
    series = scene.receive_studies(16)
    completed = scene.step()
    assert sum(completed) >= 16
    assert min(map(len, scene.examined)) > 0
    assert sorted(scene.examined[0] + scene.examined[1]) == sorted(series)
    assert set(scene.decided()) == set(series)
    assert len(scene.jobs()) == 16


def test_studies_of_a_router_that_leaves_or_drains_are_routed_by_the_other(scene: SharedScene) -> None:
    first, second = scene.members
    scene.receive_studies(8)
    second.leave()
    first.beat()
    assert all(first.is_responsible(str(number)) for number in range(100))
    scene.at += 3600.0
    scene.routers[0].step(scene.at)
    assert len(scene.decided()) == 8
    second.beat()  # it lives again
    first.beat()
    assert not all(first.is_responsible(str(number)) for number in range(100))
    second.drain()
    first.beat()
    assert all(first.is_responsible(str(number)) for number in range(100))
    assert not any(second.is_responsible(str(number)) for number in range(100))


def test_a_router_keeps_nothing_of_series_that_another_one_has_completed(scene: SharedScene) -> None:
    """It kept the headers' answers of every series of which another router was faster, for ever."""
    slow = Router(scene.config, scene.node.engine, scene.node.spool, scene.node.jobs)
    scene.receive_studies(4)
    slow.step(scene.at + 5.0)
    assert len(slow._examiner._answers) == 4
    scene.step()
    slow.step(scene.at)
    assert (slow._examiner._answers, slow._deferrals, slow._awaited) == ({}, {}, {})


def test_a_share_changes_only_for_the_member_that_leaves(scene: SharedScene) -> None:
    third = Membership(scene.node.engine, new_member("router"))
    third.beat()
    everyone = [*scene.members, third]
    for member in everyone:
        member.beat()
    keys = [f"1.2.{number}" for number in range(600)]
    owner = {key: [member.id for member in everyone if member.is_responsible(key)] for key in keys}
    assert all(len(of) == 1 for of in owner.values())
    shares = [sum(of == [member.id] for of in owner.values()) for member in everyone]
    assert min(shares) > 130
    third.drain()
    for member in scene.members:
        member.beat()
        assert all(member.is_responsible(key) for key, of in owner.items() if of == [member.id])
