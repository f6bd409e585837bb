"""Which labels are kinds of which: a poodle is a dog, a dog is an animal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from csp_engine.errors import InputError


def require_parents(spelling: Mapping[str, str], links: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse links to nothing, and labels that are kinds of themselves.

    Args:
        spelling: how each label is written, by what counts as one.
        links: for each label the parents that it names, and where it names them.

    Raises:
        InputError: naming the place.
    """
    for key, parents in links.items():
        for parent, place in parents.items():
            if parent not in spelling:
                raise InputError(
                    f"{place} says that {spelling[key]!r} is a kind of {parent!r}, which is no "
                    "label; add it to the vocabulary, or leave it out of 'parents'."
                )
    done: set[str] = set()
    for start in links:
        todo, path = [(start, iter(links[start].items()))], {start}
        while todo:
            key, rest = todo[-1]
            parent, place = next(rest, (None, ""))
            if parent is None:
                todo.pop()
                path.discard(key)
                done.add(key)
            elif parent in path:
                raise InputError(
                    f"{place} makes {spelling[parent]!r} a kind of itself; leave one of the "
                    "'parents' in between out."
                )
            elif parent not in done:
                path.add(parent)
                todo.append((parent, iter(links.get(parent, {}).items())))


def kinds_of(texts: Sequence[str], parents: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """For each label with kinds, all that are below it, nearest or not, in rising order.

    Args:
        texts: the labels.
        parents: for each the labels that it is a kind of, joined by ';'; what is no label is left
            out.
    """
    place = {text: t for t, text in reversed(list(enumerate(texts)))}
    right_below: dict[int, set[int]] = {}
    for t, named in enumerate(parents):
        for parent in named.split(";"):
            if parent in place:
                right_below.setdefault(place[parent], set()).add(t)
    found = {}
    for t, children in right_below.items():
        below: set[int] = set()
        todo = list(children)
        while todo:
            child = todo.pop()
            if child not in below:
                below.add(child)
                todo.extend(right_below.get(child, ()))
        if below - {t}:
            found[t] = tuple(sorted(below - {t}))
    return found


def levels_of(texts: Sequence[str], parents: Sequence[str]) -> dict[int, int]:
    """How far below the top each label stands that is a kind of another, or has kinds.

    That is the number of links on the shortest way up to a label that is a kind of nothing; such
    a label has level 0. Labels without links have no level.

    Args:
        texts: the labels.
        parents: as of ``kinds_of``.
    """
    place = {text: t for t, text in reversed(list(enumerate(texts)))}
    above = [[place[named] for named in each.split(";") if named in place] for each in parents]
    below: dict[int, list[int]] = {}
    for t, broader in enumerate(above):
        for parent in broader:
            below.setdefault(parent, []).append(t)
    level, found = [t for t in below if not above[t]], {}
    depth = 0
    while level:
        found |= dict.fromkeys(level, depth)
        level = sorted({t for parent in level for t in below.get(parent, ())} - found.keys())
        depth += 1
    return found
