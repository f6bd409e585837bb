"""The kinds of stages a bundle may hold: one row each, and nowhere else.

What a stage is called, which version its algorithm has, what it is made from and what files it
holds is said here; reader, pipeline, pages and docs/bundle.md go by it. A stage of an extension
brings its own row (``csp_engine.pipeline.stages``).
"""

from __future__ import annotations

from csp_engine.bundle.stage_kind import StageFile, StageKind, stage_kind

__all__ = ["KINDS", "StageFile", "StageKind", "stage_kind"]

# fmt: off
IMAGES = StageKind(
    "images",
    "Which images could be read, and their thumbnails.",
    is_measured=True,
    files=(
        StageFile("images.parquet", "table", "n", "`sha256`, `listed` (place in the listing), "
                  "`width`, `height` in pixels after EXIF rotation, `perceptual_hash`, "
                  "`duplicate_of` (lowest image with the same bytes), `duplicate_group` (lowest "
                  "image that is a near copy)"),
        StageFile("skipped.parquet", "table", "", "`listed` and `reason` of images that cannot be "
                  "read"),
        StageFile("thumb_offset.npy", "int64", "n+1", "image `i` is bytes `offset[i]` to "
                  "`offset[i+1]` of `thumbs.bin`"),
        StageFile("thumbs.bin", "bytes", "", "WebP thumbnails, one after the other"),
    ),
    facts=("n_images", "n_skipped", "n_exact_duplicates", "n_near_duplicates"),
)

EMBEDDINGS = StageKind(
    "embeddings",
    "What the encoder makes of every image.",
    needs=("images",),
    is_measured=True,
    files=(
        StageFile("image.npy", "float32", "n d", "unit rows of the encoder"),
    ),
)

ACTIVATIONS = StageKind(
    "activations",
    "The activation of every unit of a layer on every image.",
    of=("model", "layer"),
    needs=("images",),
    is_measured=True,
    is_left_out=True,
    files=(
        StageFile("activation.npy", "float32", "u n", "pooled activation of every unit on every "
                  "image", is_optional=True),
        StageFile("nonzero_start.npy", "int64", "u+1", "instead of it, for latents of an "
                  "autoencoder of which at most a quarter is not zero: unit `u` is "
                  "`nonzero_start[u]` to `nonzero_start[u+1]` of the other two", is_optional=True),
        StageFile("nonzero_image.npy", "int32", "m", "images on which a unit is not zero, "
                  "ascending", is_optional=True),
        StageFile("nonzero_value.npy", "float32", "m", "its activations there", is_optional=True),
    ),
    facts=("n_units",),
)

PROBE = StageKind(
    "probe",
    "What the user's table or folders say about the images.",
    needs=("images",),
    is_measured=True,
    files=(
        StageFile("probe.parquet", "table", "n", "`file`, `sha256`, then `class`, `split`, `group` "
                  "where known, then the user's other columns"),
        StageFile("skipped.parquet", "table", "", "`file` and `reason`"),
        StageFile("classes.parquet", "table", "", "`name` and `n_images` of every class; empty "
                  "without classes"),
    ),
)

WORDS = StageKind(
    "words",
    "The labels before candidates join them.",
    files=(
        StageFile("words.parquet", "table", "", "`text` and `source` of the labels before "
                  "candidates join them, and `parents` where there are any"),
    ),
)

NULL = StageKind(
    "null",
    "Random image sets, which scores are judged against.",
    needs=("embeddings", "images", "probe"),
    files=(
        StageFile("exemplar_image.npy", "int32", "r k", "random image sets"),
        StageFile("exemplar_activation.npy", "float32", "r k", "the noise that ranked them"),
        StageFile("exemplar_count.npy", "int32", "r", "as for neurons"),
        StageFile("contrast_image.npy", "int32", "r k j", "as for contrast"),
        StageFile("contrast_similarity.npy", "float32", "r k j", "as for contrast"),
        StageFile("contrast_activation.npy", "float32", "r k j", "as for contrast"),
        StageFile("n_partner.npy", "int32", "r k", "as for contrast"),
        StageFile("pool.npy", "int32", "r", "as for contrast"),
        StageFile("threshold.npy", "float32", "r", "as for contrast"),
    ),
)

NEURONS = StageKind(
    "neurons",
    "Statistics, strongest images and samples of every unit of a layer.",
    of=("model", "layer"),
    needs=("activations", "probe"),
    files=(
        StageFile("units.parquet", "table", "u", "`mean`, `std`, `min`, `max`, `density` (share of "
                  "images above 1e-6), `is_dead` (never beyond ±1e-6), `is_dense`, `is_constant`, "
                  "`never_positive`, `n_exemplars`"),
        StageFile("exemplar_image.npy", "int32", "u k", "strongest images, strongest first, ties "
                  "to the lower id"),
        StageFile("exemplar_activation.npy", "float32", "u k", "their activations"),
        StageFile("exemplar_count.npy", "int32", "u", "how many ranks mean anything; 0 for a "
                  "constant unit"),
        StageFile("stratified_image.npy", "int32", "u s", "images drawn from each activation band, "
                  "weakest band first"),
        StageFile("stratified_activation.npy", "float32", "u s", "their activations"),
        StageFile("stratum.npy", "int32", "s", "band of each column, 0 the weakest"),
        StageFile("random_image.npy", "int32", "u m", "images drawn at random"),
        StageFile("random_activation.npy", "float32", "u m", "their activations"),
        StageFile("quantile.npy", "float32", "u q", "activation quantiles; levels in the facts"),
        StageFile("histogram.npy", "int32", "u b", "counts in equal bins from the unit's min to "
                  "its max"),
        StageFile("class_counts.parquet", "table", "", "`unit`, `class` (row of "
                  "`classes.parquet`), `count` among the exemplars"),
    ),
    facts=("n_units", "n_images", "quantile_levels", "n_dead",
           "n_dense", "n_constant", "n_never_positive"),
)

CONTRAST = StageKind(
    "contrast",
    "Images that look like the strongest ones and leave the unit quiet.",
    of=("model", "layer"),
    needs=("neurons", "embeddings", "images", "probe"),
    files=(
        StageFile("contrast_image.npy", "int32", "u k j", "images that look like the exemplar and "
                  "leave the unit quiet, nearest first"),
        StageFile("contrast_similarity.npy", "float32", "u k j", "cosine of exemplar and contrast "
                  "image in encoder space"),
        StageFile("contrast_activation.npy", "float32", "u k j", "activation of the contrast "
                  "image"),
        StageFile("n_partner.npy", "int32", "u k", "how many partners mean anything"),
        StageFile("pool.npy", "int32", "u", "number of quiet images"),
        StageFile("threshold.npy", "float32", "u", "activation strictly below which an image is "
                  "quiet"),
    ),
)

CANDIDATES = StageKind(
    "candidates",
    "Phrases that a captioner proposes for every unit.",
    of=("model", "layer"),
    needs=("neurons", "contrast", "embeddings", "images"),
    files=(
        StageFile("candidates.parquet", "table", "", "phrases a captioner proposed: `unit`, `mode` "
                  "(`exemplars`: shown those alone; `contrast`: with contrast images), `rank` from "
                  "0, `text` as it was said, natural logarithms `log_p` of p(text given images) "
                  "and `log_prior` of p(text), and their `pmi`, by which they are ranked; NaN "
                  "where a captioner tells no probabilities"),
        StageFile("sets.parquet", "table", "", "for each `unit` and `mode`: `n_exemplar` and "
                  "`n_contrast` images shown, and `p_nothing`, the probability given to their "
                  "having nothing in common, or NaN"),
        StageFile("answers.parquet", "table", "", "of a captioner that is shown pictures, for each "
                  "`unit` and `mode`: `status` (`proposed`, `nothing`, `empty`, `unreadable`, "
                  "`unanswered`, `no exemplars`, `no contrast images`), `note` (why no answer "
                  "came), the raw `answer`, `n_tokens_in` and `n_tokens_out`", is_optional=True),
    ),
    facts=("n_units", "n_candidates", "n_distinct", "n_unanswered", "n_without_phrase", "n_blank",
           "n_same_answer", "n_tokens_in", "n_tokens_out", "cost"),
)

VOCABULARY = StageKind(
    "vocabulary",
    "All labels, and their vectors.",
    needs=("words", "candidates"),
    version=3,
    files=(
        StageFile("labels.parquet", "table", "t", "`text` and `source` of every label: names of "
                  "vocabularies, `captioner: exemplars`, `captioner: contrast`, joined by `;` "
                  "where several; where some labels are kinds of others, `parents` names these, "
                  "likewise joined"),
        StageFile("text.npy", "float32", "t d", "label vectors: templates averaged, unit length if "
                  "`renormalise`"),
        StageFile("empty.npy", "float32", "d", "unit vector of the templates without a text; not "
                  "there for vectors made elsewhere", is_optional=True),
    ),
    facts=("n_labels",),
)

SEPARATION = StageKind(
    "separation",
    "Whether the encoder's texts separate these images, or say nothing about them.",
    version=3,
    needs=("embeddings", "probe", "vocabulary"),
    files=(
        StageFile("names.parquet", "table", "", "for every concept column and class whose name is "
                  "a text: its `name`, `kind` (`column` or `class`), the `auroc` with which the "
                  "name tells its images from the others, and `shuffled`, the mean of other "
                  "texts; NaN where not defined"),
        StageFile("name.npy", "float32", "c d", "vectors of these names; not there in older "
                  "bundles", is_optional=True),
    ),
    facts=(
        "is_separated", "n_named", "lean", "lean_p", "n_images", "n_texts", "auroc", "shuffled",
        "auroc_p", "auroc_p_least",
    ),
)

SCORES = StageKind(
    "scores",
    "The best labels of every unit of a layer by one label method.",
    of=("model", "layer", "method"),
    needs=("neurons", "contrast", "embeddings", "vocabulary", "null"),
    files=(
        StageFile("label_uk.npy", "int32", "u l", "best labels, best first"),
        StageFile("score_uk.npy", "float32", "u l", "their scores"),
        StageFile("raw_uk.npy", "float32", "u l", "their scores without contrast images"),
        StageFile("margin_uk.npy", "float32", "u l", "score minus that of the next label down"),
        StageFile("percentile_uk.npy", "float32", "u l", "place among the label's scores for "
                  "random image sets, 0 to 1"),
        StageFile("count_u.npy", "int32", "u", "how many ranks mean anything"),
        StageFile("best_percentile_u.npy", "float32", "u", "place of the best score among best "
                  "scores of random image sets, 0 to 1"),
        StageFile("reliable_u.npy", "bool", "u", "whether that place is at least 0.95"),
        StageFile("vector_ud.npy", "float32", "u d", "concept vectors, unit rows, zero where there "
                  "is no evidence"),
        StageFile("n_exemplar_u.npy", "int32", "u", "exemplars that were scored"),
        StageFile("similarity_u.npy", "float32", "u", "mean cosine of exemplars and their contrast "
                  "images"),
        StageFile("pool_u.npy", "int32", "u", "number of quiet images"),
        StageFile("reuse_u.npy", "float32", "u", "share of contrast images that are repeats"),
        StageFile("anchor.npy", "float32", "u d", "CSP only: weighted mean exemplar; with "
                  "`projection` it gives the concept vector at any γ", is_optional=True),
        StageFile("projection.npy", "float32", "u d", "CSP only: weighted mean of what exemplars "
                  "share with contrast images", is_optional=True),
        StageFile("null_anchor.npy", "float32", "r d", "CSP only: the same for random image "
                  "sets", is_optional=True),
        StageFile("null_projection.npy", "float32", "r d", "CSP only", is_optional=True),
        StageFile("null_size.npy", "int32", "r", "CSP only: exemplars behind each null "
                  "row", is_optional=True),
        StageFile("labels.parquet", "table", "", "where labels were imported, or the method writes "
                  "its own: their `text` and `source`, in which `label_uk` counts; imported ones "
                  "may have a `form` (`formula`) and a `group` of units",
                  is_optional=True),
        StageFile("weight_uk.npy", "float32", "u l", "where imported labels are terms of a "
                  "weighted sum: their weights", is_optional=True),
    ),
    facts=("n_units", "n_reliable", "n_without_evidence", "table", "score_name"),
)

AUDIT = StageKind(
    "audit",
    "How coherent the strongest images of every unit are.",
    of=("model", "layer"),
    needs=("neurons", "embeddings"),
    files=(
        StageFile("units.parquet", "table", "u", "`clarity`, `polysemanticity`, sizes of its two "
                  "image groups `cluster_0` and `cluster_1` and their `silhouette`, `nearest_unit` "
                  "and its cosine `redundancy`; NaN where not defined"),
        StageFile("image_group.npy", "int8", "u k", "which group each scored exemplar belongs to"),
    ),
)

STATISTIC = StageKind(
    "statistic",
    "One more statistic of every unit of a layer; its audit says what it needs and means.",
    of=("model", "layer", "statistic"),
    needs=("neurons", "embeddings", "activations", "probe", "candidates"),
    files=(
        StageFile("units.parquet", "table", "u", "the columns that the statistic declares"),
    ),
)

COLUMNS = StageKind(
    "columns",
    "How strongly every unit of a layer goes with each concept column of the probe set.",
    of=("model", "layer"),
    needs=("activations", "probe"),
    files=(
        StageFile("columns.parquet", "table", "c", "`name` of every concept column, `n_known` "
                  "images of which it says anything, and `n_positive` of them that show it"),
        StageFile("pearson_uc.npy", "float32", "u c", "correlation of activation and column over "
                  "those images; NaN where not defined"),
        StageFile("auroc_uc.npy", "float32", "u c", "area under the ROC curve, ties half; NaN for "
                  "a column that all its images show, or none"),
        StageFile("auprc_uc.npy", "float32", "u c", "average precision; NaN likewise"),
    ),
    facts=("n_units", "n_columns"),
)

ASSOCIATION = StageKind(
    "association",
    "Which units of a layer excite for which concept column or class, how surely, and what else "
    "could be why.",
    of=("model", "layer"),
    needs=("activations", "images", "probe"),
    files=(
        StageFile("columns.parquet", "table", "c", "`name` of every concept column and class, its "
                  "`kind` (`concept` or `class`), `n_known` images of which it says anything and "
                  "`n_positive` of them that show it, `n_with` and `n_without` groups that show or "
                  "lack it, `is_tried` (not where either is too few), `least`, the smallest AUROC "
                  "that would have been called with a chance of 80 %, `n_associated` units that go "
                  "with it at all (family-wise at 5 %), `n_suspects`, and the column that goes "
                  "with it most, `beside` (or empty), by Cramér's V `beside_v`"),
        StageFile("found.parquet", "table", "", "every suspect, and the best unit of each column: "
                  "`unit`, `column` (row of `columns`), `is_suspect`; `auroc` (`auroc_low` to "
                  "`auroc_high`), `difference` of mean activations in standard deviations, "
                  "`pearson`; `p` of the rank sum, `q_bh` and `q_by` over the family, `p_family` "
                  "by the largest statistic under exchange of groups, `q_suspect` that the area is "
                  "above the bar; `within` (`within_low` to `within_high`), the area among images "
                  "alike in `beside`, NaN without"),
    ),
    facts=("n_units", "n_tests", "n_images", "n_groups"),
)

INDEX_FILE = "index.faiss"

INDEX = StageKind(
    "index",
    "The search index over the concept vectors of one method, all layers.",
    of=("method",),
    needs=("scores",),
    files=(
        StageFile(INDEX_FILE, "bytes", "", "FAISS index over the concept vectors of one method, "
                  "all layers: the vectors (`kind` `flat`), or codes of them (`codes`); a slim "
                  "copy does without where it is exact", is_optional=True),
        StageFile("rows.parquet", "table", "", "`model`, `layer`, `unit` of every row of the "
                  "index"),
    ),
    facts=("kind", "n_vectors", "recall_at_10", "recall_at_20", "recall_at_200", "n_asked",
           "n_reranked"),
)

PROJECTION = StageKind(
    "projection",
    "The flat map of the concept vectors of one method, all layers.",
    of=("method",),
    needs=("scores",),
    files=(
        StageFile("xy.npy", "float32", "u x", "place of every neuron on a flat map of the concept "
                  "vectors of one method, all layers (UMAP, or principal components of few "
                  "vectors: `kind` in the facts); NaN where there is no evidence"),
        StageFile("rows.parquet", "table", "u", "`model`, `layer`, `unit` of every row of the map"),
    ),
    facts=("kind", "n_distinct", "neighbour_recall"),
)

INFLUENCE = StageKind(
    "influence",
    "Which outputs the units of a layer drive.",
    of=("model", "layer"),
    needs=("activations", "probe"),
    files=(
        StageFile("outputs.parquet", "table", "c", "`name` of every output"),
        StageFile("gradient_activation.npy", "float32", "c u", "mean gradient × activation of the "
                  "output's logit over images of that class"),
        StageFile("n_image.npy", "int32", "c", "images behind each row"),
        StageFile("direct_weight.npy", "float32", "c u", "weight of the linear head, only where "
                  "the layer feeds it directly", is_optional=True),
    ),
    facts=("is_predicted_class", "n_images"),
)

CIRCUIT = StageKind(
    "circuit",
    "The neurons that drive each output most, layer by layer, and which of them feed which.",
    of=("model",),
    needs=("influence", "probe"),
    files=(
        StageFile("outputs.parquet", "table", "", "`name` of every output, `n_images` behind it"),
        StageFile("nodes.parquet", "table", "", "`output` (row of `outputs`), `layer`, `unit`, and "
                  "`effect`: gradient × activation on the output as in the stage of influence"),
        StageFile("edges.parquet", "table", "", "`source` and `target` (rows of `nodes`, of one "
                  "output, and of layers of which one is the next that the other reaches), and "
                  "`effect`: mean gradient × activation of the source on the pooled activation of "
                  "the target over images of that output"),
    ),
    facts=("is_predicted_class", "n_images"),
)

TRUTH = StageKind(
    "truth",
    "What the units of a layer truly respond to, where somebody measured it.",
    of=("model", "layer"),
    needs=("activations", "neurons"),
    files=(
        StageFile("concepts.parquet", "table", "c", "`name`, `wordings` (JSON list of the texts "
                  "that name it, the usual one first), `kind` (such as clinical, artefact; may be "
                  "empty), `n_positive` images that show it"),
        StageFile("units.parquet", "table", "u", "`true_concept` or null; `concept`, the one "
                  "chosen on half of the images, or null; `n_positive` images of the other half "
                  "that show it, and on that half `pearson`, `pearson_low`, `pearson_high`, "
                  "`auroc`, `auroc_low`, `auroc_high`, `auprc`, `auprc_low`, `auprc_high`; for "
                  "layers with planted units also `planted` (the formula, or null), "
                  "`planted_kind`, `planted_concepts` (JSON list)"),
        StageFile("pearson_uc.npy", "float32", "u c", "correlation of activation and concept on "
                  "all the images with known concepts; NaN where not defined"),
        StageFile("auroc_uc.npy", "float32", "u c", "area under the ROC curve, ties half"),
        StageFile("auprc_uc.npy", "float32", "u c", "average precision"),
    ),
    facts=("n_units", "n_images", "n_groups", "n_concepts", "n_true", "n_planted"),
)

FAITHFULNESS = StageKind(
    "faithfulness",
    "How well the best label of every unit predicts its activation, by an encoder that did not "
    "choose it.",
    of=("model", "layer", "method"),
    needs=("scores",),
    files=(
        StageFile("units.parquet", "table", "u", "`pearson`, the correlation of activation and "
                  "prediction, with its 95 % interval `pearson_low` to `pearson_high`; `auprc`, "
                  "the average precision of finding by activation the images that the label is "
                  "said of, with `auprc_low` and `auprc_high`; `n_said`, how many those are; NaN "
                  "without a label, and where not defined"),
    ),
    facts=("n_units", "n_labelled", "n_images", "n_groups", "n_draws", "judge", "is_held_out"),
)

TRUST = StageKind(
    "trust",
    "Which figures tell right labels from wrong ones, tried on units planted into the probe set.",
    needs=("embeddings", "probe", "vocabulary", "null"),
    files=(
        StageFile("metrics.parquet", "table", "", "for every `metric` its `auroc` for right labels "
                  "against wrong ones, with its 95 % interval `low` to `high`, over `n_right` and "
                  "`n_wrong` labels; for how large a share of units it falls, and by how much for "
                  "the typical one, where labels are missing (`missing_falls`, `missing_by`) and "
                  "where there are extra ones (`extra_falls`, `extra_by`); `is_passed`, whether "
                  "it notices both"),
    ),
    facts=("n_units", "n_images", "judge"),
)

SEEN = StageKind(
    "seen",
    "A few images, each beside what a model and the encoder see of it.",
    of=("model",),
    needs=("images",),
    files=(
        StageFile("sheet.webp", "bytes", "", "one picture; a column for each image: the image, the "
                  "model's input and, if it takes pixels, the encoder's"),
    ),
    facts=("n_images", "n_rows"),
)

PERFORMANCE = StageKind(
    "performance",
    "How often a target model is right, where somebody measured it.",
    of=("model",),
    files=(
        StageFile("slices.parquet", "table", "", "`slice`, `n`, `n_correct`, `accuracy` with its "
                  "95 % interval `low` to `high` of a model on named test sets, and further "
                  "columns"),
    ),
    facts=("n_slices",),
)

INTERVENTION = StageKind(
    "intervention",
    "What adding one thing to photographs does to an output, and which units carry it.",
    version=2,
    of=("model",),
    files=(
        StageFile("effects.parquet", "table", "", "for each `artefact` its `foil` (`neutral` or "
                  "`without`), `n_pairs`, `n_groups`, and the mean difference of the output's "
                  "log-odds with its 95 % interval: `change` (`change_low` to `change_high`), with "
                  "less without; `neutral` (`neutral_low` to `neutral_high`), neutral less "
                  "without; `effect` (`effect_low` to `effect_high`), with less foil; `n_called` "
                  "foils that the network decides for, `n_lost` of them with the artefact, "
                  "`n_gained` others"),
        StageFile("pairs.parquet", "table", "", "every pair: `artefact`, `file`, `group`, "
                  "`is_choosing` (the half that ranked units), and of each version the log-odds "
                  "(`score_without`, `score_neutral`, `score_with`) and the decision "
                  "(`is_called_without`, `is_called_neutral`, `is_called_with`)"),
        StageFile("units.parquet", "table", "", "for each `artefact`, `layer` and `unit` its mean "
                  "`attribution` of the effect, and the `change` of its mean activation, on the "
                  "choosing half; on the other half, which ranked nothing, the same as `confirmed` "
                  "and `moved`, with how far to either side their 95 % intervals reach "
                  "(`confirmed_within`, `moved_within`; NaN of too few groups). Bundles of before "
                  "lack these four"),
        StageFile("sets.parquet", "table", "", "for each `artefact` and `layer`, on the other "
                  "half: `what` was swapped (`strongest` carriers, the `direction` of the mean "
                  "change, `random` units), of how many units (`n_units`), and the share of the "
                  "effect that leaves with it, `necessity` (`necessity_low` to `necessity_high`), "
                  "and that comes with it alone, `sufficiency` (`sufficiency_low` to "
                  "`sufficiency_high`); no rows where the effect may be none"),
        StageFile("given.parquet", "table", "", "the same of parts of layers that somebody gave, "
                  "for each `artefact`: its `name`, `layer`, `n_units` and `n_directions` (0 for "
                  "neurons), `necessity` (`necessity_low` to `necessity_high`) and `sufficiency` "
                  "(`sufficiency_low` to `sufficiency_high`)", is_optional=True),
        StageFile("gates.parquet", "table", "", "of pasted pairs, what real photographs say for "
                  "each `artefact`: AUROC with its 95 % interval by which a probe of the real one "
                  "tells real ones (`real`, `real_low` to `real_high`), pasted from neutral "
                  "(`pasted`, `pasted_low` to `pasted_high`) and neutral from untouched "
                  "photographs (`neutral`, `neutral_low` to `neutral_high`), the `least` that is "
                  "asked of pasted ones, or `why` it was not asked; `n_with` and `n_without` real "
                  "photographs, and by how much the output's log-odds of the first lie above "
                  "those of the second within classes (`observed`, `observed_low` to "
                  "`observed_high`)", is_optional=True),
        StageFile("shown.parquet", "table", "", "pictures that are kept: `pair` (row of `pairs`) "
                  "and `version`; of each artefact a few pairs at equal steps of the effect"),
        StageFile("thumb_offset.npy", "int64", "p+1", "picture `i` is bytes `offset[i]` to "
                  "`offset[i+1]` of `thumbs.bin`"),
        StageFile("thumbs.bin", "bytes", "", "WebP pictures, one after the other"),
    ),
    facts=("output", "images", "n_pairs", "has_neutral"),
)

FIX = StageKind(
    "fix",
    "What becomes of a classifier's decisions when part of it is held still.",
    of=("model", "name"),
    files=(
        StageFile("photographs.parquet", "table", "", "`file`, true `class`, `slice` and `group` "
                  "of every photograph; those that are `is_choosing` helped to choose what is held "
                  "and what at, and nothing is reported of them"),
        StageFile("runs.parquet", "table", "", "`what` was run (`before`: the network as it is, "
                  "`after`: with the part held, `beside`: another network as it is, `random`: a "
                  "control) and its `model`; the random ones last"),
        StageFile("cuts.parquet", "table", "", "of run `run` and part `piece` of `layer`, every "
                  "`unit`, and what it is held `at`; where it `is_direction`, its `weight` in the "
                  "direction, along which alone the layer is held"),
        StageFile("score.npy", "float32", "w i", "log-odds of the output in the first `w` runs, "
                  "which are not random, on the photographs that do not choose"),
        StageFile("called.npy", "uint16", "v i", "number of the class decided for in every run"),
        StageFile("shown.parquet", "table", "", "photographs (`row`) of which a picture is kept: "
                  "some whose decision turns, at equal steps of the change of the score"),
        StageFile("thumb_offset.npy", "int64", "p+1", "picture `i` is bytes `offset[i]` to "
                  "`offset[i+1]` of `thumbs.bin`"),
        StageFile("thumbs.bin", "bytes", "", "WebP pictures, one after the other"),
    ),
    facts=("output", "images", "mode", "clean", "chosen_on", "classes", "n_photographs"),
)

FACTORS = StageKind(
    "factors",
    "Non-negative factors of a layer, by how much they push wrong decisions of a classifier.",
    of=("model", "layer"),
    needs=("neurons",),
    files=(
        StageFile("photographs.parquet", "table", "", "`file`, true `class`, `slice` and `group` "
                  "of every photograph, and the class `decided` for; those that are `is_choosing` "
                  "fitted and ranked the factors, the others are reported on"),
        StageFile("factors.parquet", "table", "f", "by rank: `share` of the layer's energy, "
                  "`chosen` (mean push of wrong decisions less that of right ones, on the "
                  "photographs that choose); on the others the same `gap` with `gap_low` and "
                  "`gap_high`, and the means themselves, `wrong` and `right`; and whether the "
                  "factor `is_called`"),
        StageFile("direction.npy", "float32", "u f", "of every factor, the direction that reads "
                  "it, of length 1"),
        StageFile("push.npy", "float32", "g f", "how much each factor pushes each decision"),
        StageFile("called.npy", "uint16", "v i", "number of the class decided for on the "
                  "photographs that do not choose: as the network is, with each of the first "
                  "factors projected out, then with each random direction"),
        StageFile("shown.parquet", "table", "", "photographs (`row`) of which a picture is kept: "
                  "for every called `factor` that is projected out, the wrong decisions that it "
                  "pushes most"),
        StageFile("thumb_offset.npy", "int64", "p+1", "picture `i` is bytes `offset[i]` to "
                  "`offset[i+1]` of `thumbs.bin`"),
        StageFile("thumbs.bin", "bytes", "", "WebP pictures, one after the other"),
    ),
    facts=("images", "classes", "n_tried", "n_random", "n_photographs"),
)

CURVES = StageKind(
    "curves",
    "What becomes of a classifier's decisions as more and more neurons of a layer are held still.",
    of=("model", "layer"),
    needs=("neurons", "scores"),
    files=(
        StageFile("photographs.parquet", "table", "", "`file`, true `class`, `slice` and `group` "
                  "of every photograph; those that are `is_choosing` helped to choose orders and "
                  "what neurons are held at, and nothing is reported of them"),
        StageFile("orders.parquet", "table", "", "by `order` (`random`, `influence`, `category`, "
                  "`attribute`, `relation` or `words`) and `repeat`, every `unit` of it, first to "
                  "last"),
        StageFile("runs.parquet", "table", "", "of which `order` and `repeat` the first `n_units` "
                  "were held; the first run holds nothing (`none`)"),
        StageFile("called.npy", "uint16", "v i", "number of the class decided for in every run, on "
                  "the photographs that do not choose"),
    ),
    facts=("output", "images", "mode", "method", "words", "classes", "seed", "n_photographs"),
)

MAPS = StageKind(
    "maps",
    "How well maps of a layer point at things whose exact place is known.",
    of=("model", "layer"),
    needs=("neurons",),
    files=(
        StageFile("photographs.parquet", "table", "", "for each `artefact` and `map` one row a "
                  "photograph: `group` (what photographs are drawn together by), and mean over the "
                  "neurons tried: `base` (share of the picture that is a "
                  "hit), `hit` (whether the map is largest there) and `overlap` (intersection over "
                  "union with the mask at its own area); the same of a random map "
                  "(`random_hit`, `random_overlap`), of another neuron (`other_hit`, "
                  "`other_overlap`) and of the network with random weights (`weights_hit`, "
                  "`weights_overlap`); `removal` (mean value while places are put in less that "
                  "while they are taken away, largest first) and `random_removal` (of the random "
                  "map)"),
        StageFile("units.parquet", "table", "", "the neurons tried: `artefact`, `unit`, and its "
                  "`answer` to the artefact (mean change over its deviation, on other "
                  "photographs)"),
    ),
    facts=("images", "n_artefacts"),
)
# fmt: on

KINDS = {
    kind.prefix: kind
    for kind in (
        IMAGES,
        EMBEDDINGS,
        ACTIVATIONS,
        PROBE,
        WORDS,
        NULL,
        NEURONS,
        CONTRAST,
        CANDIDATES,
        VOCABULARY,
        SEPARATION,
        SCORES,
        AUDIT,
        STATISTIC,
        COLUMNS,
        ASSOCIATION,
        INDEX,
        PROJECTION,
        INFLUENCE,
        CIRCUIT,
        TRUTH,
        FAITHFULNESS,
        TRUST,
        SEEN,
        PERFORMANCE,
        INTERVENTION,
        FIX,
        FACTORS,
        CURVES,
        MAPS,
    )
}
"""Every kind that belongs to the project, in the order in which a build makes them."""
