"""Says of a software bill of materials what CycloneDX's own JSON schema has against it; nothing if it is valid.

    python3 validate_sbom.py FILE
"""

import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = Path(sys.argv[1]).read_text()
version = SchemaVersion.from_version(json.loads(text)["specVersion"])
wrong = JsonStrictValidator(version).validate_str(text)
if wrong:
    sys.exit(f"{wrong}")
