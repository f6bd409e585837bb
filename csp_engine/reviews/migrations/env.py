"""Runs migrations on the connection that ``csp_engine.reviews.database`` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
