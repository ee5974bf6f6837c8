# SPDX-License-Identifier: MIT
"""Images built from this tree's Dockerfile; everything here is skipped, with a word, where no container can be run."""
import json

import container
import pytest


def built(target):
    try:
        container.need_engine()
        return container.build(target)
    except container.Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def image():
    return built("comma")


@pytest.fixture(scope="session")
def haproxy_image():
    return built("haproxy")


@pytest.fixture(scope="session")
def prometheus_image():
    return built("prometheus")


@pytest.fixture
def run(image):
    """Containers of the server with options and environment, removed at the end of the test."""
    started = []

    def start(*options, **more):
        started.append(container.Container(image, *options, **more))
        return started[-1]

    yield start
    for c in started:
        c.remove()


@pytest.fixture(scope="session")
def pizza():
    return (container.SAMPLES / "pizza.png").read_bytes()


@pytest.fixture(scope="session")
def golden():
    """What a plain numpy reading of the embedded model gives."""
    return json.loads((container.ROOT / "models" / "emoji" / "golden.json").read_text())
