from __future__ import annotations

import json

import pytest

from orchestrator.cluster.secrets import ENV_SECRET_EXPERIMENT, MASK, Masker, is_secret


@pytest.mark.parametrize(
    "name",
    ["API_TOKEN", "TOKEN", "hf_token", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "APIKEY", "AWS_ACCESS_KEY_ID",
     "GOOGLE_APPLICATION_CREDENTIALS", "SECRETS", "MY_SECRET_THING", "PGPASSWD", "KEY2", "TOKEN_1"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["PATH", "TOKENIZERS_PARALLELISM", "KEYBOARD", "TF_CONFIG", "KERAS_BACKEND"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret(name)
    assert is_secret(name, [name]), "it is listed"


def test_values_are_masked_wherever_they_stand() -> None:
    env = {"API_TOKEN": "abc.def*1", "OTHER_TOKEN": "abc.def*1-longer", "NAME": "digits", "PIN": "123456"}
    masker = Masker([env], ["PIN"])
    assert masker.environment({**env, "URL": "https://abc.def*1@host", "EMPTY_KEY": ""}) == {
        "API_TOKEN": MASK,
        "OTHER_TOKEN": MASK,
        "NAME": "digits",
        "PIN": MASK,
        "URL": f"https://{MASK}@host",
        "EMPTY_KEY": "",
    }
    assert masker.text("sent abc.def*1-longer and 123456") == f"sent {MASK} and {MASK}"
    assert masker.text("abcXdef*1") == "abcXdef*1", "it is no pattern"


def test_secrets_among_the_parameters_of_an_experiment_count() -> None:
    params = {
        "api_token": "from-params",
        "keys": ["first-one"],
        "deep": {"password": "deep-down"},
        "note": "plain-note",
    }
    masker = Masker([{ENV_SECRET_EXPERIMENT: json.dumps({"params": params})}])
    assert masker.text("from-params first-one deep-down plain-note") == f"{MASK} {MASK} {MASK} plain-note"
    assert Masker([{ENV_SECRET_EXPERIMENT: "{"}]).text("{") == "{"


def test_short_values_do_not_garble_texts() -> None:
    masker = Masker([{"KEY": "1"}])
    assert masker.text("step 1") == "step 1"
    assert masker.environment({"KEY": "1"}) == {"KEY": MASK}


def test_json_is_masked_by_key_and_content() -> None:
    masker = Masker([{"TOKEN": "hunter22"}])
    value = {
        "api_key": "x",
        "steps": 5,
        "list": ["hunter22", None],
        "why": {"text": "got hunter22"},
        "key": 3,
    }
    assert masker.plain(value) == {
        "api_key": MASK, "steps": 5, "list": [MASK, None], "why": {"text": f"got {MASK}"}, "key": 3,
    }  # fmt: skip
    assert Masker().plain(value)["why"] == value["why"]
