"""The packed goldens: unpacking gives the same bytes, and every change of a byte is noticed."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path

import pytest

from validation import csvpack, goldens
from validation.errors import HarnessError
from validation.files import GOLDEN, sha256
from validation.goldens import Clip, Golden, Store
from validation.tests.conftest import make_csv


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two goldens of one clip, the second a repetition of the first."""
    video = tmp_path / "videos" / "face.avi"
    video.parent.mkdir()
    video.write_bytes(b"not really a video")
    made = Store(tmp_path / "golden")
    made.folder.mkdir()
    made.programs["o3"] = {"program": "FeatureExtraction", "version": "2.2.0", "environment": {"LEVEL": "3"}}
    common = {"program": "o3", "model": "model/main.txt", "switches": "-2Dfp -aus"}
    made.configurations["clnf"] = {**common, "settings": {"landmarks": "clnf"}}
    made.configurations["clnf-rebuild"] = {**common, "repeats": "clnf", "as": "rebuild"}
    made.clips["face"] = Clip("face", "face.avi", sha256(video.read_bytes()), video.stat().st_size, "CC0", "one")
    made.put("clnf", "face", make_csv().encode())
    made.put("clnf-rebuild", "face", make_csv(seed=2, noise=0.2).encode())
    made.save()
    return made


class TestPack:
    def test_round_trip_alone_and_against_a_base(self):
        base, text = make_csv().encode(), make_csv(seed=2, noise=0.2).encode()
        alone, beside = csvpack.pack(text), csvpack.pack(text, base)
        assert csvpack.unpack(alone) == text
        assert csvpack.unpack(beside, base) == text
        assert len(beside) < len(alone) < len(text) / 3

    @pytest.mark.parametrize(
        "cells",
        [
            ["-0.0", "0.0"],
            ["nan", "1.5"],
            ["-30709420.0", "1.0"],
            ["007", "1"],
            ["99999999999999.0", "0.1"],
            ["", "1.0"],
        ],
    )
    def test_odd_values_survive(self, cells):
        text = ("frame,a\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))).encode()
        assert csvpack.unpack(csvpack.pack(text)) == text

    def test_a_base_with_other_columns_and_rows(self):
        base, text = b"frame,x\n1,1.0\n2,2.0\n", b"frame,y,x\n1,5,1.1\n2,6,2.1\n3,7,3.1\n"
        assert csvpack.unpack(csvpack.pack(text, base), base) == text

    @pytest.mark.parametrize("text", [b"a,b\n1,2", b"a,b\n1\n", "a\n\u00e9\n".encode()])
    def test_what_cannot_be_packed_is_refused(self, text):
        with pytest.raises(HarnessError, match="cannot pack"):
            csvpack.pack(text)

    def test_the_wrong_base_is_refused(self):
        base, text = make_csv().encode(), make_csv(seed=2, noise=0.2).encode()
        packed = csvpack.pack(text, base)
        for wrong in (None, text):
            with pytest.raises(HarnessError, match="another base"):
                csvpack.unpack(packed, wrong)

    def test_damage_is_noticed(self):
        packed = csvpack.pack(make_csv().encode())
        with pytest.raises(HarnessError, match="not a packed CSV"):
            csvpack.unpack(packed[1:])
        for damaged in (packed[:-20], packed[:100] + bytes([packed[100] ^ 1]) + packed[101:]):
            with pytest.raises(HarnessError, match="damaged"):
                csvpack.unpack(damaged)

    def test_another_text_under_the_right_digest_is_noticed(self):
        packed = csvpack.pack(b"frame,a\n1,2.0\n")
        body = lzma.decompress(packed[len(csvpack.MAGIC) :]).replace(b'"decimals":[0,1]', b'"decimals":[1,0]')
        with pytest.raises(HarnessError, match="does not unpack to the bytes"):
            csvpack.unpack(csvpack.MAGIC + lzma.compress(body))


class TestStore:
    def test_what_was_put_comes_back(self, store):
        read = goldens.load(store.folder)
        assert read.csv(read.get("clnf", "face")) == make_csv().encode()
        assert list(read.repetitions(read.get("clnf", "face"))) == ["rebuild"]
        assert read.get("clnf-rebuild", "face").base == "clnf/face"
        assert goldens.problems(read) == []

    def test_a_changed_byte_of_a_golden_fails(self, store):
        path = store.folder / "clnf" / "face.csv.pack"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        found = goldens.problems(goldens.load(store.folder))
        # The repetition is packed against the changed one, so it cannot be read either.
        assert len(found) == 2 and all("face.csv.pack: its bytes are not those of the manifest" in p for p in found)

    def test_a_missing_golden_fails(self, store):
        (store.folder / "clnf-rebuild" / "face.csv.pack").unlink()
        assert "cannot be read" in goldens.problems(goldens.load(store.folder))[0]

    def test_a_golden_that_no_test_uses_fails(self, store):
        store.configurations["other"] = {"program": "o3", "model": "m", "switches": ""}
        store.put("other", "face", make_csv(4).encode())
        assert any("no test uses it" in p for p in goldens.problems(store))

    def test_a_file_that_is_not_listed_fails(self, store):
        shutil.copy(store.folder / "clnf" / "face.csv.pack", store.folder / "clnf" / "stray.csv.pack")
        assert any("stray.csv.pack: not in the manifest" in p for p in goldens.problems(store))

    def test_other_numbers_of_rows_fail(self, store):
        store.goldens[0] = Golden(**{**vars(store.goldens[0]), "rows": 7})
        assert any("60 rows, the manifest says 7" in p for p in goldens.problems(store))

    def test_an_empty_manifest_fails(self, store):
        store.goldens.clear()
        assert "the manifest lists no golden" in goldens.problems(store)

    def test_a_changed_clip_fails(self, store, tmp_path):
        video = tmp_path / "videos" / "face.avi"
        assert goldens.clip_problems(store, {"face": video}) == []
        video.write_bytes(b"another video")
        assert "bytes are not those" in goldens.clip_problems(store, {"face": video})[0]

    def test_what_cannot_be_packed_is_stored_as_it_is(self, store):
        text = make_csv(3).replace("\n", "\r\n").replace(",", ", ").encode()
        golden = store.put("clnf", "face", text + b"")
        assert golden.file.endswith((".csv", ".pack")) and store.csv(golden) == text

    @pytest.mark.parametrize("change", [{"schema": 99}, {"goldens": [{"clip": "x"}]}, {"clips": {"a": {"b": 1}}}])
    def test_a_manifest_of_another_form_is_refused(self, store, change):
        path = store.folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(HarnessError, match=r"manifest\.json"):
            goldens.load(store.folder)

    def test_an_unknown_configuration_names_the_known_ones(self, store):
        with pytest.raises(HarnessError, match=r"known: clnf$"):
            store.find("nonsense")


class TestShipped:
    """What lies in ``golden/``."""

    def test_one_golden_of_every_configuration_unpacks(self):
        store = goldens.load()
        smallest = {}
        for golden in store.goldens:
            if golden.csv_bytes < smallest.get(golden.configuration, golden).csv_bytes + 1:
                smallest[golden.configuration] = golden
        assert set(smallest) == set(store.configurations)
        for golden in smallest.values():
            assert len(store.table(golden).values) == golden.rows

    def test_every_packed_file_has_the_digest_of_the_manifest(self):
        store = goldens.load()
        assert len(store.goldens) >= 114
        for golden in store.goldens:
            assert sha256((store.folder / golden.file).read_bytes()) == golden.packed_sha256
            assert golden.clip in store.clips and golden.configuration in store.configurations

    def test_the_size_limit(self):
        assert sum(path.stat().st_size for path in GOLDEN.rglob("*.pack")) < 12e6

    def test_every_clip_with_a_public_source_names_a_commit_and_a_licence(self):
        for clip in goldens.load().clips.values():
            assert clip.licence and len(clip.sha256) == 64
            assert clip.shipped or (len(clip.source["commit"]) == 40 and clip.source["repository"].count("/") == 1)
