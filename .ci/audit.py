"""Say what pip-audit found, from its JSON on stdin; `make audit` runs it.

Exit status: 0 if every dependency was looked up and none has a known vulnerability, 1 if one has,
2 if some could not be looked up: that nothing was found says nothing then.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Print a line for each vulnerability and one for all."""
    try:
        dependencies = json.load(sys.stdin)["dependencies"]
        unknown = [d["name"] for d in dependencies if "skip_reason" in d]
        found = [(d, v) for d in dependencies for v in d.get("vulns", [])]
    except (ValueError, LookupError, TypeError, AttributeError):
        print("audit: no report: is the advisory source reachable? Try ADVISORIES=osv or pypi")
        return 2
    for dependency, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        name = f"{dependency['name']} {dependency['version']}"
        print(f"{name}: {vulnerability['id']}, mended in {fixed}")
    looked_up = len(dependencies) - len(unknown)
    print(
        f"audit: {looked_up} of {len(dependencies)} pinned dependencies looked up, "
        f"{len(found)} known vulnerabilities"
    )
    if unknown or not dependencies:
        print(f"audit: the source knows nothing of {', '.join(unknown[:5]) or 'any'} ...")
    return 1 if found else 2 if unknown or not dependencies else 0


if __name__ == "__main__":
    sys.exit(main())
