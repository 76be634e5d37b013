"""Make masks for the fetched studies and send their DICOM SEG back: ``python -m tasks.ops.answer WORKSPACE``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from tasks.common.stage import Stage, run_guarded, stage_parser
from tasks.ops.incoming import Incoming, read_settings
from voxflow.dicom import ConvertOptions
from voxflow.engines import open_engine
from voxflow.errors import EXIT_FAILURE, EXIT_OK, EXIT_SOME_FAILED
from voxflow.inference import InferOptions, join_worklists, open_reviewer
from voxflow.locks import hold_workspace
from voxflow.pacs import AnswerContext, Ledger, answer_new_series, open_archive
from voxflow.places import load_params
from voxflow.progress import say
from voxflow.tracking import describe_model


def run(stage: Stage, model: str | None = None, send: bool = True) -> int:
    """Make masks for every series of the inbox that has no answer yet, and send them back.

    Args:
        stage: the workspace.
        model: a model file or a folder of exported models; None: the workspace's own, or the one that ``answer`` names.
        send: masks go to the PACS that params.yaml names; otherwise they are kept.

    Returns:
        3 when some series could not be answered, 1 when none was sent.
    """
    incoming = Incoming.of(stage)
    back_to = incoming.back_to if send else None
    settings = read_settings(back_to) if back_to else None
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(Ledger.of(stage.workspace))
        if not ledger.list_waiting():
            say(f"answer {stage.workspace}: nothing new")
            return EXIT_OK
        infer = stage.options_of("infer", InferOptions)
        path = Path(model or incoming.answer.model or stage.models / "export")
        engine = open_engine(path, infer.engine, infer.device)
        desk = AnswerContext(
            engine=engine,
            model=describe_model(path),
            inbox=incoming.inbox,
            out=incoming.out,
            convert=stage.options_of("convert", ConvertOptions),
            infer=infer,
            archive=stack.enter_context(open_archive(back_to, settings)) if back_to and settings else None,
            channels_wait_s=incoming.answer.channels_wait_s,
            reviewer=open_reviewer(engine, [path], infer),
        )
        answers = answer_new_series(desk, ledger)
    if desk.reviewer and answers.answered:
        count = join_worklists(incoming.out, desk.reviewer)
        say(f"answer {stage.workspace}: {count} case(s) to review in all → {incoming.out / 'review.html'}")
    destination = f"sent {len(answers.sent)} to {back_to}" if back_to else f"kept in {incoming.out}"
    bad = f", {len(answers.refused)} can't be used" if answers.refused else ""
    bad += f", {len(answers.failed)} not sent (tried again next time)" if answers.failed else ""
    bad += f", {len(answers.waiting)} wait for a channel" if answers.waiting else ""
    unit = "studies" if desk.engine.spec.has_several_images else "series"
    say(f"answer {stage.workspace}: masks for {len(answers.answered)} {unit} by {desk.model}, {destination}{bad}")
    if answers.failed and not answers.sent:
        return EXIT_FAILURE
    return EXIT_SOME_FAILED if answers.refused or answers.failed else EXIT_OK


def program() -> int:
    """Run this program with its two flags beside those of every stage."""
    parser = stage_parser("answer")
    parser.add_argument("--model", help="a model file or a folder of exported models (default: the workspace's)")
    parser.add_argument("--keep", action="store_true", help="do not send the DICOM SEG to the PACS")
    arguments = parser.parse_args()
    workspace = arguments.workspace

    def work() -> int:
        stage = Stage(workspace, "answer", load_params("workspaces", workspace))
        with hold_workspace(f"{workspace}.infer", "answer", say):
            return run(stage, arguments.model, not arguments.keep)

    return run_guarded(f"answer {workspace}", work, arguments.debug)


if __name__ == "__main__":
    sys.exit(program())
