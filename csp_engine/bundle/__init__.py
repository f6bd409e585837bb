"""Bundles, the product's file format: only this package reads or writes them (docs/bundle.md)."""

from csp_engine.bundle.kept_scores import KeptScores
from csp_engine.bundle.manifest import (
    SCHEMA,
    FileRecord,
    Manifest,
    StageRecord,
    stage_key,
)
from csp_engine.bundle.passing.journal import PassJournal
from csp_engine.bundle.passing.parts import (
    Part,
    aside,
    discard,
    parts_folder,
    parts_in,
    remove_parts,
    seal,
    shards_in,
)
from csp_engine.bundle.passing.sparse import sparse_rows, write_activations
from csp_engine.bundle.reader import (
    Bundle,
    Projection,
    Samples,
    StoredAssociation,
    StoredCircuit,
    StoredColumns,
    StoredCurves,
    StoredFactors,
    StoredFix,
    StoredInfluence,
    StoredIntervention,
    StoredMapChecks,
    StoredTruth,
    read_contrast,
)
from csp_engine.bundle.slim import copy_slim
from csp_engine.bundle.verifying.whole import verify
from csp_engine.bundle.writer import (
    ENGINE_VERSION,
    BundleWriter,
    StageFolder,
    is_being_written,
    refuse_strangers,
    translated_os_errors,
)

__all__ = [
    "ENGINE_VERSION",
    "SCHEMA",
    "Bundle",
    "BundleWriter",
    "FileRecord",
    "KeptScores",
    "Manifest",
    "Part",
    "PassJournal",
    "Projection",
    "Samples",
    "StageFolder",
    "StageRecord",
    "StoredAssociation",
    "StoredCircuit",
    "StoredColumns",
    "StoredCurves",
    "StoredFactors",
    "StoredFix",
    "StoredInfluence",
    "StoredIntervention",
    "StoredMapChecks",
    "StoredTruth",
    "aside",
    "copy_slim",
    "discard",
    "is_being_written",
    "parts_folder",
    "parts_in",
    "read_contrast",
    "refuse_strangers",
    "remove_parts",
    "seal",
    "shards_in",
    "sparse_rows",
    "stage_key",
    "translated_os_errors",
    "verify",
    "write_activations",
]
