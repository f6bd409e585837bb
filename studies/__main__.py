"""One study: ``python -m studies NAME [ARGUMENT ...]``; without a name, the list of them."""

from __future__ import annotations

import runpy
import sys

STUDIES = {
    "planted_geometry": "labels of planted neurons, by method and gamma",
    "truth_intervals": "how often the intervals of ground truth hold the true figure",
    "association_null": "how often chance is called an association, with groups and without",
    "real_suspects": "suspects by columns on one half of real photographs, judged by the other",
    "demo_suspects": "suspects of the demo, judged on photographs of other seeds",
    "demo_factors": "factors that push wrong decisions of the demo, judged by the simulator",
    "demo_truth": "labels and search against ground truth: demo_truth BUNDLE",
    "captioner": "the demo's captioner on planted embeddings: training time, accuracy, rate",
    "dermoscopy_realism": "detectors that learnt from simulated photographs, on real ones",
    "train_melanoma": "a melanoma classifier from real photographs, for the three that follow",
    "real_dermoscopy": "whether that classifier leans on what lies beside the lesion",
    "real_channels": "which channels of three networks answer to artefacts",
    "real_pastes": "what pasting an artefact into real photographs does to two classifiers",
    "real_browser": "what the browser finds on real dermoscopy",
    "open_words": "which method says the exact word of a thousand, on real photographs",
    "simulated_labels": "whether labels of real neurons say how they act on other photographs",
    "group_labels": "whether labels of two groups name both meanings of a neuron, on the demo",
    "sure_and_wrong": "which reliable labels of the demo are wrong, and what would refuse them",
    "combined_methods": "whether the likeliest of several methods' labels beats CSP+ alone",
    "masked_exemplars": "whether MILAN names neurons better by what they look at, on the demo",
    "regions": "whether label methods name neurons better by what they look at, on the demo",
    "random_network": "what is claimed of the demo's network before any training, by truth",
    "other_layers": "labels of the demo's networks on layers that chose nothing, by truth",
    "fourth_condition": "whether the fourth condition of a reliable label holds on new ground",
    "fifth_condition": "whether a reliable label should also score enough, on new ground",
    "off_vocabulary": "whether directions of the embeddings at random have a name after all",
    "planted_confidence": "whether a confidence learnt from planted units keeps its word",
    "vocabulary_gap": "how often it is noticed that a word is missing, on the demo",
    "real_labels": "labels of real neurons from real CLIP vectors, for a person to judge",
}


def main() -> None:
    name, *arguments = sys.argv[1:] or [""]
    if name and name not in STUDIES:
        sys.exit(f"No study is called {name!r}; there are {', '.join(STUDIES)}.")
    if not name:
        print("\n".join(f"{each:20} {what}" for each, what in STUDIES.items()))
        return
    sys.argv = [f"python -m studies {name}", *arguments]
    runpy.run_module(f"studies.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
