"""The page of labels: which method is right, how sure one can be, what layers know."""

from __future__ import annotations

import re
from dataclasses import astuple

import numpy as np
import pytest

from csp_engine import numbers, pipeline
from csp_engine.bundle import Bundle
from csp_engine.networks.random_weights import with_random_weights
from csp_engine.views import confidence
from csp_engine.views.accuracy import label_accuracy
from csp_engine.views.benchmark.control import beside_control
from csp_engine.views.benchmark.faithfulness import faithfulness, which_to_believe
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.circuit import circuit
from csp_engine.views.table import summary
from csp_engine.views.table.granularity import granularity
from csp_engine.views.table.rows import neuron_table
from csp_engine.words.vocabularies import read_vocabulary
from pages.ui.labels import figures
from tests.pages.conftest import component, html, open_page
from tests.worlds import toys


def test_what_methods_claim_and_that_nothing_says_who_is_right(serve, small_bundle):
    serve(small_bundle)
    at = open_page("labels")
    assert not at.exception
    shown = html(at)
    bundle = Bundle.open(small_bundle)
    for method in bundle.methods("small", "second@mean"):
        n = sum(
            int(bundle.scores("small", layer, method).reliable_u.sum())
            for layer in bundle.layers("small")
        )
        assert f"<td>{numbers.share(n / 20)}</td>" in shown
    assert "cannot be said here" in shown
    assert confidence.NOT_CALIBRATED in shown
    assert "no label can be called right or wrong here" in shown


def test_who_is_right_where_the_truth_is_known(serve, copied):
    bundle = toys.with_truth(Bundle.open(copied))
    serve(bundle.path)
    shown = html(open_page("labels"))
    for found in label_accuracy(bundle)["methods"].values():
        assert f"<td>{numbers.share(found['best']['share'])}</td>" in shown
    assert "a tie" in shown or "is ahead" in shown


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.01, 0.2, "A is"), (-0.2, -0.01, "B is"), (-0.1, 0.1, "a tie")]
)
def test_an_interval_that_holds_zero_is_a_tie(low, high, said):
    assert figures.verdict(low, high, "A", "B").startswith(said)


@pytest.mark.slow
def test_the_demo_tells_how_likely_labels_are_right(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page("labels", method="csp")
    assert not at.exception
    shown = html(at)
    bundle, memo = Bundle.open(shipped_bundle), Memo()
    found = confidence.learnt(bundle, memo, "csp")
    assert f"off by {numbers.share(found.error)}" in shown
    for each in found.bins:
        assert f"said {numbers.share(each.mean)}<" in shown
    rows = summary.by_layer(bundle, memo, "csp")
    for each in rows:
        p_u = confidence.probabilities(bundle, memo, each.model, each.layer, "csp")
        assert each.n_likely == (p_u >= confidence.LIKELY).sum()
        assert f">{each.model} / {each.layer}</a>" in shown
    assert len(rows) == len(re.findall("data-heading='likely right'", shown))


@pytest.mark.slow
def test_meanings_count_every_reliable_neuron_once(shipped_bundle):
    bundle, memo = Bundle.open(shipped_bundle), Memo()
    rows = neuron_table(bundle, memo, "csp")
    found = summary.meanings(rows, bundle, memo)
    assert sum(each.n_neurons for each in found) == rows["reliable"].sum()
    labels = [text for each in found for text in (each.label, *each.others)]
    assert len(labels) == len(set(labels))
    counts = [each.n_neurons for each in found]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.slow
def test_disagreements_are_the_furthest_apart(shipped_bundle):
    bundle, memo = Bundle.open(shipped_bundle), Memo()
    found, n_all = summary.disagreements(bundle, memo, "csp", limit=5)
    rows = neuron_table(bundle, memo, "csp")
    assert n_all == rows["disagree"].sum()
    most = np.sort(rows.loc[rows["disagree"], "disagreement"])[::-1][:5]
    np.testing.assert_allclose([each.distance for each in found], most)
    assert all(len(set(each.said.values())) > 1 for each in found)


@pytest.mark.slow
def test_the_neuron_page_says_how_likely_each_label_is_right(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page("neuron", model="planted", layer="planted@none", unit="0")
    assert not at.exception
    bundle, memo = Bundle.open(shipped_bundle), Memo()
    for method in bundle.methods("planted", "planted@none"):
        p_u = confidence.probabilities(bundle, memo, "planted", "planted@none", method)
        assert confidence.in_words(float(p_u[0])) in html(at)


def test_the_table_narrows_by_confidence(serve, shipped_bundle):
    serve(shipped_bundle)
    at = open_page("layer", model="planted", layer="planted@none", where="confidence:0.85..")
    assert not at.exception
    bundle, memo = Bundle.open(shipped_bundle), Memo()
    method = bundle.methods("planted", "planted@none")[0]
    p_u = confidence.probabilities(bundle, memo, "planted", "planted@none", method)
    n_likely = int((p_u >= 0.85).sum())
    assert f"{n_likely} of {len(p_u)} neurons" in html(at)


def test_how_well_labels_predict_neurons_and_which_figure_to_believe(serve, copied, small_bundle):
    serve(small_bundle)
    assert "Nobody has measured that here" in html(open_page("labels"))
    bundle = toys.with_faithfulness(Bundle.open(copied))
    serve(bundle.path)
    at = open_page("labels")
    assert not at.exception
    shown = html(at)
    for own in faithfulness(bundle)["methods"].values():
        for name in ("pearson", "auprc"):
            assert f"<td>{numbers.score(own[name]['mean'])}</td>" in shown
    assert "of the probe set, which chose the labels too" in shown
    assert which_to_believe(bundle).split(":")[0] in shown
    assert "after Holm" in shown


def test_what_a_figure_must_do_to_be_believed_stands_in_its_row(serve, shipped_bundle):
    """A reader who applies the caption's two numbers to a row comes to what the row says."""
    serve(shipped_bundle)
    shown = html(open_page("labels"))
    part = shown[shown.index("Which number to believe") :]
    caption, body = re.search(
        r"<caption>(.*?)</caption>.*?<tbody>(.*?)</tbody>", part, re.S
    ).groups()
    least, least_by = map(
        int, re.search(r"than (\d+) %, or by less than (\d+) %", caption).groups()
    )
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
    assert len(rows) == len(Bundle.open(shipped_bundle).trust())
    verdicts = set()
    for row in rows:
        pairs = re.findall(r"<td>([\d.]+) %, by (−?[\d.]+) %</td>", row)
        (share, by), (more, more_by) = [(float(a), float(b.replace("−", "-"))) for a, b in pairs]
        is_enough = min(share, more) >= least and min(by, more_by) >= least_by
        assert row.endswith(f"<td>{'yes' if is_enough else 'no'}</td>")
        verdicts.add(is_enough)
    assert verdicts == {True, False}


@pytest.mark.slow
def test_the_network_with_random_weights_stands_beside_the_trained_one(serve, tmp_path):
    own = toys.target(["second"])
    control = pipeline.Target(with_random_weights(own.model), own.taps, control_of="small")
    built = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp", targets=(own, control)))
    bundle = toys.with_faithfulness(built)
    serve(bundle.path)
    at = open_page("labels")
    assert not at.exception
    shown = html(at)
    (row,) = beside_control(bundle, "csp")
    assert "Readable is not learned" in shown
    assert f"<td>{numbers.share(row.control.share)}</td>" in shown
    assert "predicts, random" in shown


def test_how_finely_labels_tell_neurons_apart(serve, copied):
    bundle = toys.with_truth(Bundle.open(copied))
    serve(bundle.path)
    shown = html(open_page("labels"))
    for own in granularity(bundle, Memo()):
        labels, said = set(), 0
        for layer in bundle.layers("small"):
            scores = bundle.scores("small", layer, own.method)
            texts = bundle.labels()["text"]
            for unit in np.flatnonzero(scores.count_u > 0):
                labels.add(texts.iloc[int(scores.label_uk[unit, 0])])
                said += 1
        assert own.spread.n_labels == said
        assert 1 <= own.spread.n_distinct <= len(labels)
        assert own.utility.n <= said
        assert f"<td>{numbers.share(own.utility.share)}</td>" in shown
    assert "How finely labels tell neurons apart" in shown


def test_how_special_labels_are_where_words_are_kinds_of_others(serve, tmp_path):
    above = {"red": "bright", "green": "bright", "blue": "dark", "bright": "grey"}
    lines = ["label\tparents", *(f"{word}\t{above.get(word, '')}" for word in toys.WORDS)]
    (tmp_path / "words.txt").write_text("\n".join(lines) + "\n", "utf-8")
    vocabulary = read_vocabulary([str(tmp_path / "words.txt")])
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp", vocabulary=vocabulary))
    level = {"grey": 0, "bright": 1, "red": 2, "green": 2, "dark": 0, "blue": 1}
    broader = {"bright": ["grey"], "red": ["bright", "grey"], "blue": ["dark"]}
    broader["green"] = broader["red"]
    serve(bundle.path)
    shown = html(open_page("labels"))
    texts = bundle.labels()["text"].tolist()
    said_td = np.array(bundle.label_vectors(), np.float64)
    said_td /= np.linalg.norm(said_td, axis=1, keepdims=True)
    for grain in granularity(bundle, Memo()):
        depths, margins = [], []
        for layer in bundle.layers("small"):
            scores = bundle.scores("small", layer, grain.method)
            exemplars = bundle.exemplars("small", layer)
            own = bundle.method_labels("small", layer, grain.method)["text"]
            for unit in np.flatnonzero(scores.count_u > 0):
                word = own.iloc[int(scores.label_uk[unit, 0])]
                if word in level:
                    depths.append(level[word])
                if word in broader:
                    images = exemplars.image_uk[unit][: exemplars.count_u[unit]]
                    mean_d = bundle.image_vectors()[images].sum(axis=0)
                    mean_d = mean_d / np.linalg.norm(mean_d)
                    cosine = {text: said_td[texts.index(text)] @ mean_d for text in texts}
                    margins.append(cosine[word] - max(cosine[each] for each in broader[word]))
        found = grain.specificity
        assert (found.n, found.n_below) == (len(depths), len(margins))
        assert found.depth == pytest.approx(np.mean(depths))
        assert found.margin == pytest.approx(np.mean(margins), abs=1e-6)
        assert found.broad == np.mean(np.array(margins) <= 0)
        assert f"<td>{numbers.score(found.margin)}</td>" in shown
    assert "Broader fits" in shown


@pytest.mark.slow
def test_the_circuit_of_an_output_leads_to_its_neurons_and_back(serve, tmp_path):
    targets = (toys.target(["first", "second", "last"]),)
    asked = toys.request(tmp_path, tmp_path / "a.csp", targets=targets, n_circuit_images=20)
    bundle = pipeline.build(asked)
    serve(bundle.path)
    at = open_page("labels", output="green", method="semanticlens")
    assert not at.exception
    shown = html(at)
    found = circuit(bundle, "small", "green", "semanticlens")
    assert f"over {found.n_images} images of green" in re.sub(r"\s+", " ", shown)
    for node in found.nodes:
        address = f"layer={node.neuron.layer.replace('@', '%40')}&amp;unit={node.neuron.unit}&amp;"
        assert address in shown
        assert numbers.signed(node.effect)[:4] in shown
    assert shown.count("class='edge") == 5 + sum(len(node.fed_by) for node in found.nodes)
    place = found.layers[0][1][0]
    at = open_page("neuron", layer="last@mean", unit=str(found.nodes[place].neuron.unit))
    assert "output=green" in html(at)
    at = open_page("labels", output="purple")
    assert "There is no output “purple” here" in html(at)
    assert "class='edge" in html(at)


def test_one_neuron_shows_what_being_right_means(serve, shipped_bundle):
    bundle, memo = Bundle.open(shipped_bundle), Memo()
    found = summary.telling(bundle, memo, "csp_plus")
    assert found is not None
    neuron = found.neuron
    assert [each.method for each in found.answers] == list(bundle.methods(*astuple(neuron)[:2]))
    truth = bundle.truth(neuron.model, neuron.layer)
    assert truth is not None
    assert truth.units["true_concept"].iloc[neuron.unit] == found.truth
    wordings = {text.casefold() for text in truth.wordings()[found.truth]} | {found.truth}
    for each in found.answers:
        text = bundle.best_texts(neuron.model, neuron.layer, each.method)[neuron.unit]
        assert each.text == text
        assert each.is_right == (text.casefold() in wordings)
    assert next(each for each in found.answers if each.method == "csp_plus").is_right
    assert not all(each.is_right for each in found.answers)
    serve(shipped_bundle)
    at = open_page("labels")
    shown = html(at)
    assert "One neuron, four answers" in shown
    assert shown.count(">wrong</span>") == sum(not each.is_right for each in found.answers)
    assert len(component(at, "csp_tiles")["tiles"]) == 5
    # The other methods' own neurons tell against the others in their turn, or there is none.
    for method in bundle.methods("biased", "layer4@mean"):
        other = summary.telling(bundle, memo, method)
        assert other is None or {e.method: e.is_right for e in other.answers}[method]


def test_without_truth_no_answer_is_called_right_or_wrong(serve, small_bundle):
    found = summary.telling(Bundle.open(small_bundle), Memo(), "csp")
    assert found is None or all(each.is_right is None for each in found.answers)
    serve(small_bundle)
    shown = html(open_page("labels"))
    assert ">right</span>" not in shown
    assert ">wrong</span>" not in shown


def test_the_first_table_puts_the_best_method_first(serve, shipped_bundle):
    bundle = Bundle.open(shipped_bundle)
    found = label_accuracy(bundle)["methods"]
    rows = re.findall(r"class='name' dir='auto'>([^<]+)<.*?</th><td>([^<]+)</td>",
                      figures.first_table(label_accuracy(bundle)))  # fmt: skip
    right = sorted((each["best"]["share"] for each in found.values()), reverse=True)
    assert [share for _, share in rows] == [numbers.share(each) for each in right]
    assert rows[0][0] == "CSP+"
