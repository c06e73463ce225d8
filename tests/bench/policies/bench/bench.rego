# What haproxy's rule in the same tables says: everything but /admin, and only to the caller that is known.
package picket.authz

default allow := false

allow if {
	input.caller.path == "/load"
	input.request.protocol == "tcp"
}

allow if {
	input.caller.path == "/load"
	input.request.protocol == "http"
	not startswith(input.request.path, "/admin")
}
