"""Datasets in S3, over HTTP: found, read once, and known again without being read."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorasum.config.data import DataConfig
from lorasum.data.files.s3 import S3Login
from lorasum.data.sources import open_sources
from lorasum.errors import DataError, LorasumError
from lorasum.system.files import maker_lock


def put(key: str, *numbers: int) -> None:
    rows = [{"dialogue": f"A: {number}", "summary": f"S{number}"} for number in numbers]
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    client().put_object(Bucket="chats", Key=key, Body=body)


def client() -> Any:
    import boto3

    return boto3.client("s3")


@pytest.fixture
def bucket(aws: str) -> str:
    client().create_bucket(Bucket="chats", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    put("day/a.jsonl", 1)
    put("day/b.jsonl", 2)
    put("day/deep/c.jsonl", 3)
    client().put_object(Bucket="chats", Key="day/readme.txt", Body=b"no rows")
    return aws


def found(uri: str) -> list[str]:
    source = open_sources(DataConfig(train=uri, test=uri))["train"]
    return [where for where, _ in source.rows(lambda share: None)]


def test_an_object_a_folder_and_a_pattern_are_read(bucket: str) -> None:
    assert found("s3://chats/day/a.jsonl") == ["a.jsonl:1"]
    assert found("s3://chats/day") == found("s3://chats/day/") == ["a.jsonl:1", "b.jsonl:1"]
    assert found("s3://chats/day/*.jsonl") == ["a.jsonl:1", "b.jsonl:1"]
    assert found("s3://chats/*/[b-z].jsonl") == ["b.jsonl:1"]


def test_the_names_of_objects_tell_their_splits(bucket: str) -> None:
    for number, key in enumerate(("train.jsonl", "test.jsonl", "extra.jsonl"), 3):
        put(f"named/{key}", number)
    client().put_object(Bucket="chats", Key="day/metadata.json", Body=b'{"title": "Chats"}')
    said: list[str] = []
    data = DataConfig(train="s3://chats/named/", test="s3://chats/named")
    sources = open_sources(data, lambda name, text: said.append(f"{name}: {text}"))
    assert [(split, source.name) for split, source in sources.items()] == [
        ("train", "train.jsonl"),
        ("test", "test.jsonl"),
    ]
    assert said[0].startswith(
        "named: took train.jsonl for data.train, and left extra.jsonl, test.jsonl; name extra.jsonl"
    )
    put("beside/chats.jsonl", 1)
    put("beside/test/0.jsonl", 2)
    put("beside/.train/0.jsonl", 3)
    with pytest.raises(DataError, match=r"a folder test for data\.test, and chats\.jsonl beside it") as caught:
        found("s3://chats/beside/")
    assert caught.value.hint == "name one of them, such as s3://chats/beside/test, in data.test"
    assert found("s3://chats/named/*.jsonl") == ["extra.jsonl:1", "test.jsonl:1", "train.jsonl:1"]
    assert found("s3://chats/day") == ["a.jsonl:1", "b.jsonl:1"]


def test_an_object_is_fetched_once_and_again_when_it_has_changed(bucket: str, tmp_path: Path) -> None:
    uri = "s3://chats/day/a.jsonl"
    source = open_sources(DataConfig(train=uri, test=uri))["train"]
    identity = source.identity()
    assert not (tmp_path / "home" / "downloads").exists(), "its identity is in the listing"
    list(source.rows(lambda share: None))
    [file] = (tmp_path / "home" / "downloads").rglob("a.jsonl")
    before = file.stat().st_mtime_ns
    list(source.rows(lambda share: None))
    assert file.stat().st_mtime_ns == before
    put("day/a.jsonl", 1, 2)
    assert open_sources(DataConfig(train=uri, test=uri))["train"].identity() != identity
    assert found(uri) == ["a.jsonl:1", "a.jsonl:2"]


@pytest.mark.parametrize(
    ("uri", "kind", "said"),
    [
        ("s3://chats/night/", DataError, "nothing of a known type at s3://chats/night/"),
        ("s3://chats/day/readme.txt", DataError, "the type of readme.txt is not known"),
        ("s3://no-such-bucket-here/a.jsonl", LorasumError, "cannot list s3://no-such-bucket-here/a.jsonl"),
    ],
)
def test_what_is_not_there_is_one_line(bucket: str, uri: str, kind: type[LorasumError], said: str) -> None:
    with pytest.raises(kind) as error:
        found(uri)
    assert said in error.value.message
    assert error.value.hint


def test_what_killed_downloads_left_is_removed(bucket: str, tmp_path: Path) -> None:
    downloads = tmp_path / "home" / "downloads"
    other = downloads / ".0123456789abcdef.partial" / "b.jsonl.0A1B2C3D"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"half of it")
    under_way = downloads / ".fedcba9876543210.partial"
    under_way.mkdir()
    with maker_lock(downloads / "fedcba9876543210" / "c.jsonl", lambda: None):
        assert found("s3://chats/day/a.jsonl") == ["a.jsonl:1"]
        assert list(downloads.rglob("*.partial")) == [under_way]


def test_the_profile_and_region_of_the_config_are_used(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "credentials"
    keys.write_text("[chats]\naws_access_key_id = testing\naws_secret_access_key = testing\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    data = DataConfig(train="s3://chats/day/a.jsonl", test="s3://chats/day/b.jsonl")
    with pytest.raises(LorasumError, match="credentials"):
        open_sources(data)
    source = open_sources(data, login=S3Login("chats", "eu-west-1"))["train"]
    assert len(list(source.rows(lambda share: None))) == 1
    with pytest.raises(LorasumError, match="nobody") as error:
        open_sources(data, login=S3Login("nobody"))
    assert "list-profiles" in error.value.hint
