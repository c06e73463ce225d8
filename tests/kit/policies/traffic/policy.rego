package picket.authz

default allow := false

# Every service that is not /web is open as a connection, whatever it speaks.
allow if {
	input.caller.path == "/caller"
	input.request.protocol == "tcp"
	input.target.path != "/web"
}

allow if {
	input.caller.path == "/caller"
	input.request.protocol == "http"
	input.request.parsed_path[0] != "refused"
}
