"""The probe set: which images there are, and each of them as upright RGB."""

from csp_engine.probe.listing import (
    RESERVED,
    ROLE_COLUMNS,
    TABLE_EXTENSIONS,
    ProbeSet,
    choose_columns,
    image_files,
    read_probe_set,
    read_table,
    walk_images,
)

__all__ = [
    "RESERVED",
    "ROLE_COLUMNS",
    "TABLE_EXTENSIONS",
    "ProbeSet",
    "choose_columns",
    "image_files",
    "read_probe_set",
    "read_table",
    "walk_images",
]
