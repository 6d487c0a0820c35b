"""Data sets: fixed splits, a manifest that names the bytes, and one line for a file that is not what it should be."""

from __future__ import annotations

import gzip
import hashlib
import platform
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodel.errors import UserError
from nmsim.data import LOADERS, Batches, Examples, Text, in_order, load
from nmsim.data.dataset import BEGIN, END, PAD, Pairs, pad, sha256_of, symbols_of
from nmsim.data.idx import read_idx
from nmsim.data.images import load_idx
from nmsim.data.mnist1d import generate
from nmsim.data.pairs import load_cmudict
from nmsim.data.places import IDX_FILES, LICENCES, find, is_here, own_files
from nmsim.data.sword import plain, verses


def idx_bytes(array):
    kinds = {"|u1": 0x08, "|i1": 0x09, ">i4": 0x0C, ">f4": 0x0D}
    header = struct.pack(">BBBB", 0, 0, kinds[array.dtype.str], array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx_folder(folder, images, labels):
    for name in IDX_FILES:
        write_idx(folder, name, images if "images" in name else labels)


def write_idx(folder, name, array):
    (folder / name).write_bytes(gzip.compress(idx_bytes(array)))


def numbered(count):
    return Examples(np.arange(count, dtype=np.float32), np.arange(count))


def test_mnist1d_is_the_same_bytes_everywhere():
    assert load("mnist1d").manifest.sha256.startswith("03c3f492c2cf")


def test_mnist1d_is_standardised_and_has_equal_classes():
    inputs, labels = generate(2000, np.random.default_rng(3))
    assert inputs.shape == (2000, 40)
    assert inputs.dtype == np.float32
    assert abs(inputs.mean()) < 1e-3
    assert inputs.std() == pytest.approx(1, abs=1e-3)
    assert np.bincount(labels).tolist() == [200] * 10


def test_a_linear_classifier_reads_mnist1d_as_badly_as_published():
    """arXiv 2011.14439, table 1: logistic regression 32 %; chance is 10 %."""
    data = load("mnist1d")
    (x, y), (x_test, y_test) = ((np.c_[s.inputs, np.ones(len(s))], s.targets) for s in (data.train, data.test))
    weights = np.zeros((41, 10))
    for _ in range(600):
        likely = np.exp(x @ weights)
        weights -= x.T @ (likely / likely.sum(1, keepdims=True) - np.eye(10)[y]) / len(x)
    right = (x_test @ weights).argmax(1) == y_test
    assert 0.25 < right.mean() < 0.40


def test_splits_of_mnist1d_have_the_sizes_asked_for():
    data = load("mnist1d", train=30, validation=20, test=10)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [30, 20, 10]


def test_pydoc_is_the_running_pythons_own_text():
    data = load("pydoc", context=32)
    assert data.manifest.version == platform.python_version()
    whole = b"".join(part.tokens.tobytes() for part in (data.train, data.validation, data.test))
    assert hashlib.sha256(whole).hexdigest() == data.manifest.sha256
    assert b'The "if" statement' in whole


def test_digits_are_whole_and_every_class_is_in_every_split():
    data = load("digits")
    assert sum(map(len, (data.train, data.validation, data.test))) == 1797
    for part in (data.train, data.validation, data.test):
        assert set(part.targets.tolist()) == set(range(10))
        assert part.inputs.max() == 1
    assert data.train.inputs.shape[1:] == (8, 8)


def test_loaded_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        load("digits").train.inputs[0] = 1


def test_loading_twice_reads_once():
    assert load("digits") is load("digits")


def test_every_loader_has_a_licence():
    assert LICENCES.keys() == LOADERS.keys()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("mnist", {}, 'unknown data set "mnist"; did you mean mnist1d?'),
        ("pydoc", {"contxt": 3}, 'data pydoc: unknown option "contxt"; did you mean context?'),
        ("pydoc", {"context": 0}, "context=0"),
        ("pydoc", {"context": 10**6}, "holds no window of context=1000000"),
        ("text", {}, "data text: needs the option path"),
        ("text", {"path": "absent.txt"}, "absent.txt: no such file"),
        ("idx", {"folder": "absent"}, "no such file"),
    ],
)
def test_a_wrong_name_or_option_is_named_with_the_cure(name, options, said):
    with pytest.raises(UserError) as caught:
        load(name, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(1, 40), st.data())
def test_an_epoch_is_each_example_at_most_once(count, data):
    size = data.draw(st.integers(1, count))
    batches = Batches(numbered(count), size, seed=data.draw(st.integers(0, 9)))
    seen = np.concatenate([next(batches)[1] for _ in range(count // size)])
    assert len(set(seen.tolist())) == len(seen) == count // size * size


@given(st.integers(0, 30), st.integers(0, 9))
def test_batches_resume_from_seed_and_position(position, seed):
    straight = Batches(numbered(10), 3, seed)
    for _ in range(position):
        next(straight)
    resumed = Batches(numbered(10), 3, seed, position)
    for _ in range(5):
        np.testing.assert_array_equal(next(straight)[1], next(resumed)[1])


def test_epochs_and_seeds_differ():
    first, second = Batches(numbered(50), 50, 0), Batches(numbered(50), 50, 1)
    a, b, c = next(first)[1], next(first)[1], next(second)[1]
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("size", [0, 11])
def test_a_batch_larger_than_the_split_is_refused(size):
    with pytest.raises(UserError, match=f"batch={size}: this split has 10 examples"):
        Batches(numbered(10), size, 0)


def test_evaluation_sees_every_example_once_in_order():
    seen = [y for _, y in in_order(numbered(10), 4)]
    assert [len(y) for y in seen] == [4, 4, 2]
    assert np.concatenate(seen).tolist() == list(range(10))


@given(st.integers(2, 60), st.integers(1, 10), st.integers(1, 10))
def test_a_text_window_is_followed_by_the_next_tokens(count, context, stride):
    tokens = np.arange(count, dtype=np.uint8)
    if count <= context:
        return
    text = Text(tokens, context, stride)
    x, y = text.take(np.arange(len(text)))
    assert x.shape == (len(text), context)
    np.testing.assert_array_equal(y, x + 1)
    assert y[-1, -1] + stride >= count  # no further window fits


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize(
    "split",
    [
        Examples(np.arange(12.0).reshape(6, 2), np.arange(6)),
        Text(np.arange(23), context=4, stride=3),
        Pairs(np.arange(12).reshape(6, 2), np.arange(18).reshape(6, 3)),
    ],
    ids=["examples", "text", "pairs"],
)
def test_the_first_examples_of_a_split_are_a_split(split, count):
    few = split.first(count)
    assert type(few) is type(split)
    assert len(few) == min(count, len(split))
    for found, there in zip(few.take(np.arange(len(few))), split.take(np.arange(len(few))), strict=True):
        np.testing.assert_array_equal(found, there)


def test_padding_is_taken_off_again():
    rows = pad([[BEGIN, 7, 8, END], [BEGIN, 9, END]], np.uint16)
    assert rows[1].tolist() == [BEGIN, 9, END, PAD]
    assert [symbols_of(row) for row in rows] == [[7, 8], [9]]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 99))
def test_idx_files_read_back(tmp_path_factory, shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path), array)


def test_own_idx_folder_is_loaded(tmp_path):
    images = np.arange(24 * 4, dtype=np.uint8).reshape(24, 2, 2)
    write_idx_folder(tmp_path, images, np.arange(24, dtype=np.uint8) % 3)
    data = load_idx(folder=str(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test), data.outputs) == (22, 2, 24, 3)
    np.testing.assert_allclose(data.test.inputs, images / np.float32(255))
    assert own_files("idx", {"folder": str(tmp_path)}) == [tmp_path / name for name in IDX_FILES]


def test_a_class_that_only_the_test_files_have_is_a_class(tmp_path):
    write_idx_folder(tmp_path, np.zeros((24, 2, 2), np.uint8), np.arange(24, dtype=np.uint8) % 3)
    write_idx(tmp_path, IDX_FILES[3], np.full(24, 7, np.uint8))
    assert load_idx(folder=str(tmp_path)).outputs == 8


@pytest.mark.parametrize(
    ("file", "array", "said"),
    [
        (2, np.zeros((24, 3, 2), np.uint8), r"images of \(3, 2\), those to train on are \(2, 2\); needs one size"),
        (1, np.full(24, -1, np.int8), "its labels are int8 from -1 on; needs whole numbers from 0 on"),
        (1, np.full(24, 0.5, ">f4"), "its labels are float32 from 0.5 on; needs whole numbers"),
    ],
)
def test_idx_files_that_do_not_fit_each_other_are_refused(tmp_path, file, array, said):
    write_idx_folder(tmp_path, np.zeros((24, 2, 2), np.uint8), np.arange(24, dtype=np.uint8) % 3)
    write_idx(tmp_path, IDX_FILES[file], array)
    with pytest.raises(UserError, match=said):
        load_idx(folder=str(tmp_path))


def test_a_set_too_small_for_three_splits_is_refused(tmp_path):
    write_idx_folder(tmp_path, np.zeros((11, 2, 2), np.uint8), np.zeros(11, np.uint8))
    with pytest.raises(UserError, match="data idx: its validation split is empty; give it more examples"):
        load_idx(folder=str(tmp_path))


WHOLE = idx_bytes(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 bytes"),
        (WHOLE[:-1], "17 bytes where sizes (2, 3) need 18"),
        (WHOLE + b"x", "19 bytes where sizes (2, 3) need 18"),
        (WHOLE[:6], "6 bytes"),
        (b"\x89PNG....", "89 50 4e 47, which is not an IDX header"),
        (b"\0\0\x42\x01....", "00 00 42 01"),
        (b"\0", "00, which is not"),
    ],
)
def test_a_damaged_idx_file_is_named_with_place_value_and_cure(tmp_path, content, said):
    path = tmp_path / "train-images"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b[:20] + b"\xff" * 4 + b[24:], lambda b: b"plain", lambda b: b""]
)
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "labels.gz"
    path.write_bytes(damage(gzip.compress(WHOLE * 40)))
    with pytest.raises(UserError, match="bring the file again"):
        read_idx(path)


@given(st.binary(max_size=64))
def test_no_bytes_make_the_idx_reader_do_anything_but_read_or_refuse(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "file"
    path.write_bytes(content)
    try:
        read_idx(path)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017 -- reading is as good an outcome as refusing


def test_images_and_labels_of_different_counts_are_refused(tmp_path):
    write_idx_folder(tmp_path, np.zeros((4, 2, 2), np.uint8), np.zeros(3, np.uint8))
    with pytest.raises(UserError, match=r"needs uint8 images \[count, height, width\] and as many labels"):
        load_idx(folder=str(tmp_path))


def write_module(folder, texts):
    block = b"".join(texts)
    packed = zlib.compress(block)
    for part in ("ot", "nt"):
        offsets = np.cumsum([0, *map(len, texts)])
        index = [struct.pack("<IIH", 0, offset, len(text)) for offset, text in zip(offsets, texts, strict=False)]
        (folder / f"{part}.bzv").write_bytes(b"".join(index))
        (folder / f"{part}.bzs").write_bytes(struct.pack("<III", 0, len(packed), len(block)))
        (folder / f"{part}.bzz").write_bytes(packed)


def test_verses_are_read_and_cleaned(tmp_path):
    write_module(tmp_path, [b"", b"<w lemma='x'>In</w> the <note>a note</note>beginning", b"\xc2\xb6 Y &amp; z"])
    assert verses(tmp_path) == ["", "In the beginning", "Y & z"] * 2


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("nt.bzz", b"not zlib", "nt.bzz: damaged"),
        ("ot.bzv", b"12345", "ot.bzv: 5 bytes, not a multiple of 10"),
        ("ot.bzv", struct.pack("<IIH", 7, 0, 1), "ot.bzv: slot 0 points outside block 7"),
        ("nt.bzs", b"", "nt.bzs: 0 bytes"),
    ],
)
def test_a_damaged_module_is_named(tmp_path, file, content, said):
    write_module(tmp_path, [b"one", b"two"])
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError) as caught:
        verses(tmp_path)
    assert said in str(caught.value)


def test_markup_is_dropped():
    assert plain("<title>Psalm</title>a  <b>c</b>") == "a c"


def test_missing_data_names_the_places_and_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr("nmsim.data.places.roots", lambda: [tmp_path])
    assert not is_here("kjv")
    with pytest.raises(UserError) as caught:
        find("kjv")
    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).endswith("bring it with: nmsim data --fetch kjv")


def test_data_is_looked_for_where_the_environment_says_first(monkeypatch, tmp_path):
    monkeypatch.setenv("NMSIM_DATA", str(tmp_path))
    folder = tmp_path / "cmudict/data"
    folder.mkdir(parents=True)
    (folder / "cmudict.dict").write_text(
        "".join(f"w{i} W AH{i % 3}\n" for i in range(400)) + "a(2) EY1\na AH0 # article\n"
    )
    assert find("cmudict") == folder
    data = load_cmudict()
    assert sum(map(len, (data.train, data.validation, data.test))) == 401
    source, decoder_input, target = data.train.take(np.arange(1))
    assert decoder_input[0, 0] == BEGIN
    assert data.symbols[symbols_of(target[0])[0]] == "W"
    assert data.source_symbols[symbols_of(source[0])[0]] == "w"
    (folder / "cmudict.dict").write_text("alone\n")
    with pytest.raises(UserError, match="line 1: 'alone' has no phonemes"):
        load_cmudict()


def test_the_hash_depends_on_every_part():
    assert sha256_of(b"a", b"b") == sha256_of(b"ab") != sha256_of(b"a")
