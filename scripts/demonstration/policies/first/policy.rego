# The first policy of the demonstration. Whatever no rule allows is denied.
package picket.authz

default allow := false

# The web front end reads invoices.
allow if {
	input.caller.path == "/web"
	input.target.path == "/invoices"
	input.request.method == "GET"
	input.request.parsed_path[0] == "invoices"
}

# The reporting job talks to the database.
allow if {
	input.caller.path == "/reports"
	input.target.path == "/database"
	input.request.protocol == "tcp"
}
