package picket.authz_test

import data.picket.authz

read_invoices := {
	"caller": {"path": "/web"},
	"target": {"path": "/invoices"},
	"request": {"protocol": "http", "method": "GET", "path": "/invoices/7", "parsed_path": ["invoices", "7"]},
}

test_web_reads_invoices if authz.allow with input as read_invoices

test_web_writes_no_invoices if {
	not authz.allow with input as object.union(read_invoices, {"request": {"method": "POST"}})
}

test_web_reads_nothing_else if {
	not authz.allow with input as object.union(read_invoices, {"request": {"parsed_path": ["refunds"]}})

	# Some servers take the first for /invoices, and the second for /refunds.
	not authz.allow with input as object.union(read_invoices, {"request": {"parsed_path": ["invoices;x"]}})
	not authz.allow with input as object.union(read_invoices, {"request": {"parsed_path": [";invoices", "refunds"]}})
}

test_nobody_else_reads_invoices if {
	not authz.allow with input as object.union(read_invoices, {"caller": {"path": "/reports"}})
	not authz.allow with input as object.remove(read_invoices, ["caller"])
}

test_reports_connects_to_the_database if {
	authz.allow with input as {
		"caller": {"path": "/reports"},
		"target": {"path": "/database"},
		"request": {"protocol": "tcp"},
	}
}

test_web_does_not_connect_to_the_database if {
	not authz.allow with input as {
		"caller": {"path": "/web"},
		"target": {"path": "/database"},
		"request": {"protocol": "tcp"},
	}
}
