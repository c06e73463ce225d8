package picket.authz

default allow := false

default egress := false

allow if {
	input.caller.path == "/web"
	input.target.path == "/invoices"
	input.request.method == "GET"
}

allow if {
	input.caller.path == "/reports"
	input.target.path == "/database"
}

# Within the mesh the called side decides.
egress if input.target.spiffe_id != ""

egress if {
	input.caller.path == "/web"
	input.target.domain == "api.partner.test"
	input.request.protocol == "tls"
}

egress if {
	input.caller.path == "/web"
	input.target.domain == "mirror.partner.test"
	input.request.method == "GET"
}

egress if {
	input.caller.path == "/reports"
	input.target.port == 2222
}
