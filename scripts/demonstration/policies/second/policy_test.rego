# The server runs these before it takes the policy.
package picket.authz_test

import data.picket.authz

decide(caller, method, path) if {
	authz.allow with input as {
		"caller": {"path": caller},
		"target": {"path": "/invoices"},
		"request": {"method": method, "protocol": "http", "parsed_path": path},
	}
}

test_web_makes_refunds if decide("/web", "POST", ["refunds"])

test_nobody_else_makes_refunds if not decide("/reports", "POST", ["refunds"])

test_web_deletes_nothing if not decide("/web", "DELETE", ["invoices"])
