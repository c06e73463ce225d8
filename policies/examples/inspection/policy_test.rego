package picket.authz_test

import data.picket.authz

inspected := {"allowed": true, "via": "spiffe://example.org/egress", "inspect": true}

asked(path, request) := {
	"caller": {"path": path},
	"target": {"spiffe_id": "", "domain": "api.partner.example"},
	"request": object.union({"protocol": "http", "sni": "api.partner.example", "method": "", "parsed_path": []}, request),
}

test_a_connection_is_let_out_inspected if {
	authz.egress == inspected with input as asked("/web", {"protocol": "tls"})
}

test_reading_the_catalogue_is_allowed if {
	authz.egress == inspected with input as asked("/web", {"method": "GET", "parsed_path": ["catalogue", "7"]})
}

test_writing_and_other_paths_are_not if {
	authz.egress == false with input as asked("/web", {"method": "POST", "parsed_path": ["catalogue"]})
	authz.egress == false with input as asked("/web", {"method": "GET", "parsed_path": ["accounts"]})
}

test_plaintext_is_not if {
	authz.egress == false with input as asked("/web", {"method": "GET", "parsed_path": ["catalogue"], "sni": ""})
}

test_nobody_else_gets_out if {
	authz.egress == false with input as asked("/reports", {"protocol": "tls"})
}
