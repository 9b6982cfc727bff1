"""Stations of one honest job: each fixture stops a step later, contracts and ledger agreeing all the way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from protocols.chain import Apply, Assign, DeliverKeys, Post, Ready, Terms

sys.path.insert(0, str(Path(__file__).parent))  # for the modules here that are no tests

from job_author import NONCE, TERMS
from job_twin import Station, Twin


@pytest.fixture
def twin() -> Twin:
    """Everybody registered, nothing posted."""
    twin = Twin()
    twin.found()
    return twin


@pytest.fixture
def terms() -> Terms:
    """Of the stations' job; a module may have others."""
    return TERMS


@pytest.fixture
def opened(twin: Twin, terms: Terms) -> Station:
    """Four of five workers applied."""
    twin.do(twin.requester, Post(terms, NONCE))
    station = Station(twin)
    for worker in twin.crew[:4]:
        twin.do(worker, Apply(station.job))
    return station


@pytest.fixture
def assigned(opened: Station) -> Station:
    opened.twin.wait(TERMS.join_window_s + 1)
    opened.twin.do(opened.twin.delegate, Assign(opened.job))
    return opened


@pytest.fixture
def training(assigned: Station) -> Station:
    twin = assigned.twin
    twin.do(twin.requester, DeliverKeys(assigned.job, (b"a", b"b", b"c")))
    for worker in twin.seats(assigned.job)[1:]:
        twin.do(worker, Ready(assigned.job))
    return assigned


@pytest.fixture
def proving(training: Station) -> Station:
    """Seat 2 took part in the second round only; the challenge is out."""
    twin = training.twin
    twin.do(twin.delegate, twin.commit(training.job, participants=0b011, signers=0b011))
    twin.do(twin.delegate, twin.commit(training.job))
    twin.wait(2)
    return training
