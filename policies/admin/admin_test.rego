package picket.admin_test

import data.picket.admin

decide(roles, action) if {
	admin.allow with input as {"operator": {"name": "o", "spiffe_id": "", "roles": roles}, "action": action}
}

test_admin_may_do_everything if {
	decide(["admin"], "operator.create")
	decide(["auditor", "admin"], "policy.publish")
}

test_nobody_without_a_role_may_do_anything if {
	not decide([], "entry.list")
	not decide(["stranger"], "entry.list")
}

test_policy_author_publishes_but_registers_nothing if {
	decide(["policy-author"], "policy.publish")
	decide(["policy-author"], "entry.list")
	not decide(["policy-author"], "entry.create")
	not decide(["policy-author"], "operator.create")
	not decide(["policy-author"], "quarantine.lift")
	decide(["policy-author"], "enforcement.set")
	decide(["policy-author"], "enforcement.clear")
}

test_registrar_registers_but_publishes_nothing if {
	decide(["registrar"], "entry.create")
	decide(["registrar"], "token.create")
	decide(["registrar"], "node.ban")
	decide(["registrar"], "node-address.confirm")
	decide(["registrar"], "tpm-host.decide")
	decide(["registrar"], "quarantine.add")
	decide(["registrar"], "quarantine.lift")
	not decide(["registrar"], "policy.publish")
	not decide(["registrar"], "enforcement.set")
	not decide(["registrar"], "operator.revoke")
}

test_auditor_reads_and_changes_nothing if {
	decide(["auditor"], "audit.read")
	decide(["auditor"], "workload.read")
	decide(["auditor"], "policy.evaluate")
	decide(["auditor"], "quarantine.list")
	decide(["auditor"], "enforcement.read")
	every action in ["entry.create", "policy.publish", "token.create", "node.evict", "backup.create", "quarantine.lift", "enforcement.set"] {
		not decide(["auditor"], action)
	}
}

test_two_roles_add_up if {
	decide(["auditor", "registrar"], "entry.delete")
}

test_an_action_of_three_parts_is_nobodys_but_the_admins if {
	not decide(["registrar"], "entry.create.all")
	decide(["admin"], "entry.create.all")
}
