import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra import storage


def test_bytes_come_back_and_nothing_partial_stays(tmp_path):
    uri = storage.join(str(tmp_path), "deep/ünï cødé", "a.bin")
    storage.write_bytes(uri, b"one")
    storage.write_bytes(uri, b"two")
    assert storage.read_bytes(uri) == b"two"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.bin"]


def test_file_uris_and_memory_are_storage_too(tmp_path):
    for uri in (f"file://{tmp_path}/x.json", "memory://test/x.json"):
        storage.write_json(uri, {"a": [1, 2]})
        assert storage.exists(uri)
        assert storage.read_json(uri) == {"a": [1, 2]}
        assert storage.list_files(uri.rpartition("/")[0], (".json",)) == ["x.json"]
        storage.remove(uri)
        assert not storage.exists(uri)


@pytest.mark.parametrize("where", ["{}", "file://{}", "memory://pieces"])
def test_what_is_written_in_pieces_is_there_whole_or_not_at_all(tmp_path, where):
    uri = storage.join(where.format(tmp_path), "deep", "a.bin")
    with storage.writer(uri) as file:
        file.write(b"one, ")
        assert not storage.exists(uri)
        file.write(b"two")
    assert storage.read_bytes(uri) == b"one, two"
    with pytest.raises(TypeError), storage.writer(uri) as file:
        file.write("no bytes")
    assert storage.read_bytes(uri) == b"one, two"
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"a.bin"}


def test_listing_is_sorted_relative_and_without_hidden_files(tmp_path):
    for name in ("b.PNG", "a/c.png", ".hidden.png", "a/d.txt"):
        storage.write_bytes(f"{tmp_path}/{name}", b"")
    assert storage.list_files(str(tmp_path), (".png",)) == ["a/c.png", "b.PNG"]
    with pytest.raises(FileNotFoundError, match="nothing at"):
        storage.list_files(f"{tmp_path}/none")


@pytest.mark.parametrize("where", ["{}", "memory://hidden"])
def test_what_lies_in_hidden_folders_is_left_out_unless_the_folder_is_asked_for(tmp_path, where):
    root = where.format(tmp_path)
    for name in ("a/b.png", ".ipynb_checkpoints/b.png", "a/.thumbnails/x/b.png", "@eaDir/b.png"):
        storage.write_bytes(f"{root}/{name}", b"x")
    assert storage.list_files(root) == ["a/b.png"]
    assert storage.list_files(f"{root}/a/.thumbnails") == ["x/b.png"]


@pytest.mark.parametrize("where", ["{}", "file://{}", "memory://one"])
def test_a_file_is_no_folder(tmp_path, where):
    uri = f"{where.format(tmp_path)}/a.png"
    storage.write_bytes(uri, b"x")
    with pytest.raises(ValueError, match=r"a\.png is a file, and a folder is asked for"):
        storage.find(uri)


def test_a_name_that_is_not_utf8_is_refused_and_one_that_is_not_asked_for_is_not(tmp_path):
    for name in (b"\xff.txt", b"a.png"):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).touch()
    assert storage.list_files(str(tmp_path), (".png",)) == ["a.png"]
    with pytest.raises(ValueError, match=r"1 names below .* not UTF-8, b'\\xff.txt' for one"):
        storage.find(str(tmp_path))


def test_a_name_may_be_as_long_as_the_disk_takes(tmp_path):
    storage.write_bytes(f"{tmp_path}/{'n' * 251}.png", b"x")
    assert [len(path) for path in storage.find(str(tmp_path))] == [255]


def test_where_a_location_lies_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for uri, folder, expected in (
        ("a/b/c", "a", "b/c"), (f"{tmp_path}/a/b/", "./a", "b"), ("a", "a/", ""), ("ab", "a", None),
        (f"file://{tmp_path}/link/x", "a", "x"), ("s3://k/a/b", "s3://k/a", "b"),
        ("s3://k/a", "a", None), ("a", "a/b", None),
    ):  # fmt: skip
        assert storage.below(uri, folder) == expected, (uri, folder)


def test_folders_go_up_and_come_down(tmp_path):
    storage.write_bytes(f"{tmp_path}/a/b/c.txt", b"x")
    storage.upload_folder(tmp_path / "a", "memory://models/m")
    with storage.local_folder("memory://models/m") as folder, open(f"{folder}/b/c.txt") as file:
        assert file.read() == "x"


def test_a_folder_takes_the_place_of_another_and_is_whole_with_its_last_file(tmp_path, monkeypatch):
    for name in ("a/index.json", "a/new/w.bin", "there/index.json", "there/old/w.bin"):
        storage.write_bytes(f"{tmp_path}/{name}", name.encode())
    there, written = f"{tmp_path}/there", []

    def write(uri, data, real=storage.write_bytes):
        written.append((uri.removeprefix(there), sorted(storage.find(there))))
        real(uri, data)

    monkeypatch.setattr(storage, "write_bytes", write)
    storage.upload_folder(tmp_path / "a", there, last="index.json")
    assert written == [("/new/w.bin", []), ("/index.json", ["new/w.bin"])]
    assert storage.list_files(there) == ["index.json", "new/w.bin"]


def test_relative_paths_become_absolute_and_a_jobs_copy_is_warned_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("out/x") == f"{tmp_path}/out/x"
    assert storage.absolute("s3://bucket/x") == "s3://bucket/x"
    copy = tmp_path / "runtime_resources/working_dir_files/_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    storage.absolute("out/x")
    assert "Give an absolute path or a URI" in capsys.readouterr().err


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    program = (
        "import os, signal; from infra import storage\n"
        f"with storage.writer({str(tmp_path / 'deep/a.png')!r}) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    (left,) = (tmp_path / "deep").iterdir()
    assert (left.name[0], left.suffix) == (".", ".partial")
    (tmp_path / "deep/.hidden").touch()
    storage.write_bytes(f"{tmp_path}/deep/b.partial", b"a user's")
    storage.remove_partials(f"file://{tmp_path}")
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == [".hidden", "b.partial"]


@pytest.mark.parametrize(
    "name",
    ["..", "../a", "a/../../b", "a/..", "..\\a", "a\\..\\..\\b", "%2e%2e/a", "a/%2E%2e/b",
     "%252e%252e/a", "a\0b", "/../a"],
)  # fmt: skip
def test_a_name_that_leads_out_becomes_no_place(name, tmp_path):
    for root in (str(tmp_path), "s3://bucket/key", "http://host/photos"):
        with pytest.raises(ValueError, match="leads out of"):
            storage.join(root, "masks", name)


@pytest.mark.parametrize("name", ["a..b", "...", "..a/b..", "100%/a", "%2e/a", "a\\b", "%zz"])
def test_names_that_only_look_so_are_places(name, tmp_path):
    assert storage.join(str(tmp_path), name) == f"{tmp_path}/{name}"


def test_a_listing_that_leads_out_is_left_out_and_said(tmp_path, capsys):
    """A web server's page may link anywhere."""
    photos = tmp_path / "site/photos"
    photos.mkdir(parents=True)
    for file in (photos / "a.png", tmp_path / "evil.png"):
        file.write_bytes(b"png")
    (photos / "index.html").write_text(
        '<a href="a.png">a</a><a href="../../evil.png">b</a><a href="%2e%2e/evil.png">c</a>'
        '<a href="http://elsewhere.invalid/c.png">d</a>'
    )

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = storage.find(f"http://127.0.0.1:{server.server_port}/photos/", (".png",))
    finally:
        server.shutdown()
        server.server_close()
    assert list(found) == ["a.png"]
