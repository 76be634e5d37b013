from .report import Entry as Entry
from .report import Report as Report
from .report import Verdict as Verdict
from .write import Migration as Migration
from .write import to_bundle as to_bundle
