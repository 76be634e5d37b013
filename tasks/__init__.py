"""One short program a stage: ``python -m tasks.STAGE WORKSPACE``. No scheduler is imported here."""
