"""Lets several processes train one network: who writes, what all must agree on, and what to do when one is lost."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError, TrainingError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Signal(IntEnum):
    """What the processes tell each other after a step, ordered by urgency: the highest wins.

    Attributes:
        GO: take the next step.
        SAVE: write state.pt first.
        TIME_UP: the time budget is spent; validate and end.
        INTERRUPTED: a person or the system ended the run; leave a state to continue from.
    """

    GO = 0
    SAVE = 1
    TIME_UP = 2
    INTERRUPTED = 3


# How gloo and NCCL name a partner that is gone or silent; both raise a plain RuntimeError.
_LOST = ("gloo", "nccl", "connection", "timed out", "timeout", "peer", "socket")


def count_processes() -> int:
    """How many processes train together: ``WORLD_SIZE`` as torchrun (or Slurm, by the same variables) sets it.

    Returns:
        1 where no ``RANK`` is set: this process then is alone, whatever ``WORLD_SIZE`` says.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_first_process() -> bool:
    """Whether this process is the one that writes: models, curves, the record of the run."""
    return int(os.environ.get("RANK", "0")) == 0


def count_local_processes() -> int:
    """How many processes of this training run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count_processes()))


@dataclass(frozen=True)
class World:
    """The processes of one training.

    Attributes:
        rank: this one's number.
        size: how many there are.
        group: a gloo group for plain values, so that agreeing never waits for a GPU; None for one process.
    """

    rank: int = 0
    size: int = 1
    group: Any = field(default=None, repr=False)

    @classmethod
    def open(cls, fabric: Any, timeout_minutes: float) -> World:
        """Join the processes that fabric has launched.

        Args:
            fabric: a launched ``lightning_fabric.Fabric``.
            timeout_minutes: how long one process waits for the others before it gives up.
        """
        if fabric.world_size == 1:
            return cls()
        import torch

        group = torch.distributed.new_group(backend="gloo", timeout=timedelta(minutes=timeout_minutes))
        return cls(fabric.global_rank, fabric.world_size, group)

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def is_first_on_machine(self) -> bool:
        """Whether this process looks after what the processes of its machine share."""
        return self.size == 1 or int(os.environ.get("LOCAL_RANK", "0")) == 0

    def require_same(self, identity: Mapping[str, str]) -> None:
        """Let no process train on something else: machines have copies of their own of configuration and data.

        Args:
            identity: a digest for each part of what decides the result.

        Raises:
            ConfigError: at every process, where any has another one than the first.
        """
        first, *identities = self.gather(dict(identity))
        for number, identity_of_process in enumerate(identities, 1):
            parts = [part for part, value in first.items() if identity_of_process[part] != value]
            if parts:
                raise ConfigError(
                    f"process {number} of this training has other {' and '.join(parts)} than the first; bring its "
                    "machine to the same commit and the same data (git pull, dvc pull)"
                )

    def say(self, line: str) -> None:
        """Write one line for a person, once for all processes."""
        if self.is_first:
            say(line)

    def agree(self, value: Signal) -> Signal:
        """Return the most urgent of the signals that the processes give; every process gets the same one.

        Without it one process would end at its deadline while another waits for it in the next step.
        """
        if self.size == 1:
            return value
        import torch

        highest = torch.tensor([int(value)])
        torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX, group=self.group)
        return Signal(int(highest))

    def gather(self, value: Any) -> list[Any]:
        """Collect one plain value of each process.

        Args:
            value: this process's; anything that pickle takes. None serves as a barrier.

        Returns:
            All values in order of rank, the same at every process.
        """
        if self.size == 1:
            return [value]
        import torch

        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value, group=self.group)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the first process's value at every process; what the others pass is dropped."""
        if self.size == 1:
            return value
        import torch

        holder = [value]
        torch.distributed.broadcast_object_list(holder, src=0, group=self.group)
        return holder[0]

    @contextlib.contextmanager
    def watch_partners(self) -> Iterator[None]:
        """Turn the failure of a partner into one clear error, and leave the group at the end.

        Raises:
            TrainingError: another process has died or has not answered in time.
        """
        try:
            yield
        except RuntimeError as error:
            text = str(error)
            if self.size == 1 or not any(word in text.lower() for word in _LOST):
                raise
            raise TrainingError(
                f"process {self.rank} of {self.size}: another process of this training has ended or does not answer "
                f"({text.splitlines()[0][:200]}); the same command goes on from the last state.pt"
            ) from error
        # Not after an error: leaving the group could wait for the process that is lost.
        if self.size > 1:
            import torch

            torch.distributed.destroy_process_group()
