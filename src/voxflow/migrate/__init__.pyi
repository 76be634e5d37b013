from .report import MigrationEntry as MigrationEntry
from .report import MigrationReport as MigrationReport
from .report import Verdict as Verdict
from .write import Migration as Migration
from .write import migrate_to_bundle as migrate_to_bundle
