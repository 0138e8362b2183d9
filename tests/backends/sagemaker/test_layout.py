"""A run's folders in S3: what is written lies in one of them, and teardown knows them all."""

from lorasum.backends.sagemaker.layout import Folder, S3Layout

LAYOUT = S3Layout("box", "lorasum", "chats")


def test_teardown_deletes_every_folder_there_is() -> None:
    assert set(LAYOUT.deletable(data=True, artifacts=True)) == {LAYOUT.uri(folder) for folder in Folder}
    assert LAYOUT.deletable(data=True, artifacts=False) == ["s3://box/lorasum/chats/data/"]
    assert LAYOUT.uri(Folder.DATA) not in LAYOUT.deletable(data=False, artifacts=True)
    assert LAYOUT.deletable(data=False, artifacts=False) == []


def test_no_folder_of_another_run_begins_with_ours() -> None:
    others = [S3Layout("box", "lorasum", run).uri(Folder.DATA) for run in ("chats-2", "chat", "chats--base")]
    assert not [other for other in others for ours in LAYOUT.deletable(True, True) if other.startswith(ours)]
