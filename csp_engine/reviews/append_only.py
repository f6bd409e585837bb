"""Triggers by which the database itself refuses to change or remove an entry."""

from __future__ import annotations

import sqlalchemy as sa

_SAYS = "verdicts are only added, never changed or removed"
# An entry that REPLACE would remove without a trigger for it is refused before that.
_SQLITE_ADDED = f"""
CREATE TRIGGER review_only_added BEFORE INSERT ON review
WHEN NEW.number IS NOT (SELECT coalesce(max(number), 0) + 1 FROM review)
  OR length(NEW.chain) <> 64
  OR EXISTS (
    SELECT 1 FROM review WHERE model = NEW.model AND layer = NEW.layer AND unit = NEW.unit
    AND reviewer = NEW.reviewer AND revision = NEW.revision
  )
BEGIN SELECT RAISE(ABORT, '{_SAYS}'); END
"""
_POSTGRESQL_BODY = f"\nBEGIN RAISE EXCEPTION '{_SAYS}'; END "
_POSTGRESQL_FUNCTION = f"""
CREATE OR REPLACE FUNCTION review_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$\
{_POSTGRESQL_BODY}$$
"""
_POSTGRESQL_TYPES = {
    "review_never_changed": 1 + 2 + 8 + 16,  # for each row, before, delete, update
    "review_never_truncated": 2 + 32,  # before, truncate
}
"""``tgtype`` of each trigger, see pg_trigger.h."""


def triggers(dialect: str) -> dict[str, str]:
    """The statements that make the triggers of a database, by name; none where it is another."""
    if dialect == "sqlite":
        never = f"BEGIN SELECT RAISE(ABORT, '{_SAYS}'); END"
        return {
            f"review_never_{verb.lower()}": (
                f"CREATE TRIGGER review_never_{verb.lower()} BEFORE {verb} ON review {never}"
            )
            for verb in ("UPDATE", "DELETE")
        } | {"review_only_added": _SQLITE_ADDED.strip()}
    if dialect == "postgresql":
        calls = "EXECUTE FUNCTION review_only_grows()"
        return {
            "": _POSTGRESQL_FUNCTION.strip(),
            "review_never_changed": (
                "CREATE TRIGGER review_never_changed BEFORE UPDATE OR DELETE ON review "
                f"FOR EACH ROW {calls}"
            ),
            "review_never_truncated": (
                "CREATE TRIGGER review_never_truncated BEFORE TRUNCATE ON review "
                f"FOR EACH STATEMENT {calls}"
            ),
        }
    return {}


def strange_triggers(connection: sa.Connection) -> list[str]:
    """Triggers of entries that are not ours: they can keep new entries out, or change what is.

    Rules of PostgreSQL, which stand in for a statement, can do the same.
    """
    queries = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'review'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass('review') "
        "AND NOT tgisinternal UNION SELECT rulename FROM pg_rewrite "
        "WHERE ev_class = to_regclass('review')",
    }
    dialect = connection.dialect.name
    if dialect not in queries:
        return []
    found = connection.execute(sa.text(queries[dialect])).scalars().all()
    return sorted(set(found) - set(triggers(dialect)))


def missing_triggers(connection: sa.Connection) -> list[str]:
    """Triggers that somebody took away, switched off or replaced."""
    wanted = triggers(connection.dialect.name)
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        found = dict(connection.execute(sa.text(query)).tuples().all())
        return [name for name, statement in wanted.items() if found.get(name) != statement]
    if connection.dialect.name == "postgresql":
        query = (
            "SELECT t.tgname, CASE WHEN t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL "
            "AND t.tgattr::text = '' AND p.prosrc = :body THEN t.tgtype END "
            "FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE t.tgrelid = to_regclass('review')"
        )
        asked = sa.text(query).bindparams(body=_POSTGRESQL_BODY)
        found = dict(connection.execute(asked).tuples().all())
        return [name for name, kind in _POSTGRESQL_TYPES.items() if found.get(name) != kind]
    return []
