# Small rules for SPIFFE IDs. Copy the file into your own bundle and import data.picket.lib.spiffe.
package picket.lib.spiffe

# in_path("spiffe://example.org/ns/billing/sa/web", "/ns/billing") holds, and does not for "/ns/bill".
in_path(id, prefix) if path(id) == prefix

in_path(id, prefix) if startswith(path(id), concat("", [prefix, "/"]))

# The path of an ID, with its leading slash; empty for the ID of a trust domain.
path(id) := trim_prefix(id, concat("", ["spiffe://", trust_domain(id)]))

trust_domain(id) := split(trim_prefix(id, "spiffe://"), "/")[0] if startswith(id, "spiffe://")
