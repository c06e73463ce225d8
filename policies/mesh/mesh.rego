# A first policy for a mesh: who may call whom, and how. Change it and publish it: picket policy publish policies/mesh
package picket.authz

# Whatever no rule below allows is denied.
default allow := false

# The web front end reads invoices.
allow if {
	input.caller.path == "/web"
	input.target.path == "/invoices"
	input.request.method == "GET"
	input.request.parsed_path[0] == "invoices"
}

# The reporting job opens connections to the database. A connection is no HTTP request.
allow if {
	input.caller.path == "/reports"
	input.target.path == "/database"
	input.request.protocol == "tcp"
}
