"""Candidates for block placement that other plugins bring."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from mlproxy.events.types import ModelEvent
from mlproxy.learn import CandidateRecipe, DecisionSpec

__all__ = ("usable",)

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}\Z")


def usable(
    offered: Iterable[object], spec: DecisionSpec, taken: Collection[str], room: int
) -> tuple[Sequence[CandidateRecipe], Sequence[ModelEvent]]:
    """Tell the recipes that can compete from those that cannot.

    One that cannot takes nobody else with it.

    Args:
        offered: what plugins gave for this decision.
        spec: the decision.
        taken: names of candidates and twins that are there already.
        room: so many at most; each gets a twin.

    Returns:
        The recipes to use, and an event for each that is left out.
    """
    recipes: list[CandidateRecipe] = []
    left_out: list[ModelEvent] = []
    for offer in offered:
        why = _objection(offer, spec, {*taken, *(r.name for r in recipes)})
        if why is None and len(recipes) == room:
            why = f"there is room for {room} more candidates only"
        if why is None and isinstance(offer, CandidateRecipe):
            recipes.append(offer)
        else:
            name = str(getattr(offer, "name", type(offer).__name__))
            left_out.append(
                ModelEvent(proxy=spec.name, what="dropped", candidate=name, reason=why or "")
            )
    return recipes, left_out


def _objection(offer: object, spec: DecisionSpec, taken: Collection[str]) -> str | None:
    if not isinstance(offer, CandidateRecipe):
        return "not a mlproxy.learn.CandidateRecipe"
    if not isinstance(offer.name, str) or not _NAME.match(offer.name):
        return f"its name {offer.name!r} is not [a-z][a-z0-9_-]*, 31 characters"
    if offer.name in taken:
        return "there is one of that name already"
    try:
        predicts = offer.make(spec, 1).predicts
    except Exception as error:  # noqa: BLE001 - whatever a factory raises, the others go on
        return f"cannot be made: {type(error).__name__}: {error}"
    # What predicts nothing chooses among policies, each of which would need a twin of its own.
    return None if predicts else "predicts no labels"
