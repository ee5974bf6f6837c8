# SPDX-License-Identifier: MIT
"""POST /classify and /embed: each kind of body, right numbers, many labels, many clients."""
import base64
import concurrent.futures
import json
import struct
import urllib.parse

import pytest
from conftest import FORM, JSON, SAMPLES, form

LABELS = ["dog face", "pizza", "rocket"]


def scores(answer):
    return {r["label"]: (r["score"], r["similarity"]) for r in answer.json["results"]}


def bodies(image, labels):
    """The same request in each way that the contract has."""
    text = base64.b64encode(image).decode()
    query = urllib.parse.urlencode({"labels": ",".join(labels)})
    return {
        "form, comma": ("/classify", form(("image", image), ("labels", ",".join(labels))), FORM),
        "form, newline": ("/classify", form(("labels", "\r\n".join(labels)), ("image", image)), FORM),
        "form, json": ("/classify", form(("image", image), ("labels", json.dumps(labels))), FORM),
        "form, repeated": ("/classify", form(("image", image), *[("labels", l) for l in labels]), FORM),
        "json": ("/classify", json.dumps({"image": text, "labels": labels}).encode(), JSON),
        "json, data URI": ("/classify", json.dumps({"labels": labels, "image": "data:image/png;base64," + text}), JSON),
        "raw, query": ("/classify?" + query, image, {"Content-Type": "image/png"}),
        "raw, repeated": ("/classify?" + "&".join("labels=" + urllib.parse.quote(l) for l in labels), image,
                          {"Content-Type": "image/png"}),
    }


def test_every_kind_of_body_gives_the_same_answer(server, contract, pizza):
    first = None
    for name, (path, body, headers) in bodies(pizza, LABELS).items():
        answer = server.ask("POST", path, body, headers)
        assert answer.status == 200, (name, answer.body)
        contract.check("POST", "/classify", answer.status, answer.headers, answer.body)
        assert [r["label"] for r in answer.json["results"]][0] == "pizza"
        assert answer.json["labels"]["count"] == 3
        first = first or scores(answer)
        for label, (score, similarity) in scores(answer).items():
            assert score == pytest.approx(first[label][0], abs=1e-5), name
            assert similarity == pytest.approx(first[label][1], abs=1e-5), name


def test_results_fall_and_sum_to_one(server, pizza):
    answer = server.classify(pizza, LABELS).json
    found = [r["score"] for r in answer["results"]]
    assert found == sorted(found, reverse=True)
    assert sum(found) == pytest.approx(1, abs=1e-5)
    assert set(answer) == {"model", "results", "labels", "timing_ms"}
    assert set(answer["timing_ms"]) == {"queue", "decode", "image", "text", "total"}
    assert answer["model"] == "emoji"


def test_the_embedded_model_gives_the_golden_scores(server, golden):
    plain, comma = golden
    for image in plain["images"]:
        answer = server.classify((SAMPLES / image["file"]).read_bytes(), plain["classes"])
        found = scores(answer)
        assert [r["label"] for r in answer.json["results"]][:5] == [label for label, _ in image["top5"]]
        for label, score in image["top5"]:
            assert found[label][0] == pytest.approx(score, abs=1e-4)
    for image in comma["images"]:
        picture = (SAMPLES / image["file"]).read_bytes()
        for model, key in [("groups", "comma_top5"), ("emoji", "clip_top5")]:
            answer = server.classify(picture, comma["classes"], model=model)
            assert answer.json["model"] == model
            for label, score in image[key]:
                assert scores(answer)[label][0] == pytest.approx(score, abs=1e-4)


def test_labels_are_counted_as_cached_when_they_are(server, pizza):
    names = ["a name nobody asked for", "another such", "a name nobody asked for"]
    assert server.classify(pizza, names).json["labels"] == {"count": 3, "cached": 0}
    assert server.classify(pizza, names).json["labels"] == {"count": 3, "cached": 3}
    assert server.classify(pizza, names[:2] + ["a third"]).json["labels"] == {"count": 3, "cached": 2}


def test_top_k_cuts_the_list_but_not_the_softmax(server, pizza):
    whole = server.classify(pizza, LABELS).json["results"]
    for k in (1, 2, 3, 100):
        assert [r["label"] for r in server.classify(pizza, LABELS, top_k=k).json["results"]] == \
            [r["label"] for r in whole][:k]
    assert server.classify(pizza, LABELS, top_k=1).json["results"][0]["score"] == pytest.approx(whole[0]["score"])


def test_templates_change_the_text_and_may_be_several(server, pizza):
    one = scores(server.classify(pizza, LABELS))
    same = scores(server.classify(pizza, LABELS, template="a photo of a {}."))
    other = scores(server.classify(pizza, LABELS, template="an icon of {}"))
    both = server.ask("POST", "/classify", form(("image", pizza), ("labels", ",".join(LABELS)),
                                                ("template", "a photo of a {}."), ("template", "an icon of {}")), FORM)
    for label in LABELS:
        assert same[label][1] == pytest.approx(one[label][1], abs=1e-6)
        assert other[label][1] != pytest.approx(one[label][1], abs=1e-4)
        # the mean of two unit vectors, renormalised, is nearer to a third than the further of the two
        assert scores(both)[label][1] > min(one[label][1], other[label][1]) - 1e-6


def test_labels_of_all_scripts_come_back_as_they_were(server, pizza):
    names = ["café", "日本語", "Привет мир", "😀 emoji ❤️", "a, b", 'quo"te', "tab\there", "{}", "<|endoftext|> x", ""]
    answer = server.ask("POST", "/classify",
                        json.dumps({"image": base64.b64encode(pizza).decode(), "labels": names}), JSON)
    assert answer.status == 200, answer.body
    assert sorted(r["label"] for r in answer.json["results"]) == sorted(names)


def test_a_thousand_labels(server, pizza):
    names = [f"thing number {i}" for i in range(1000)]
    answer = server.classify(pizza, names)
    assert answer.status == 200
    assert len(answer.json["results"]) == 1000
    few = scores(server.classify(pizza, names[:3]))
    for name in names[:3]:
        assert scores(answer)[name][1] == pytest.approx(few[name][1], abs=1e-5)


def test_sixty_four_clients_at_once_get_what_one_gets(server, pizza):
    files = sorted(SAMPLES.glob("*.png"))
    alone = [scores(server.classify(f.read_bytes(), LABELS + ["umbrella"])) for f in files]

    def ask(i):
        return server.classify(files[i % len(files)].read_bytes(), LABELS + ["umbrella"])

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        for i, answer in enumerate(pool.map(ask, range(192))):
            assert answer.status == 200, answer.body
            for label, (score, similarity) in scores(answer).items():
                assert score == pytest.approx(alone[i % len(files)][label][0], abs=1e-5)
                assert similarity == pytest.approx(alone[i % len(files)][label][1], abs=1e-5)


def test_features_have_length_one_in_both_encodings(server, contract, golden, pizza):
    plain, _ = golden
    texts = [plain["template"].replace("{}", c) for c in plain["classes"][:8]]
    asked = {"texts": texts}
    answer = server.ask("POST", "/embed", json.dumps(asked), JSON)
    contract.check("POST", "/embed", answer.status, answer.headers, answer.body)
    packed = server.ask("POST", "/embed", json.dumps({**asked, "encoding": "base64"}), JSON).json["features"]
    for row, text, want in zip(answer.json["features"], packed, plain["text_features"]):
        assert row == pytest.approx(want, abs=1e-4)
        assert sum(x * x for x in row) == pytest.approx(1, abs=1e-4)
        assert list(struct.unpack(f"<{len(row)}f", base64.b64decode(text))) == pytest.approx(row, abs=1e-6)
    image = server.ask("POST", "/embed", json.dumps({"image": base64.b64encode(pizza).decode()}), JSON)
    want = next(i["image_feature"] for i in plain["images"] if i["file"] == "pizza.png")
    assert image.json["features"][0] == pytest.approx(want, abs=1e-4)


def test_models_are_listed(server, contract):
    answer = server.ask("GET", "/models")
    contract.check("GET", "/models", answer.status, answer.headers, answer.body)
    assert answer.json["backbone"]["name"] == "emoji"
    assert [a["name"] for a in answer.json["adapters"]] == ["groups"]
