"""Checkpoints written from checkpoints, file by file and tensor by tensor, never in place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from hwmodel.errors import UserError
from nmsim.formats.beside import check_writable, replacing
from nmsim.formats.safetensors import writing
from nmsim.formats.shards import INDEX_SUFFIX, ONNX_SUFFIX
from nmsim.formats.tensors import Sink, Source, TensorSpec, blocks

WriteTensor = Callable[[str, Sink], None]


def rewrite(
    source: Source,
    target: Path,
    specs: Mapping[str, Mapping[str, TensorSpec]],
    metadata: Mapping[str, str],
    write: WriteTensor,
) -> None:
    """Write `target` with the tensors `specs[name]` in place of each one of `source`; `write(name, writer)` fills one.

    Shards keep their names, in a new folder under a new index `target`; a single file becomes `target`. Every file is
    written beside and renamed, the index last.
    """
    if target.suffix == ONNX_SUFFIX:
        _rewrite_onnx(source, target, {part: spec for parts in specs.values() for part, spec in parts.items()}, write)
        return
    names = _targets(source, target)
    for file, tensors in source.files.items():
        inside = {part: spec for name in tensors for part, spec in specs[name].items()}
        with writing(names[file], inside, metadata) as writer:
            for name in tensors:
                write(name, writer)
    if target.name.endswith(INDEX_SUFFIX):
        _write_index(target, source, specs)


def _rewrite_onnx(source: Source, target: Path, specs: Mapping[str, TensorSpec], write: WriteTensor) -> None:
    from nmsim.formats import onnx_io  # noqa: PLC0415 - onnx is an extra

    model = onnx_io.graph_of(specs)
    if isinstance(source, onnx_io.OnnxSource) and specs == source.specs:
        model = source.model
    with onnx_io.writing(target, model, specs) as writer:
        for name in source.specs:
            write(name, writer)


def check_target(path: Path, target: Path) -> None:
    """Raise `UserError` where `target` can't be written, or writing it would touch what is read, or other shards."""
    if target.resolve() == path.resolve():
        raise UserError(f"{target}: would replace the file that is read; name another")
    if not target.name.endswith(INDEX_SUFFIX):
        if path.name.endswith(INDEX_SUFFIX) and target.suffix != ONNX_SUFFIX:
            raise UserError(f"{target}: give OTHER_FOLDER/{path.name} as output; shards stay shards")
        check_writable(target)
    elif not path.name.endswith(INDEX_SUFFIX):
        raise UserError(f"{target}: {path.name} is one file, and stays one; give a name such as pruned.safetensors")
    elif target.exists() or target.parent.resolve() == path.parent.resolve():
        raise UserError(f"{target}: several files can't be replaced at once; name a new folder")


def _targets(source: Source, target: Path) -> dict[str, Path]:
    if target.name.endswith(INDEX_SUFFIX):
        _make_folder(target.parent)
        names = {file: target.parent / file for file in source.files}
        for name in names.values():
            if name.exists():
                raise UserError(f"{name}: exists, and several files can't be replaced at once; name a new folder")
        return names
    return dict.fromkeys(source.files, target)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be made ({os.strerror(error.errno or 0)}); name another folder") from None


def _write_index(path: Path, source: Source, specs: Mapping[str, Mapping[str, TensorSpec]]) -> None:
    weight_map = {part: file for file, names in source.files.items() for name in names for part in specs[name]}
    total = sum(spec.nbytes for parts in specs.values() for spec in parts.values())
    table = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    with replacing(path) as file:
        file.write(json.dumps(table, indent=2).encode())


def copy_tensor(source: Source, name: str, writer: Sink) -> None:
    """Copy one tensor as it is, in blocks."""
    spec = source.specs[name]
    if not spec.shape:
        writer.put(name, source.read(name))
        return
    for start, stop in blocks(spec):
        writer.put(name, source.rows(name, start, stop), start)


def chosen(names: list[str], include: tuple[str, ...], exclude: tuple[str, ...]) -> set[str]:
    """The names that match a glob of `include` and none of `exclude`. Raises `UserError` for a glob without a match."""
    if not names:
        raise UserError("the file holds no tensors of a type that is read; is it the right one?")
    for glob in (*include, *exclude):
        if not any(matches(name, glob) for name in names):
            raise UserError(f'"{glob}" matches no tensor; see their names with nmsim check')
    return {
        name
        for name in names
        if any(matches(name, glob) for glob in include) and not any(matches(name, glob) for glob in exclude)
    }


def matches(name: str, glob: str) -> bool:
    """Whether a name is the glob itself, brackets and all, or what it stands for."""
    return name == glob or fnmatchcase(name, glob)
