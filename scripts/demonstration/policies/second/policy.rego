# The second policy of the demonstration: the web front end may now make refunds, too.
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

# The web front end makes refunds.
allow if {
	input.caller.path == "/web"
	input.target.path == "/invoices"
	input.request.method == "POST"
	input.request.parsed_path[0] == "refunds"
}
