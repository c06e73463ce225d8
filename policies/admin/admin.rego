# What operators may do. Every operator's certificate names them; their roles stand in the server's records.
# An action is noun.verb. Rules for roles name verbs and nouns, so that a new action is closed to all but admins until it is named here.
package picket.admin

default allow := false

allow if "admin" in input.operator.roles

allow if {
	some role in input.operator.roles
	some pattern in permissions[role]
	glob.match(pattern, ["."], input.action)
}

readers := {"*.list", "*.read", "*.show"}

permissions := {
	"policy-author": (readers | {"policy.publish", "policy.rollback", "policy.evaluate", "enforcement.*"}),
	"registrar": (readers | {"entry.*", "token.*", "node.*", "node-address.*", "tpm-host.*", "quarantine.*"}),
	"auditor": (readers | {"policy.evaluate"}),
}
