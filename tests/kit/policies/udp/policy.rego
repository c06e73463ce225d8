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
	input.request.protocol == "udp"
	input.target.port == 9000
}
