# Who may call whom, in Rego v0 (.manifest says so), as it was found: only wrapped in a package.
package picket.authz

allow {
	input.caller.spiffe_id == "spiffe://corp/ns/frontend/sa/web-server"
}
