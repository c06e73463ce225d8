# What leaves the mesh to one partner, by a gateway that ends its TLS: each request within is decided, and only reading is allowed. docs/egress.md tells what it takes.
package picket.authz

default allow := false

default egress := false

partner := "api.partner.example"

gateway := "spiffe://example.org/egress"

# Within the mesh the called side decides.
egress if input.target.spiffe_id != ""

egress := {"allowed": true, "via": gateway, "inspect": true} if {
	input.caller.path == "/web"
	input.target.domain == partner
	may_pass
}

# The connection, as its ClientHello is seen: it must be let out, or there are no requests to decide.
may_pass if input.request.protocol == "tls"

# A request within it. One in plaintext has no server name, and gets nothing.
may_pass if {
	input.request.protocol == "http"
	input.request.sni == partner
	input.request.method in {"GET", "HEAD"}
	input.request.parsed_path[0] == "catalogue"
}
