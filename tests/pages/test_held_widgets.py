"""A widget that shows a value of the URL is set when the URL says something else, and only then."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.runtime.scriptrunner import RerunException
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from pages.ui.audit import running, trying
from pages.ui.audit.curves import section as curves
from pages.ui.build import job
from pages.ui.shell import page as shell
from tests.pages.conftest import open_page

PAGES = ["search", "layer", "map", "compare", "neuron"]


def set_by_server(at) -> list[str]:
    """The widgets whose value a run sends to the browser, over what the user has there by then."""
    kinds = ("slider", "selectbox", "text_input", "number_input", "multiselect", "button_group")
    widgets = [widget for kind in kinds for widget in at.get(kind)]
    assert widgets
    return [widget.key for widget in widgets if widget.proto.set_value]


@pytest.mark.parametrize("page", PAGES)
def test_a_run_that_changes_nothing_sets_no_widget(serve, small_bundle, page):
    serve(small_bundle)
    at = open_page(page, layer="second@mean", unit="3", method="csp")
    at.run()
    assert set_by_server(at) == []


def test_what_a_user_moves_is_not_sent_back_and_what_the_url_says_is(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", layer="second@mean", unit="3", gamma="0.5", method="csp")
    assert "_gamma" in set_by_server(at)
    at.slider(key="_gamma").set_value(0.2).run()
    assert at.query_params["gamma"] == "0.2"
    assert "_gamma" not in set_by_server(at)
    at.query_params["gamma"] = "0.7"
    at.run()
    assert at.slider(key="_gamma").value == pytest.approx(0.7)
    assert "_gamma" in set_by_server(at)


def test_a_request_that_knows_an_older_address_does_not_undo_a_choice(serve, small_bundle):
    """A browser that has not heard of the first choice still names the address before it."""
    serve(small_bundle)
    at = open_page("neuron", layer="second@mean", unit="3", bundle="small")
    older = dict(at.query_params)
    at.button_group(key="_show").set_value("random").run()
    assert at.query_params["show"] == "random"
    at.query_params.clear()
    at.query_params.update(older)
    at.toggle(key="_hide").set_value(True).run()
    assert (at.query_params["show"], at.query_params["copies"]) == ("random", "hide")
    assert at.button_group(key="_show").value == "random"
    at.query_params.clear()
    at.query_params.update(older)
    at.run()  # asks for nothing, and knows of neither
    assert (at.query_params["show"], at.query_params["copies"]) == ("random", "hide")
    elsewhere = older | {"unit": "5"}  # where nobody has been: that is meant
    at.query_params.clear()
    at.query_params.update(elsewhere)
    at.run()
    assert (at.query_params["unit"], "show" in at.query_params) == ("5", False)


def test_a_choice_that_the_next_request_cuts_off_is_made_all_the_same():
    """Streamlit ends a callback at any look into the session where a request waits."""
    waiting, made, sent = (
        [RerunData(query_string="first"), RerunData(query_string="second")],
        [],
        [],
    )

    def choice() -> None:
        if waiting:
            raise RerunException(waiting.pop(0))
        made.append("chosen")

    try:
        shell.uncut(choice)()
    except RerunException as cut:
        sent.append(cut.rerun_data.query_string)
    assert (made, sent) == (["chosen"], ["second"])  # the newer one knows of the older


def test_an_older_address_is_gone_back_to_once_every_browser_has_heard(
    serve, small_bundle, monkeypatch
):
    """Streamlit does not say that it was Back where another request came with it."""
    monkeypatch.setattr(shell, "UNHEARD_S", 0.0)
    serve(small_bundle)
    at = open_page("neuron", layer="second@mean", unit="3", bundle="small")
    older = dict(at.query_params)
    at.button_group(key="_show").set_value("random").run()
    assert at.query_params["show"] == "random"
    at.query_params.clear()
    at.query_params.update(older)
    at.run()
    assert "show" not in at.query_params
    assert at.button_group(key="_show").value != "random"


class Cutting(dict):
    """A session of which the first looks end whoever looks."""

    n_left = 0

    def look(self, *args: Any) -> bool:
        if self.n_left:
            self.n_left -= 1
            raise RerunException(RerunData(query_string=str(self.n_left)))
        return True

    def __getitem__(self, key: str) -> Any:
        self.look()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.look()
        super().__setitem__(key, value)

    def get(self, *args: Any) -> Any:
        self.look()
        return super().get(*args)

    def pop(self, *args: Any) -> Any:
        self.look()
        return super().pop(*args)

    def update(self, *args: Any) -> None:
        self.look()
        super().update(*args)


@pytest.mark.parametrize("n_cuts", range(8))
@pytest.mark.parametrize("is_refused", [False, True])
def test_what_a_click_keeps_is_kept_once_however_often_it_is_cut_off(
    monkeypatch, small_bundle, n_cuts, is_refused
):
    """Cut off at its look at who may, at the result, as it is dropped, or at the address."""
    session, kept, told = Cutting(fix_name=" mine "), [], []

    def add_fix(*arguments: Any) -> None:
        if is_refused:
            raise InputError("no such layer")
        kept.append(arguments)

    monkeypatch.setattr(trying.st, "session_state", session)
    monkeypatch.setattr(running.st, "session_state", session)
    monkeypatch.setattr(running.access, "may", session.look)
    monkeypatch.setattr(trying, "fresh", lambda *args: session.look() and "a result")
    monkeypatch.setattr(trying, "add_fix", add_fix)
    monkeypatch.setattr(running, "set_params", lambda **said: session.look() and told.append(said))
    session.n_left = n_cuts
    bundle = Bundle.open(small_bundle)
    cut = contextlib.suppress(RerunException) if n_cuts else contextlib.nullcontext()
    with cut:
        trying._keep(bundle, "small")
    if is_refused:
        assert (kept, told, dict.get(session, "fix_not_kept")) == ([], [], "no such layer")
        return
    assert kept == [(bundle.path, "small", "mine", "a result")]
    assert told == [{"fix": "mine", "hold": ""}]


@pytest.mark.parametrize("n_cuts", range(6))
def test_curves_are_kept_once_however_often_the_click_is_cut_off(monkeypatch, small_bundle, n_cuts):
    session, kept, told = Cutting(), [], []
    left = SimpleNamespace(layer="last", stored="curves")
    monkeypatch.setattr(running.st, "session_state", session)
    monkeypatch.setattr(running.access, "may", session.look)
    monkeypatch.setattr(curves, "fresh", lambda *args: session.look() and left)
    monkeypatch.setattr(curves, "add_curves", lambda *given: kept.append(given))
    monkeypatch.setattr(running, "set_params", lambda **said: session.look() and told.append(said))
    session.n_left = n_cuts
    bundle = Bundle.open(small_bundle)
    cut = contextlib.suppress(RerunException) if n_cuts else contextlib.nullcontext()
    with cut:
        curves._keep(bundle, "small")
    assert kept == [(bundle.path, "small", "last", "curves")]
    assert told == [{"curves": "last"}]


@pytest.mark.parametrize("n_cuts", range(4))
def test_a_build_is_forgotten_once_however_often_the_click_is_cut_off(monkeypatch, n_cuts):
    session, forgotten, told = Cutting(), [], []
    monkeypatch.setattr(job.access, "may", session.look)
    monkeypatch.setattr(job, "find", lambda name: session.look() and name)
    monkeypatch.setattr(job.jobs, "forget", forgotten.append)
    monkeypatch.setattr(job, "set_params", lambda **said: session.look() and told.append(said))
    session.n_left = n_cuts
    cut = contextlib.suppress(RerunException) if n_cuts else contextlib.nullcontext()
    with cut:
        job.forget("mine")
    assert (forgotten, told) == (["mine"], [{"job": ""}])


@pytest.mark.parametrize("n_cuts", range(5))
def test_a_process_that_a_click_starts_is_one_however_often_the_click_is_cut_off(
    monkeypatch, tmp_path, small_bundle, n_cuts
):
    """Streamlit may end the callback at each look into the session: before the start and after."""

    session, started = Cutting(), []
    monkeypatch.setattr(running.st, "session_state", session)
    monkeypatch.setattr(running.access, "may", lambda permission: True)
    monkeypatch.setattr(running.store, "start_folder", lambda: tmp_path)
    monkeypatch.setattr(
        running.jobs, "start_trial", lambda *args: started.append(args) or f"{len(started)}"
    )
    session.n_left = n_cuts
    cut = contextlib.suppress(RerunException) if n_cuts else contextlib.nullcontext()
    with cut:
        running.start("fix", Bundle.open(small_bundle), "small", [], {})
    assert len(started) == 1
    assert list(session.values()) == ["1"]
