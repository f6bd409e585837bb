"""Finding neurons by words, by an image or by another neuron, and matching them."""

from csp_engine.search.index import (
    BuiltIndex,
    NearestRows,
    allowed_rows,
    build_index,
    is_coded,
    open_index,
    rank,
    rank_like,
    row_of,
)
from csp_engine.search.null import (
    NullLevel,
    null_vectors,
    remainders,
)
from csp_engine.search.query import (
    bundle_encoder,
    combine,
    encoder_description,
    image_query_vector,
    prompts,
    query_vector,
    require_same_encoder,
    require_same_space,
    stored_label,
    text_recipe,
)

__all__ = [
    "BuiltIndex",
    "NearestRows",
    "NullLevel",
    "allowed_rows",
    "build_index",
    "bundle_encoder",
    "combine",
    "encoder_description",
    "image_query_vector",
    "is_coded",
    "null_vectors",
    "open_index",
    "prompts",
    "query_vector",
    "rank",
    "rank_like",
    "remainders",
    "require_same_encoder",
    "require_same_space",
    "row_of",
    "stored_label",
    "text_recipe",
]
