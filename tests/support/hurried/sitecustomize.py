"""Lets what packs, releases and deletes look every two seconds, where this folder is on the path of Python."""

import node.actor

_HURRIED = ("packing", "local copies", "deletion of packs")
_look_every = node.actor.look_every


def _look_soon(seconds, stop, name, look, **named):  # type: ignore[no-untyped-def]
    _look_every(2.0 if name in _HURRIED else seconds, stop, name, look, **named)


node.actor.look_every = _look_soon
