"""Registers exported models as versions at MLflow, sets their aliases and tags, and downloads their files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import atomic_directory, read_json_or_none, write_json
from voxflow.tracking.registry import query_store
from voxflow.tracking.store import download_artifacts, get_experiment_id, has_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

CHAMPION, CHALLENGER = "champion", "challenger"
FOLDER = "registered"  # of a run's artifacts: what its model versions are made of, a folder each
MARK = "version.json"
# Tags of versions: registries hold them, so they stay.
_FILES, _DIGEST, _CALIBRATION = "voxflow_files", "voxflow_sha256", "voxflow_trust_sha256"
CALIBRATION_FOLDER = "trust"  # of a version's files; beside export/, which a digest tells from other models


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes:
        name: the registered model, which is called as its workspace.
        number: counts from 1.
        run_id: the MLflow run of its training.
        tags: parity, test part, decision and other short facts.
    """

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of its exported files; empty for a version that was registered by other means."""
        return self.tags.get(_DIGEST, "")


def register_version(
    name: str,
    run_id: str,
    digest: str,
    folders: Mapping[str, Path],
    tags: Mapping[str, str],
    *,
    is_skipped: Callable[[Path], bool] = lambda _: False,
) -> RegisteredVersion:
    """Register what was exported as a new version, or find the version that it is already.

    Args:
        name: the registered model's.
        run_id: the run of the training; where the store does not know it, it gets one of its own.
        digest: SHA-256 of the exported files, which tells this model from every other.
        folders: what the version consists of: files and folders, by the name of the folder that they are kept under.
        tags: those that a new version gets.
        is_skipped: tells which files in the folders are not kept, since they are of no use on another machine.

    Raises:
        VoxflowError: the store can't be reached.
    """
    files = dict(pair for folder, path in folders.items() for pair in _list_files(folder, path, is_skipped))
    version: RegisteredVersion = query_store(lambda: _find_or_create_version(name, run_id, digest, files, tags))
    return version


def find_version(name: str, alias_or_number: str) -> RegisteredVersion | None:
    """The version that an alias (``champion``) or a number means; None where there is none.

    Raises:
        VoxflowError: the store can't be reached.
    """
    version: RegisteredVersion | None = query_store(lambda: _find_version(name, alias_or_number))
    return version


def tag_version(version: RegisteredVersion, tags: Mapping[str, str]) -> None:
    """Write facts on a version.

    Raises:
        VoxflowError: the store can't be reached.
    """
    query_store(lambda: [_client().set_model_version_tag(version.name, version.number, *pair) for pair in tags.items()])


def read_model_tag(name: str, key: str) -> str:
    """Read a tag of a registered model, all versions together.

    Returns:
        The tag's value; empty where the model or the tag is not there.

    Raises:
        VoxflowError: the store can't be reached.
    """
    value = query_store(lambda: _client().get_registered_model(name).tags.get(key, "") if _is_registered(name) else "")
    return str(value)


def tag_model(name: str, key: str, value: str) -> None:
    """Write a tag of a registered model, all versions together.

    Raises:
        VoxflowError: the store can't be reached.
    """
    query_store(lambda: _client().set_registered_model_tag(name, key, value))


def set_alias(version: RegisteredVersion, alias: str) -> None:
    """Let an alias mean this version, and no other one.

    Args:
        version: the version that gets it.
        alias: such as "champion"; it leaves the version that it stood on.

    Raises:
        VoxflowError: the store can't be reached.
    """
    query_store(lambda: _client().set_registered_model_alias(version.name, alias, version.number))


def remove_alias(name: str, alias: str) -> None:
    """Take an alias away, whichever version it stands on.

    Raises:
        VoxflowError: the store can't be reached.
    """
    query_store(lambda: _client().delete_registered_model_alias(name, alias))


def attach_file(version: RegisteredVersion, path: Path, folder: str) -> None:
    """Keep one more file with a version.

    Args:
        version: one that :func:`register_version` made.
        path: the file, which keeps its name.
        folder: of the version's files, such as "decision".

    Raises:
        VoxflowError: the store can't be reached.
    """
    place = f"{version.tags[_FILES]}/{folder}"
    query_store(lambda: _client().log_artifact(version.run_id, str(path), place))


def attach_calibration(version: RegisteredVersion, path: Path) -> None:
    """Keep the calibration of a version's model with it; :func:`materialise_champion` puts it beside the model.

    Args:
        version: one that :func:`register_version` made.
        path: trust.json; a later one takes the place of the first.

    Raises:
        VoxflowError: the store can't be reached.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if version.tags.get(_CALIBRATION) != digest and version.tags.get(_FILES):
        attach_file(version, path, CALIBRATION_FOLDER)
        tag_version(version, {_CALIBRATION: digest})


def fetch_folder(version: RegisteredVersion, part: str, target: Path) -> Path:
    """Bring one of a version's folders here.

    Args:
        version: one that :func:`register_version` made.
        part: the folder's name.
        target: made whole or not at all; what is there is replaced.

    Raises:
        DataError: the version does not have it.
        VoxflowError: the store can't be reached.
    """
    with atomic_directory(target) as out:
        query_store(lambda: _download_folder(version, part, out))
    return target


def materialise_champion(name: str, target: Path, alias: str = CHAMPION) -> RegisteredVersion:
    """Bring the exported files of a workspace's champion here, for ``voxflow.engines.open_engine``.

    Its calibration, trust.json, comes with them where there is one. Nothing is fetched where ``target`` holds this
    version already, so that a flow may ask each time.

    Args:
        name: the workspace.
        target: a folder; made whole or not at all.
        alias: or another alias, or a version's number.

    Raises:
        DataError: no version is called so, or it was not registered with its exported files.
        VoxflowError: the store can't be reached.
    """
    version = find_version(name, alias)
    if version is None:
        raise DataError(f"no version of {name} is called {alias!r}; `voxflow promote {name}` chooses the champion")
    mark = {"model": name, "version": version.number, "sha256": version.tags.get(_DIGEST, "")}
    calibration = version.tags.get(_CALIBRATION)
    if calibration:
        mark["trust_sha256"] = calibration
    if read_json_or_none(target / MARK) == mark:
        return version
    with atomic_directory(target) as out:
        query_store(lambda: _download_folder(version, "export", out))
        if calibration:
            query_store(lambda: _download_folder(version, CALIBRATION_FOLDER, out))
        write_json(out / MARK, mark)
    return version


def describe_model(folder: Path) -> str:
    """Name the model in a folder for records.

    Returns:
        ``NAME/VERSION`` where :func:`materialise_champion` put it there, else the folder's path.
    """
    mark = read_json_or_none(folder / MARK)
    return f"{mark['model']}/{mark['version']}" if isinstance(mark, dict) and "version" in mark else str(folder)


def _find_or_create_version(
    name: str, run_id: str, digest: str, files: Mapping[Path, str], tags: Mapping[str, str]
) -> RegisteredVersion:
    from mlflow.exceptions import MlflowException

    client = _client()
    if not _is_registered(name):
        try:
            client.create_registered_model(name)
        except MlflowException:
            if not _is_registered(name):  # another process may have made it in between
                raise
    for version in client.search_model_versions(f"name='{name}'"):
        if version.tags.get(_DIGEST) == digest:
            return _to_version(version)
    if not has_run(run_id):
        run_id = client.create_run(get_experiment_id(name), run_name="registered model").info.run_id
        client.set_terminated(run_id)
    place = f"{FOLDER}/{digest[:12]}"
    for file, folder in files.items():
        client.log_artifact(run_id, str(file), f"{place}/{folder}")
    model_id = _find_logged_model(client, run_id)
    source = f"models:/{model_id}" if model_id else f"{client.get_run(run_id).info.artifact_uri}/{place}/export"
    version_tags = {**tags, _DIGEST: digest, _FILES: place}
    return _to_version(client.create_model_version(name, source, run_id, tags=version_tags, model_id=model_id or None))


def _list_files(folder: str, path: Path, is_skipped: Callable[[Path], bool]) -> Iterator[tuple[Path, str]]:
    """Each file at or below a path, and the folder that it is kept under."""
    if path.is_file():
        yield path, folder
        return
    for file in sorted(file for file in path.rglob("*") if file.is_file() and not is_skipped(file)):
        inside = file.parent.relative_to(path).as_posix()
        yield file, folder if inside == "." else f"{folder}/{inside}"


def _find_logged_model(client: Any, run_id: str) -> str:
    """The model that export kept, which has a signature and can be served; empty where there is none."""
    experiment = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    return str(max(models, key=lambda model: model.creation_timestamp).model_id) if models else ""


def _find_version(name: str, alias_or_number: str) -> RegisteredVersion | None:
    from mlflow.exceptions import MlflowException

    client = _client()
    try:
        if alias_or_number.isdigit():
            return _to_version(client.get_model_version(name, alias_or_number))
        return _to_version(client.get_model_version_by_alias(name, alias_or_number))
    except MlflowException as error:
        # An alias that is not there is an "invalid parameter", a model or a number "does not exist".
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _is_registered(name: str) -> bool:
    return bool(_client().search_registered_models(f"name='{name}'", max_results=1))


def _download_folder(version: RegisteredVersion, part: str, out: Path) -> None:
    place = version.tags.get(_FILES)
    if not place or not download_artifacts(version.run_id, f"{place}/{part}", out):
        raise DataError(f"version {version.number} of {version.name} was registered without {part}/")


def _to_version(entity: Any) -> RegisteredVersion:
    return RegisteredVersion(str(entity.name), str(entity.version), str(entity.run_id or ""), dict(entity.tags))


def _client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient()
