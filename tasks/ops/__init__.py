"""Programs beside the stages: ``python -m tasks.ops.NAME``. Flows start them, operators type them, no stage needs them.

Studies come in and masks go back (ingest, answer, champion, monitor); data and databases are carried and kept (carry,
backup); servers run on this machine (serve); stages are run and watched for flows (graph, repro, child, leash, links).
"""
