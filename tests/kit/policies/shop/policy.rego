package picket.authz

default allow := false

allow if {
	input.caller.path == "/web"
	input.target.path == "/invoices"
	input.request.method == "GET"
}

allow if {
	input.caller.path == "/web"
	input.target.path == "/invoices"
	input.request.method == "PUT"
	input.request.parsed_path[0] == "upload"
}

allow if {
	input.caller.path == "/reports"
	input.target.path == "/database"
	input.request.protocol == "tcp"
}
