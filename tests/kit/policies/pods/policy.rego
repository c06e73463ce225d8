package picket.authz

default allow := false

allow if {
	input.caller.path == "/front"
	input.target.path in {"/back", "/invoices"}
	input.request.method == "GET"
}

allow if {
	input.caller.path == "/remote"
	input.target.path == "/back"
	input.request.method == "GET"
}
