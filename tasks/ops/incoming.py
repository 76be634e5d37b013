"""What the programs for incoming studies share: their folders, and the archive that params.yaml names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.corrections import OwnResult, list_results
from voxflow.errors import ConfigError
from voxflow.pacs import AnswerOptions, IngestOptions, parse_settings
from voxflow.places import PARAMS, read_params

if TYPE_CHECKING:
    from tasks.common.stage import Stage
    from voxflow.pacs import PacsSettings


@dataclass(frozen=True)
class Incoming:
    """The keys ``ingest`` and ``answer`` of a workspace.

    Attributes:
        ingest, answer: what they say.
        inbox: where series land.
        out: where answers are kept.
    """

    ingest: IngestOptions
    answer: AnswerOptions
    inbox: Path
    out: Path

    @classmethod
    def of(cls, stage: Stage) -> Incoming:
        """Read them.

        Raises:
            ConfigError: there is no ``ingest``, or values are wrong.
        """
        json_path = f"workspaces.{stage.workspace}.ingest"
        if not stage.block.get("ingest"):
            raise ConfigError("nothing says where studies come from", path=PARAMS, where=json_path)
        ingest, answer = stage.options_of("ingest", IngestOptions), stage.options_of("answer", AnswerOptions)
        inbox = ingest.into or Path("data/inbox") / stage.workspace
        return cls(ingest, answer, inbox, answer.out or Path("data/answers") / stage.workspace)

    @property
    def back_to(self) -> str | None:
        """The PACS that masks are sent to; None: they stay here."""
        return (self.answer.pacs or self.ingest.pacs) if self.answer.send else None


def list_own_results(stage: Stage) -> tuple[list[OwnResult], Path]:
    """List the masks that a workspace has made, of which people may send corrections.

    Returns:
        The masks, and the inbox that incoming series land in.
    """
    ingest = stage.options_of("ingest", IngestOptions) if stage.block.get("ingest") else None
    inbox = (ingest and ingest.into) or Path("data/inbox") / stage.workspace
    answers = stage.options_of("answer", AnswerOptions).out or Path("data/answers") / stage.workspace
    return list_results(stage, answers, inbox), inbox


def read_settings(name: str) -> PacsSettings:
    """Read one archive of params.yaml.

    Args:
        name: its key below ``pacs``.

    Raises:
        ConfigError: there is no such entry, or values of it are wrong.
    """
    return parse_settings(read_params().get("pacs"), name)
